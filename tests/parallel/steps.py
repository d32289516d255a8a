"""A program: some chapters take five steps in float64, and leave losses and weights in a file.

    mpiexec -n 2 python -m tests.parallel.steps OUT [--mutations]

Rank 0 writes OUT, with arrays "<case>/loss" and "<case>/<name of a weight>" for the `CASES`; with --mutations for some
of them with a bug each, "<bug>/loss" and so on, to see whether a comparison finds it.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from minissl import augment, backend, nn, parallel, random
from minissl.data import DataSet, scenes
from minissl.optim import Optimizer
from minissl.tensor import Tensor
from reference import captions, chapters, trainer
from reference.contrastive.moco import MoCo
from reference.method import Inputs, Method, build

N, STEPS = 16, 5
SMALL: dict[str, Any] = {"image_size": 16, "batch_size": N, "epochs": 1, "workers": 0, "learning_rate": 0.01}
RESNET = SMALL | {"width": 4, "embedding": 8}
MOCO = RESNET | {"queue": 48, "sub_batches": 4, "learning_rate": 0.001}
MAE = SMALL | {"width": 16, "depth": 1, "heads": 2, "decoder_width": 8, "patch": 4}
CASES: dict[str, dict[str, Any]] = {  # the chapter's module, and what tells its variants apart
    "simclr": RESNET,
    "cpc accumulate": SMALL | {"width": 4, "grid": 3, "first": 1, "last": 2, "accumulate": 2},  # no batch norm
    "moco 1": MOCO | {"version": 1},
    "moco 2": MOCO | {"version": 2},
    "moco 3": SMALL | {"version": 3, "embedding": 8, "features": 16, "depth": 1, "heads": 2, "hidden": 16, "patch": 4},
    "swav": RESNET | {"prototypes": 8, "queue": 20, "queue_waits": 1, "small_crops": 2},
    "mae": MAE,
    "seco": MOCO,
    "byol": RESNET | {"hidden": 16},
    "clip": RESNET | {"text_width": 8, "text_depth": 1},
    "supcon": RESNET,
    "instance_discrimination": RESNET | {"noise": 5},
}


def data() -> DataSet:
    """Scenes of 16 pixels, with captions and, for seasons, noise."""
    found, rng = scenes.generate(N * STEPS, 16), np.random.default_rng(0)
    found.arrays["seasons"] = rng.integers(0, 256, (len(found), 3, 16, 16, 3), np.uint8)
    found.arrays["captions"] = captions.compose(found, "scenes", 0.5, 0)
    return found


def method_of(case: str, found: DataSet) -> Method:
    """A chapter in float64; its views too, though augmentations work in float32."""
    chapter = chapters.find(case.split()[0])
    inputs = Inputs(3, *augment.channel_statistics(found["images"]), found.classes, len(found))
    method: Any = build(chapter, chapter.settings(**CASES[case]), inputs).astype("float64")
    start, views = method.start_epoch, method.views
    method.start_epoch = lambda epoch: start(epoch + (case == "swav"))  # in its first epoch prototypes stand still
    double = lambda view: view.astype("float64") if view.dtype.kind == "f" else view
    method.views = lambda batch, rng: tuple(map(double, views(batch, rng)))
    return method


def take_steps(case: str, found: DataSet) -> dict[str, np.ndarray]:
    """The losses of five steps, and the weights, queues and averages after them."""
    method: Any = method_of(case, found)
    losses, step = [], method.training_step

    def watched(views: tuple[Any, ...], optimizer: Optimizer) -> dict[str, float]:
        logged = step(views, optimizer)
        losses.append(trainer.agreed(logged, False)[0]["loss"])
        return logged

    method.training_step = watched
    method.end_epoch = lambda epoch, out: None
    with tempfile.TemporaryDirectory() as out:
        trainer.train(method, found, method.config, Path(out))
    assert len(losses) == STEPS
    return {"loss": np.array(losses)} | {name: backend.to_host(a) for name, a in method.state_dict().items()}


# What others got wrong: for each a chapter that must show it, and the function that is replaced.

gather, gather_rows, own_rows, mean = parallel.gather, parallel.MPI.all_gather, parallel.own_rows, parallel.mean
loader, synchronize = trainer.Loader, nn.synchronize
MUTATIONS: dict[str, tuple[str, Any, str, Any]] = {
    "the own gradient without the factor size": ("simclr", parallel, "own_gradient", lambda g: own_rows(g)),
    "the gradient of the row before the own": (
        *("simclr", parallel, "own_gradient"),
        lambda g: parallel.world().size * own_rows(np.roll(g, 1, axis=0)),
    ),
    "gradients added up, not averaged": (
        *("mae", parallel, "mean"),
        lambda arrays: [parallel.world().size * array for array in mean(arrays)],
    ),
    "gathered in another order on each rank, its own first": (
        *("simclr", parallel.MPI, "all_gather"),
        lambda world, array: np.roll(gather_rows(world, array), -world.rank * len(array), axis=0),
    ),
    "labels of the first rank's rows on all ranks": (
        *("supcon", parallel, "gather"),
        lambda z: gather(z) if z.requires_grad else Tensor(np.tile(parallel.world().broadcast(z.data), (2, 1))),
    ),
    "batch norm by a rank's own statistics": ("simclr", nn, "synchronize", lambda net, on: synchronize(net, False)),
    "each rank draws as if alone": ("mae", random, "rows", lambda images: random.generator()),
    "each rank takes the first part": (
        *("mae", trainer, "Loader"),
        lambda *arguments, part, **options: loader(*arguments, part=(0, part[1]), **options),
    ),
    "keys shuffled on each rank by itself": (
        *("moco 2", MoCo, "shuffled_keys"),
        lambda moco, x: moco.key(Tensor(x[::-1]))[::-1],
    ),
}


def main(out: Path, mutations: bool) -> None:
    world, found = parallel.start(), data()
    results: dict[str, dict[str, np.ndarray]] = {}
    if mutations:
        for bug, (case, owner, name, wrong) in MUTATIONS.items():
            with patch.object(owner, name, wrong):
                results[bug] = take_steps(case, found)
    else:
        results = {case: take_steps(case, found) for case in CASES}
    if world.rank == 0:
        np.savez(out, **{f"{case}/{name}": array for case, arrays in results.items() for name, array in arrays.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--mutations" in sys.argv)
