"""Every contrastive chapter, also of earth observation, at its smallest, in all variants, for their tests."""

import importlib
from functools import cache
from typing import Any

import numpy as np
import pytest

from minissl import augment, backend, nn, random
from minissl.data import DataSet, scenes
from minissl.optim import Optimizer
from minissl.tensor import Tensor
from reference import captions, contrast, pictures
from reference.earth.sar_optical import joined
from reference.method import Inputs, build
from reference.trainer import make_optimizer

N, D = 8, 8  # images of a batch, numbers of an embedding
TINY: dict[str, Any] = {"image_size": 16, "width": 4, "batch_size": N, "workers": 0}
HEAD: dict[str, Any] = {"embedding": D}
QUEUE: dict[str, Any] = HEAD | {"queue": 12, "sub_batches": 2}
CLIP: dict[str, Any] = HEAD | {"text_width": 8, "text_depth": 1}
MADE: dict[str, Any] = HEAD | {"scenes": 30, "candidates": 2, "search_epochs": 1, "gan_epochs": 1}
CASES: dict[str, dict[str, Any]] = {  # the chapter's module, and what tells its variants apart
    "byol": HEAD | {"hidden": 32, "momentum": 0.9},
    "clip": CLIP,
    "clip s1": CLIP | {"other": "s1"},
    "cmc": HEAD,
    "cmc spectral": HEAD | {"views": "spectral"},
    "cpc": {},
    "instance_discrimination": HEAD | {"noise": 5},
    "instance_discrimination exact": HEAD | {"exact": True},
    "moco 1": QUEUE | {"version": 1},
    "moco 2": QUEUE | {"version": 2},
    "moco 3": HEAD | {"version": 3, "features": 16, "depth": 2, "heads": 2, "hidden": 16, "patch": 4},
    "sar_optical": HEAD,
    "sar_optical early": HEAD | {"sees": "early"},
    "sar_optical s1": HEAD | {"sees": "s1"},
    "sar_optical s2 swin": HEAD | {"sees": "s2", "backbone": "swin", "swin_width": 3, "same_sensor_negatives": False},
    "seco": QUEUE,
    "seco temporal": QUEUE | {"keys": "temporal"},
    "negatives": HEAD | {"negatives": "true"},
    "positives": MADE | {"positives": "season"},
    "positives selfaugment": MADE | {"positives": "selfaugment", "scenes": 16},
    "positives generated": MADE | {"positives": "generated"},
    "simclr": HEAD,
    "simclr_v2": HEAD | {"student_width": 4, "labels": (), "distillation_epochs": 1, "fine_tune_epochs": 1},
    "supcon": HEAD,
    "swav": HEAD | {"prototypes": 8, "queue": 20, "queue_waits": 1, "small_crops": 2},
}


def find(module: str) -> type[contrast.Contrastive]:
    """The class of a chapter, as the command finds it, without reading all other chapters."""
    part = "earth" if module in ("seco", "sar_optical") else "contrastive"
    found = vars(importlib.import_module(f"reference.{part}.{module}"))
    classes = [value for value in found.values() if isinstance(value, type) and issubclass(value, contrast.Contrastive)]
    return next(each for each in classes if each.__module__ == found["__name__"])


@cache
def tiny_data(bands: Any = "rgb", count: int = 2 * N) -> DataSet:
    """Scenes of 16 pixels with all that a chapter may ask for: captions, noise for seasons and radar."""
    data, rng = scenes.generate(count, 16, bands=bands), np.random.default_rng(0)
    data.arrays["captions"] = captions.compose(data, "scenes", 0.5, 0)
    data.arrays["seasons"] = rng.integers(0, 256, (count, 4, 16, 16, 3), np.uint8)
    data.arrays["sar"] = rng.normal(-12, 6, (count, 16, 16, 2)).astype("float32")
    return data


@cache
def data_of(name: str) -> DataSet:
    """What a variant learns from."""
    data = tiny_data("s2" if "spectral" in name else "rgb")
    return joined(DataSet(data.arrays, data.classes)) if "sar_optical" in name else data


def noise_images(channels: int, count: int = N, size: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, channels), np.uint8)


def with_channels(data: DataSet, channels: int) -> DataSet:
    """The same with noise for images, of any number of channels."""
    noise = noise_images(channels, 3 * len(data)).reshape(len(data), 3, 16, 16, channels)
    return DataSet(data.arrays | {"images": noise[:, 0], "seasons": noise}, data.classes)


def make(name: str, data: DataSet | None = None, /, **settings: Any) -> Any:
    """A chapter in one of its variants, with tiny settings and on tiny data unless told otherwise."""
    chapter, data = find(name.split()[0]), data or data_of(name)
    inputs = Inputs(data.channels, *augment.channel_statistics(data["images"]), data.classes, len(data))
    return build(chapter, chapter.settings(**TINY | CASES[name] | settings), inputs)


def batch_of(data: DataSet | None = None, count: int = N) -> dict[str, np.ndarray]:
    """The first images, as the loader gives them."""
    return (data or tiny_data()).select(np.arange(count)).arrays | {"index": np.arange(count)}


def first_views(method: Any, data: DataSet | None = None, seed: int = 1) -> tuple[Any, ...]:
    """Of the first images, as many as a batch has."""
    data = data or data_of({5: "sar_optical", 13: "spectral"}.get(method.inputs.channels, ""))
    return method.views(batch_of(data, method.config.batch_size), random.seed(seed))


def double(views: tuple[Any, ...]) -> tuple[Any, ...]:
    """Views for a method in float64."""
    return tuple(view.astype("float64") if view.dtype.kind == "f" else view for view in views)


def step(
    method: Any, optimizer: Optimizer | None = None, seed: int = 1, data: DataSet | None = None
) -> dict[str, float]:
    """One update on the first images; without an optimizer that of the settings, at its first step."""
    views = first_views(method, data, seed)
    random.seed(seed, 1)  # of what the step itself draws
    return method.training_step(views, optimizer or make_optimizer(method, method.config))


def embeddings(count: int, seed: int = 0, dtype: str = "float32") -> list[Tensor]:
    """(N, D) of `count` views, as leaves of a graph."""
    numbers = np.random.default_rng(seed).normal(size=(count, N, D)).astype(dtype)
    return [Tensor(z, requires_grad=True) for z in numbers]


def weights(module: nn.Module) -> dict[str, np.ndarray]:
    """A copy on the host of every parameter and buffer."""
    return {name: backend.to_host(array).copy() for name, array in module.state_dict().items()}


def changed(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    """Names of the arrays whose bits differ."""
    assert before.keys() == after.keys()
    return {name for name in before if before[name].tobytes() != after[name].tobytes()}


def without_pictures(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note the names of the pictures that all contrastive chapters share, which take seconds, and draw none."""
    names: list[str] = []
    for name in ("similarities", "neighbours", "maps"):
        monkeypatch.setattr(pictures, name, lambda *_, name=name: names.append(name))
    return names
