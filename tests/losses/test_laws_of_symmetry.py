"""What may be done to the inputs of a loss without changing it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.losses.drawing import seeds
from tests.losses.table import (
    CALLS,
    DISTANCES,
    DOT_PRODUCTS,
    SCALAR,
    UNIT,
    Inputs,
    axes,
    inputs,
    letters,
    real,
    value,
)


def unchanged(name: str, arrays: Inputs, other: Inputs) -> None:
    assert value(name, other) == pytest.approx(value(name, arrays), rel=1e-9, abs=1e-9)


def rows(name: str, arrays: Inputs) -> list[str]:
    """The arrays of embeddings: those whose last axis is D."""
    return [array for array in real(arrays) if axes(name, array)[-1:] == ["D"]]


@pytest.mark.parametrize("name", UNIT)
@given(st.data(), seeds)
def test_unit_losses_ignore_the_length_of_each_row(name: str, data: Any, seed: int) -> None:
    """The unit row c·z/‖c·z‖ is z/‖z‖ for any c > 0."""
    arrays, numbers = data.draw(inputs(name)), np.random.default_rng(seed)
    scaled = {array: arrays[array] * 10.0 ** numbers.uniform(-3, 3, (len(arrays[array]), 1)) for array in real(arrays)}
    unchanged(name, arrays, arrays | scaled)


@pytest.mark.parametrize("name", [*DOT_PRODUCTS, *UNIT, *DISTANCES])
@given(st.data(), seeds)
def test_losses_of_dot_products_and_of_distances_ignore_a_rotation(name: str, data: Any, seed: int) -> None:
    """(Qa)·(Qb) = a·b for an orthogonal Q, and dot products make cosines and distances."""
    arrays, numbers = data.draw(inputs(name)), np.random.default_rng(seed)
    D = arrays[rows(name, arrays)[0]].shape[-1]
    Q = np.linalg.qr(numbers.standard_normal((D, D)))[0]
    unchanged(name, arrays, arrays | {array: arrays[array] @ Q for array in rows(name, arrays)})


@pytest.mark.parametrize("name", DISTANCES)
@given(st.data(), seeds)
def test_losses_of_distances_ignore_a_shift_of_all_rows(name: str, data: Any, seed: int) -> None:
    """(a + c) − (b + c) = a − b; with the rotation, any rigid motion."""
    arrays, numbers = data.draw(inputs(name)), np.random.default_rng(seed)
    shift = numbers.standard_normal(arrays[rows(name, arrays)[0]].shape[-1])
    unchanged(name, arrays, arrays | {array: arrays[array] + shift for array in rows(name, arrays)})


@pytest.mark.parametrize("name", SCALAR)
@given(st.data(), seeds)
def test_the_order_along_an_axis_does_not_matter(name: str, data: Any, seed: int) -> None:
    """Sums do not depend on order: of rows, negatives, pixels, features. Classes that labels number keep theirs."""
    arrays, numbers = data.draw(inputs(name)), np.random.default_rng(seed)
    numbered = {"K"} if len(real(arrays)) < len(arrays) else set()
    for axis in set(letters(name)) - numbered:
        place = {array: axes(name, array).index(axis) for array in arrays if axis in axes(name, array)}
        size = next(arrays[array].shape[i] for array, i in place.items())
        order = numbers.permutation(size)
        unchanged(name, arrays, arrays | {array: np.take(arrays[array], order, i) for array, i in place.items()})


SWAPS = {
    **{name: ["z1", "z2"] for name, call in CALLS.items() if set(call.arrays) == {"z1", "z2"}},
    **{name: ["a", "b"] for name, call in CALLS.items() if {"a", "b"} <= set(call.arrays)},
    "byol": ["p1", "p2", "z1", "z2"],
    "cmc": ["first", "third"],
    "cmc core": ["second", "third"],  # the first view is compared with each
    "swapped_prediction": ["scores1", "scores2"],
}


@pytest.mark.parametrize("name", SWAPS)
@given(st.data())
def test_the_order_of_views_does_not_matter(name: str, data: Any) -> None:
    """Each pair of views is taken in both orders, or compared by what is symmetric."""
    arrays = data.draw(inputs(name))
    one, other = SWAPS[name][::2], SWAPS[name][1::2]
    swapped = dict(zip(one + other, other + one, strict=True))
    unchanged(name, arrays, arrays | {array: arrays[partner] for array, partner in swapped.items()})
