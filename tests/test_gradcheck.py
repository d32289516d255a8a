"""gradcheck finds wrong gradients, says where, and passes right ones."""

from typing import Any

import numpy as np
import pytest

from minissl import ops
from minissl.gradcheck import GradientMismatch, Worst, gradcheck
from minissl.tensor import Tensor, record

rng = np.random.default_rng(0)


def wrong_at(index: tuple[int, ...], by: float) -> Any:
    """x² whose gradient is off by `by` at one element."""

    def square(x: Tensor) -> Tensor:
        def vjp(g: Any) -> Any:
            dx = 2 * x.data * g
            dx[index] += by
            return dx

        return record(x.data**2, (x, vjp))

    return square


def test_a_right_gradient_passes_and_the_error_left_is_returned() -> None:
    worst = gradcheck(lambda x, w: ops.tanh(x @ w), rng.normal(size=(2, 3)), rng.normal(size=(3, 4)))
    assert isinstance(worst, Worst) and 0 < worst.error < 1e-8


def test_a_planted_error_is_found_and_named() -> None:
    square = wrong_at((1, 2), 0.5)
    a, x = rng.normal(size=(2, 3)), np.full((2, 3), 0.5)
    message = r"gradient of input 1 at index \(1, 2\): backward gives ([\d.]+), central differences ([\d.]+)"
    with pytest.raises(GradientMismatch, match=message) as caught:
        gradcheck(lambda a, x: a * 2 + square(x), a, x)
    weight = np.random.default_rng(0).uniform(0.5, 1.5, (2, 3))[1, 2]
    assert f"{weight + 0.5:.6g}"[:6] in str(caught.value) and f"{weight:.6g}"[:6] in str(caught.value)
    assert issubclass(GradientMismatch, ValueError)


@pytest.mark.parametrize(("by", "passes"), [(1e-9, True), (1e-4, False), (-1e-4, False)])
def test_the_tolerance_separates_rounding_from_mistakes(by: float, passes: bool) -> None:
    x = np.full((2, 2), 0.5)
    if passes:
        gradcheck(wrong_at((0, 0), by), x)
    else:
        with pytest.raises(GradientMismatch):
            gradcheck(wrong_at((0, 0), by), x)
        gradcheck(wrong_at((0, 0), by), x, tolerance=1e-3)


def test_a_gradient_that_stops_where_it_should_not_is_found() -> None:
    with pytest.raises(GradientMismatch, match="backward gives 0,"):
        gradcheck(lambda x, y: Tensor(x.data) * y, np.ones(2), np.ones(2))


def test_every_output_counts() -> None:
    """The weights differ from output to output, so that errors of opposite sign cannot cancel."""

    def swapped(x: Tensor) -> Tensor:
        return record(x.data * 2, (x, lambda g: 2 * g[::-1]))

    with pytest.raises(GradientMismatch):
        gradcheck(swapped, np.ones(3))


@pytest.mark.parametrize(
    "x", [np.full(3, 0.5, "float32"), Tensor(np.full(3, 0.5, "float32")), [0.5, 0.5, 0.5], Tensor(np.full(3, 0.5))]
)
def test_floating_inputs_are_taken_as_float64(x: Any) -> None:
    seen = []

    def function(x: Tensor) -> Tensor:
        seen.append(x.dtype)
        return x.exp()

    gradcheck(function, x)
    assert set(seen) == {np.dtype("float64")}


def test_inputs_are_left_as_they_are() -> None:
    x, tensor = np.full(3, 0.5), Tensor(np.full(3, 0.5), requires_grad=True)
    x.flags.writeable = tensor.data.flags.writeable = False
    gradcheck(lambda x, y: x * y, x, tensor)
    np.testing.assert_array_equal(x, 0.5)
    np.testing.assert_array_equal(tensor.data, 0.5)
    assert tensor.grad is None


def test_integer_inputs_are_passed_on_and_not_checked() -> None:
    worst = gradcheck(lambda i, x: x[i] ** 2, np.array([0, 2, 0]), np.array([0.5, 0.6, 0.7]))
    assert worst.argument == 1


def test_only_integers_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one floating-point input"):
        gradcheck(lambda i: i, np.arange(3))


def test_leaving_float64_is_an_error() -> None:
    with pytest.raises(ValueError, match="gave float32; some step leaves double precision"):
        gradcheck(lambda x: x.astype("float32"), np.ones(3))


def test_a_result_that_is_no_tensor_is_an_error() -> None:
    with pytest.raises(ValueError, match="return a Tensor, got ndarray"):
        gradcheck(lambda x: x.data, np.ones(3))  # type: ignore[arg-type,return-value]


def test_a_result_that_depends_on_no_input_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not depend on"):
        gradcheck(lambda x: Tensor(np.ones(3)), np.ones(3))


def test_nan_counts_as_worst() -> None:
    nan_at_the_end, huge_at_the_start = wrong_at((3,), float("nan")), wrong_at((0,), 100.0)
    with pytest.raises(GradientMismatch, match=r"index \(3,\): backward gives nan"):
        gradcheck(lambda x: nan_at_the_end(x) + huge_at_the_start(x), np.ones(4))
    with pytest.raises(GradientMismatch, match="backward gives nan"):
        gradcheck(wrong_at((0,), float("nan")), np.ones(4))


def test_the_error_is_relative_above_one_and_absolute_below() -> None:
    assert Worst(0, (), 200.0, 100.0).error == 0.5
    assert Worst(0, (), -1e-3, 1e-3).error == pytest.approx(2e-3)
