"""Five contrastive chapters at their smallest, for their tests: CPC, CLIP, SupCon, SimCLR v2, negatives."""

from typing import Any

import numpy as np
import pytest

from minissl import augment, backend, nn, random
from minissl.data import DataSet, scenes
from minissl.tensor import Tensor
from reference import captions, pictures
from reference.contrastive.clip import CLIP
from reference.contrastive.cpc import CPC
from reference.contrastive.negatives import Negatives
from reference.contrastive.simclr_v2 import SimCLRv2
from reference.contrastive.supcon import SupCon
from reference.method import Inputs, Method

N = 8
TINY: dict[type[Method], dict[str, Any]] = {
    CPC: {},
    CLIP: {"embedding": 8, "text_width": 8, "text_depth": 1},
    SupCon: {"embedding": 8},
    SimCLRv2: {"embedding": 8, "student_width": 4, "labels": (), "distillation_epochs": 1, "fine_tune_epochs": 1},
    Negatives: {"embedding": 8},
}
CASES: dict[str, tuple[type[Method], dict[str, Any]]] = {
    "cpc": (CPC, {}),
    "clip": (CLIP, {"other": "caption"}),
    "clip s1": (CLIP, {"other": "s1"}),
    "supcon": (SupCon, {}),
    "simclr_v2": (SimCLRv2, {}),
    "negatives": (Negatives, {"negatives": "true"}),
}


def small_data() -> DataSet:
    """Scenes with captions, and noise in the place of Sentinel-1."""
    found, rng = scenes.generate(2 * N, 16), np.random.default_rng(0)
    found.arrays["captions"] = captions.compose(found, "scenes", 0.5, 0)
    found.arrays["sar"] = rng.normal(-12, 6, (*found["images"].shape[:3], 2)).astype("float32")
    return found


def make(chapter: type[Method], data: DataSet, **settings: Any) -> Any:
    random.seed(0)
    given = {"image_size": 16, "batch_size": N, "width": 4, "workers": 0} | TINY[chapter] | settings
    inputs = Inputs(data.channels, *augment.channel_statistics(data["images"]), data.classes)
    return chapter(chapter.settings(**given), inputs)


def rows(data: DataSet, count: int = N) -> dict[str, np.ndarray]:
    return {key: array[:count] for key, array in data.arrays.items()}


def embedding(seed: int, count: int = N, features: int = 8) -> Tensor:
    return Tensor(np.random.default_rng(seed).normal(size=(count, features)))


def state(module: nn.Module) -> dict[str, bytes]:
    return {name: backend.to_host(array).tobytes() for name, array in module.state_dict().items()}


def without_pictures(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note the names of the pictures that all contrastive chapters share, which take seconds, and draw none."""
    names: list[str] = []
    for name in ("similarities", "neighbours", "maps"):
        monkeypatch.setattr(pictures, name, lambda *_, name=name: names.append(name))
    return names
