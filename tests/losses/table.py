"""Every loss, ways to call it, and what holds for all ways of the kind."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from minissl import losses
from minissl.tensor import Tensor
from tests.losses.drawing import seeds

Inputs = dict[str, np.ndarray]
SIZES = {"N": 4, "D": 3, "K": 5, "H": 2, "W": 3, "C": 2, "L": 3, "R": 4, "F": 6}


@dataclass(frozen=True)
class Call:
    """arrays: the arguments that are arrays and their axes, a letter each; a letter has one size in all of them. Before
    the axes "labels" stands for class numbers, "flags" for booleans, "shares" for positive numbers that sum to 1 over
    the last axis; the others are normal."""

    arrays: dict[str, str]
    options: dict[str, Any] = field(default_factory=dict)
    least: int = 1  # N below which it raises
    positive: tuple[str, ...] = ()  # options that have to be above 0
    constant: tuple[str, ...] = ()  # arrays that receive no gradient
    shows_nan: tuple[str, ...] = ()  # arrays whose NaN is no error, but the result is NaN
    inner: str = ""  # a loss within it, whose name its errors may bear instead


def views(least: int = 2, **options: Any) -> Call:
    return Call({"z1": "N D", "z2": "N D"}, options, least, ("temperature",))


def labelled(scale: str, **options: Any) -> Call:
    return Call({"z": "N D", "labels": "labels N"}, options, 2, (scale,))


TRIPLET = {"anchor": "N D", "positive": "N D", "negative": "N D"}
PAIR = {"a": "N D", "b": "N D", "same": "flags N"}
CMC = {"first": "N D", "second": "N D", "third": "N D"}
CALLS = {
    "binary_cross_entropy_with_logits": Call(
        {"logits": "N K", "target": "shares N K", "weight": "shares K", "positive_weight": "shares K"},
        constant=("target", "weight", "positive_weight"),
        shows_nan=("weight", "positive_weight"),
    ),
    "byol": Call({"p1": "N D", "z2": "N D", "p2": "N D", "z1": "N D"}, constant=("z1", "z2")),
    "capped_scale": Call({"parameter": ""}, shows_nan=("parameter",)),
    "clip": Call({"a": "N D", "b": "N D"}, {"logit_scale": 5.0}, 2, ("logit_scale",)),
    "cmc": Call(CMC, {}, 2, ("temperature",)),
    "cmc core": Call(CMC, {"graph": "core"}, 2, ("temperature",)),
    "colorization": Call(
        {"logits": "N H W K", "soft_targets": "shares N H W K", "class_weights": "shares K"},
        constant=("soft_targets", "class_weights"),
        shows_nan=("logits", "soft_targets", "class_weights"),
    ),
    "contrastive": Call(PAIR, {"margin": 5.0}, positive=("margin",)),
    "contrastive distance": Call(PAIR, {"margin": 5.0, "hinge": "distance"}, positive=("margin",)),
    "cross_entropy": Call({"logits": "N K", "target": "labels N"}, shows_nan=("logits",)),
    "cross_entropy soft": Call(
        {"logits": "N K", "target": "shares N K", "weight": "shares K"},
        {"label_smoothing": 0.1},
        constant=("target", "weight"),
        shows_nan=("logits", "target", "weight"),
    ),
    "cross_sensor": views(),
    "cross_sensor other": views(same_sensor_negatives=False),
    "debiased": views(),
    "consistency": Call(
        {"logits": "N K", "target_logits": "N K"},
        {"confidence": 0.3},
        positive=("temperature",),
        constant=("target_logits",),
    ),
    "distillation": Call({"student": "N K", "teacher": "N K"}, positive=("temperature",), constant=("teacher",)),
    "gan_discriminator": Call({"real": "R", "fake": "F"}),
    "gan_generator": Call({"fake": "F"}),
    "gan_generator saturating": Call({"fake": "F"}, {"saturating": True}),
    "gaussian_kl": Call({"mu": "N D", "log_var": "N D"}),
    "hard_negative": views(),
    "info_nce": Call({"query": "N D", "positive": "N D", "negatives": "K D"}, positive=("temperature",)),
    "info_nce own": Call({"query": "N D", "positive": "N D", "negatives": "N K D"}, positive=("temperature",)),
    "info_nce in batch": Call({"query": "N D", "positive": "N D"}, {}, 2, ("temperature",)),
    "inpainting": Call(
        {"prediction": "N H W C", "target": "N H W C", "mask": "shares N H W", "fake_logits": "F"},
        constant=("target", "mask"),
        shows_nan=("prediction", "target", "mask"),
        inner="gan_generator",
    ),
    "instance_softmax": Call(
        {"v": "N D", "bank": "K D", "index": "labels N"}, positive=("temperature",), constant=("bank",)
    ),
    "l1": Call({"prediction": "N L D", "target": "N L D"}, constant=("target",), shows_nan=("prediction", "target")),
    "lifted_structured": labelled("margin"),
    "masked_mse": Call(
        {"prediction": "N L D", "target": "N L D", "mask": "shares N L"},
        constant=("target", "mask"),
        shows_nan=("prediction", "target", "mask"),
    ),
    "mine_triplets": Call({"z": "N D", "labels": "labels N"}, {"margin": 1.0}, positive=("margin",), constant=("z",)),
    "mse": Call({"prediction": "N L D", "target": "N L D"}, constant=("target",), shows_nan=("prediction", "target")),
    "n_pair": Call({"anchor": "N D", "positive": "N D", "negatives": "N K D"}),
    "n_pair_mc": Call({"anchors": "N D", "positives": "N D"}, {"l2": 0.1}, 2),
    "nce": Call(
        {"positive": "N", "noise": "N K", "log_z": ""},
        {"n": 50},
        positive=("temperature",),
        constant=("log_z",),
        shows_nan=("log_z",),
    ),
    "nt_xent": views(),
    "nt_xent in chunks": views(chunk=3),
    "sinkhorn": Call({"scores": "N K"}, positive=("epsilon",), constant=("scores",)),
    "soft_nearest_neighbor": labelled("temperature"),
    "sup_con": labelled("temperature"),
    "sup_con in": labelled("temperature", form="in"),
    "swapped_prediction": Call(
        {"scores1": "N K", "scores2": "N K"}, {"epsilon": 0.5}, positive=("temperature", "epsilon"), inner="sinkhorn"
    ),
    "triplet": Call(TRIPLET, positive=("margin",)),
    "triplet mean": Call(TRIPLET, {"reduction": "mean"}, positive=("margin",)),
}
SCALAR = [name for name in CALLS if name not in ("sinkhorn", "mine_triplets")]  # codes and row numbers instead
UNIT = [
    *("byol", "clip", "cmc", "cmc core", "cross_sensor", "cross_sensor other", "debiased", "hard_negative"),
    *("nt_xent", "nt_xent in chunks", "sup_con", "sup_con in"),
]
DISTANCES = [
    *("contrastive", "contrastive distance", "lifted_structured", "soft_nearest_neighbor", "triplet", "triplet mean"),
]
DOT_PRODUCTS = ["info_nce", "info_nce own", "info_nce in batch", "instance_softmax", "n_pair", "n_pair_mc"]


def loss_of(name: str) -> str:
    """The public name: the first word."""
    return name.split()[0]


def function(name: str, **options: Any) -> Callable[..., Any]:
    """The loss as a function of its arrays, by name, at the call's options or these."""
    loss, options = getattr(losses, loss_of(name)), CALLS[name].options | options
    if loss is losses.cmc:
        return lambda **arrays: loss(list(arrays.values()), **options)
    return lambda **arrays: loss(**arrays, **options)


def value(name: str, arrays: dict[str, Any]) -> float:
    return function(name)(**arrays).item()


def axes(name: str, array: str) -> list[str]:
    return [axis for axis in CALLS[name].arrays[array].split() if axis.isupper()]


def letters(name: str) -> list[str]:
    return sorted({axis for array in CALLS[name].arrays for axis in axes(name, array)})


def example(name: str, seed: int = 0, **sizes: int) -> Inputs:
    """Arrays to call it with, in float64."""
    numbers = np.random.default_rng(seed)
    arrays: Inputs = {}
    for array, layout in CALLS[name].arrays.items():
        shape = tuple((SIZES | sizes)[axis] for axis in axes(name, array))
        if layout.startswith("labels"):
            arrays[array] = np.arange(*shape) // 2
        elif layout.startswith("flags"):
            arrays[array] = np.arange(*shape) % 2 == 0
        else:
            arrays[array] = numbers.standard_normal(shape)
        if layout.startswith("shares"):
            weight = np.exp(arrays[array])
            arrays[array] = weight / weight.sum(axis=-1, keepdims=True)
    return arrays


@st.composite
def inputs(draw: Any, name: str) -> Inputs:
    sizes = {"N": draw(st.integers(2, 9)), "D": draw(st.integers(1, 8))}
    return example(name, draw(seeds), **sizes)


def real(arrays: Inputs) -> list[str]:
    """Those of floating-point numbers."""
    return [name for name, array in arrays.items() if array.dtype.kind == "f"]


def tensors(arrays: Inputs) -> dict[str, Any]:
    """The same, those of floating-point numbers as tensors that want a gradient."""
    return arrays | {name: Tensor(arrays[name].copy(), requires_grad=True) for name in real(arrays)}
