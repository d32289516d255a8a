"""The losses that are measured: all that take a batch of embeddings (N, D), with D as in the training steps.

A new loss is its line in LOSSES, and one named `losses.NAME` in `peers.OPS` where PyTorch's plain formula is a line or
two; its name is then in BESIDE_TORCH. Not here: `cross_sensor`, which is `nt_xent` or `clip`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.op_cases import CASES, OPS, Case, Input
from benchmarks.workloads import CLASSES, EMBEDDING, TEMPERATURE
from minissl import losses

D = EMBEDDING
NEGATIVES = 16  # of each anchor's own
ROWS = 4096  # of a queue, a bank, or drawn as noise
PROTOTYPES = 128
CHUNK = 512

Inputs = Callable[[int], tuple[Input, ...]]


def learned(count: int) -> Inputs:
    """`count` batches of embeddings (N, D)."""
    return lambda N: (Input((N, D)),) * count


def labelled(count: int, classes: int = CLASSES) -> Inputs:
    """The same, and a number of a class for each row."""
    return lambda N: (Input((N, D)),) * count + (Input((N,), learned=False, below=classes),)


def key(*shape: int) -> Input:
    return Input(shape, learned=False)


LOSSES: dict[str, tuple[Callable[..., Any], Inputs]] = {
    "contrastive": (losses.contrastive, labelled(2, classes=2)),
    "triplet": (losses.triplet, learned(3)),
    "lifted_structured": (losses.lifted_structured, labelled(1)),
    "n_pair": (losses.n_pair, lambda N: (Input((N, D)), Input((N, D)), Input((N, NEGATIVES, D)))),
    "n_pair_mc": (losses.n_pair_mc, learned(2)),
    "info_nce": (losses.info_nce, learned(2)),
    "info_nce_queue": (losses.info_nce, lambda N: (Input((N, D)), key(N, D), key(ROWS, D))),
    "nt_xent": (partial(losses.nt_xent, temperature=TEMPERATURE), learned(2)),
    "nt_xent_chunked": (partial(losses.nt_xent, temperature=TEMPERATURE, chunk=CHUNK), learned(2)),
    "soft_nearest_neighbor": (losses.soft_nearest_neighbor, labelled(1)),
    "sup_con": (partial(losses.sup_con, temperature=TEMPERATURE), labelled(1)),
    "instance_softmax": (
        losses.instance_softmax,
        lambda N: (Input((N, D)), key(ROWS, D), Input((N,), learned=False, below=ROWS)),
    ),
    "nce": (lambda p, noise: losses.nce(p, noise, ROWS, 0.0), lambda N: (Input((N,)), Input((N, ROWS)))),
    "byol": (losses.byol, lambda N: (Input((N, D)), key(N, D)) * 2),
    "swapped_prediction": (losses.swapped_prediction, lambda N: (Input((N, PROTOTYPES)),) * 2),
    "clip": (lambda a, b: losses.clip(a, b, 1 / TEMPERATURE), learned(2)),
    "cmc": (lambda *views: losses.cmc(views, TEMPERATURE), learned(3)),
    "debiased": (partial(losses.debiased, temperature=TEMPERATURE), learned(2)),
    "hard_negative": (partial(losses.hard_negative, temperature=TEMPERATURE), learned(2)),
    "distillation": (losses.distillation, lambda N: (Input((N, D)), key(N, D))),
}

BESIDE_TORCH = {
    "contrastive",
    "triplet",
    "n_pair",
    "n_pair_mc",
    "info_nce",
    "info_nce_queue",
    "nt_xent",
    "soft_nearest_neighbor",
    "instance_softmax",
    "byol",
    "clip",
    "distillation",
}


def case(name: str, N: int) -> Case:
    return Case(f"losses.{name}", LOSSES[name][1](N))


# All that a measured process can be asked for: ops, and losses by the same names with "losses." before them.
MEASURED: dict[str, Callable[[int], Case]] = CASES | {f"losses.{name}": partial(case, name) for name in LOSSES}
FUNCTIONS = OPS | {f"losses.{name}": function for name, (function, _) in LOSSES.items()}
