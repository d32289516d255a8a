"""What a row of the table is, and how inputs are drawn."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

Drawn = tuple[tuple[np.ndarray, ...], dict[str, Any]]


@dataclass(frozen=True)
class Row:
    op: str
    inputs: st.SearchStrategy[Drawn]
    oracle: Callable[..., Any]
    call: Callable[..., Any] | None = None  # where the op is not simply called with its arrays and options
    tolerance: float = 1e-9  # of the value
    true_gradient: bool = True  # false where the op bends its gradient on purpose


ROWS: list[Row] = []


def row(op: str, inputs: st.SearchStrategy[Drawn], oracle: Callable[..., Any], **more: Any) -> None:
    ROWS.append(Row(op, inputs, oracle, **more))


def values(
    seed: int, shape: tuple[int, ...], low: float = -2.0, high: float = 2.0, kink: float | None = None
) -> np.ndarray:
    """Uniform numbers, none within 0.01 of the kink."""
    x = np.random.default_rng(seed).uniform(low, high, shape)
    return x if kink is None else np.where(np.abs(x - kink) < 0.01, kink + 0.05, x)


def distinct(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of which no two are closer than 0.01: no ties, and none within a step of central differences."""
    return np.random.default_rng(seed).permutation(math.prod(shape)).reshape(shape) * 0.05 - 1.0


seeds = st.integers(0, 2**32 - 1)
shapes = st.lists(st.integers(1, 4), min_size=0, max_size=4).map(tuple)  # 0-d included
some_axes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


@st.composite
def broadcasting(draw: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that broadcast: axes of one dropped in front or set to 1."""
    shape = draw(shapes)
    pair = []
    for _ in range(2):
        thin = tuple(draw(st.sampled_from([n, n, 1])) for n in shape)
        pair.append(thin[draw(st.integers(0, len(thin))) :])
    return pair[0], pair[1]


@st.composite
def one(draw: Any, low: float = -2.0, high: float = 2.0, kink: float | None = None, options: Any = None) -> Drawn:
    """One array of any shape."""
    return (values(draw(seeds), draw(shapes), low, high, kink),), options or {}


@st.composite
def two(draw: Any, low: float = -2.0, high: float = 2.0, kink: float | None = None) -> Drawn:
    """Two arrays that broadcast."""
    a, b = draw(broadcasting())
    return (values(draw(seeds), a), values(draw(seeds), b, low, high, kink)), {}


@st.composite
def apart(draw: Any) -> Drawn:
    """Two arrays that broadcast, nowhere equal."""
    (a, b), _ = draw(two())
    return (np.round(a, 1), np.round(b, 1) + 0.05), {}


@st.composite
def reduced(draw: Any, tied: bool = True) -> Drawn:
    """An array, the axes to reduce it over, and whether to keep them."""
    shape = draw(shapes)
    axis: Any = None
    if shape and draw(st.booleans()):
        chosen = draw(st.permutations(range(-len(shape), 0)))[: draw(st.integers(1, len(shape)))]
        axis = chosen[0] + len(shape) if len(chosen) == 1 else tuple(chosen)
    x = values(draw(seeds), shape) if tied else distinct(draw(seeds), shape)
    return (x,), {"axis": axis, "keepdims": draw(st.booleans())}


@st.composite
def along(draw: Any, **options: Any) -> Drawn:
    """An array with at least one axis, and one of its axes."""
    shape = draw(some_axes)
    return (values(draw(seeds), shape),), {"axis": draw(st.integers(-len(shape), len(shape) - 1)), **options}
