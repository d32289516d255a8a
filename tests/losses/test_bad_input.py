"""What every public loss does: names bad input, shows NaN, keeps types, leaves its input alone, runs on CuPy."""

from typing import Any

import numpy as np
import pytest

from minissl import losses
from minissl.backend import Backend
from minissl.tensor import Tensor
from tests.losses.table import CALLS, SCALAR, axes, example, function, letters, loss_of, real, tensors


def is_named(name: str, arrays: dict[str, Any], **options: Any) -> None:
    """The error begins with the loss's name, says what it expected and what came."""
    speaker = f"({loss_of(name)}|{CALLS[name].inner or loss_of(name)})"
    with pytest.raises((ValueError, TypeError), match=rf"^{speaker}: expected .*(got|are NaN)"):
        function(name, **options)(**arrays)


def results(result: Any) -> list[Any]:
    """As arrays, whether the loss returns one tensor or several arrays."""
    return [result.data] if isinstance(result, Tensor) else list(result)


def test_no_loss_is_missing() -> None:
    assert {loss_of(name) for name in CALLS} == set(losses.__all__)


SHARED = [
    (name, array, axis)
    for name, call in CALLS.items()
    for axis in letters(name)
    for array in call.arrays
    if axis in axes(name, array) and sum(axis in axes(name, other) for other in call.arrays) > 1
]


@pytest.mark.parametrize(("name", "array", "axis"), SHARED)
def test_an_axis_of_another_size_is_named(name: str, array: str, axis: str) -> None:
    arrays = example(name)
    arrays[array] = np.delete(arrays[array], -1, axes(name, array).index(axis))
    is_named(name, arrays)


@pytest.mark.parametrize(("name", "axis"), [(name, axis) for name in CALLS for axis in letters(name)])
def test_an_axis_without_elements_is_named(name: str, axis: str) -> None:
    is_named(name, example(name, **{axis: 0}))


@pytest.mark.parametrize("name", [name for name in CALLS if "N" in letters(name)])
def test_one_row_is_named_where_there_must_be_negatives(name: str) -> None:
    arrays = example(name, N=1)
    if CALLS[name].least > 1:
        is_named(name, arrays)
    else:
        assert all(np.isfinite(array).all() for array in results(function(name)(**arrays)))


BAD = [
    (name, array, bad)
    for name in CALLS
    for array in real(example(name))
    for bad in (np.nan, np.inf, -np.inf)
    if array not in CALLS[name].shows_nan
]


@pytest.mark.parametrize(("name", "array", "bad"), BAD)
def test_a_number_that_is_not_finite_is_named(name: str, array: str, bad: float) -> None:
    arrays = example(name)
    arrays[array].flat[-1] = bad
    is_named(name, arrays)


@pytest.mark.parametrize(("name", "array"), [(name, array) for name in CALLS for array in CALLS[name].shows_nan])
def test_nan_that_is_no_error_is_the_result(name: str, array: str) -> None:
    """A whole row of it: of class weights a loss reads only those of the classes that occur."""
    arrays = example(name)
    arrays[array][(0,) * (arrays[array].ndim - 1)] = np.nan
    assert np.isnan(function(name)(**arrays).item())


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize(("name", "option"), [(name, option) for name in CALLS for option in CALLS[name].positive])
def test_a_temperature_or_margin_that_is_none_is_named(name: str, option: str, bad: float) -> None:
    is_named(name, example(name), **{option: bad})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CALLS)
def test_the_type_is_kept_and_inputs_are_left_alone(name: str, dtype: str) -> None:
    arrays = example(name)
    arrays |= {array: arrays[array].astype(dtype) for array in real(arrays)}
    given = tensors(arrays)
    result = function(name)(**given)
    if name != "mine_triplets":
        assert result.dtype == dtype
    if name in SCALAR:
        assert result.shape == ()
        result.backward()
    for array, before in arrays.items():
        after = given[array]
        np.testing.assert_array_equal(after.data if isinstance(after, Tensor) else after, before)
        if isinstance(after, Tensor) and after.grad is not None:
            assert after.grad.dtype == dtype


@pytest.mark.parametrize("name", CALLS)
def test_the_same_numbers_on_a_device(cupy: Backend, name: str) -> None:
    arrays = example(name)
    there = {array: cupy.to_device(values) for array, values in arrays.items()}
    here = results(function(name)(**arrays))
    for expected, found in zip(here, results(function(name)(**there)), strict=True):
        np.testing.assert_allclose(cupy.to_host(found), expected, rtol=1e-9)
