"""Is a gradient right? Compare it with central differences in float64.

    from minissl.gradcheck import gradcheck
    gradcheck(lambda x, w: ops.tanh(x @ w), x, w)      # raises GradientMismatch, or returns the largest error

f′(x) ≈ (f(x + h) − f(x − h)) / 2h has an error of order h² from the curve and of order 1/h from rounding; in float64
h = 1e-6 leaves about nine digits for values near 1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minissl import backend
from minissl.tensor import Tensor, no_grad


class GradientMismatch(ValueError):
    """A gradient differs from central differences; the message names the worst element."""


@dataclass(frozen=True)
class Worst:
    """The element at which backward and central differences disagree most."""

    argument: int  # which input
    index: tuple[int, ...]
    backward: float
    numerical: float

    @property
    def error(self) -> float:
        """|difference|, relative to the larger value where that is above 1; infinite where one is NaN."""
        error = abs(self.backward - self.numerical) / max(1.0, abs(self.backward), abs(self.numerical))
        return math.inf if math.isnan(error) else error


def gradcheck(
    function: Callable[..., Tensor],
    *inputs: Any,
    step: float = 1e-6,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> Worst:
    """Check the gradient of `function` with respect to every floating-point input; return the worst element found.

    inputs: tensors, arrays or lists; floating ones are taken as float64. The output may have any shape: it is weighted
    with fixed random numbers v and summed, so that one backward covers all of its elements, ⟨v, f(x)⟩.
    Keep inputs small (each element costs two evaluations) and away from kinks such as relu at 0.
    Raises GradientMismatch, or ValueError where the function's result is no Tensor or depends on no input.
    """
    arrays = [_double(value) for value in inputs]
    if not any(array.dtype.kind == "f" for array in arrays):
        raise ValueError("gradcheck: expected at least one floating-point input, got none")
    tensors = [Tensor(array, requires_grad=array.dtype.kind == "f") for array in arrays]
    output = function(*tensors)
    if not isinstance(output, Tensor):
        raise ValueError(f"gradcheck: expected the function to return a Tensor, got {type(output).__name__}")
    if output.dtype != "float64":
        raise ValueError(f"gradcheck: float64 inputs gave {output.dtype}; some step leaves double precision")
    weights = np.random.default_rng(seed).uniform(0.5, 1.5, output.shape)
    output.backward(backend.of(output.data).to_device(weights))

    def value() -> float:
        with no_grad():
            return float((backend.to_host(function(*map(Tensor, arrays)).data) * weights).sum())

    worst = Worst(0, (), 0.0, 0.0)
    for argument, (array, tensor) in enumerate(zip(arrays, tensors, strict=True)):
        if not tensor.requires_grad:
            continue
        gradient = np.zeros(array.shape) if tensor.grad is None else backend.to_host(tensor.grad)
        for index in np.ndindex(array.shape):
            before = float(array[index])
            array[index] = before + step
            above = value()
            array[index] = before - step
            below = value()
            array[index] = before
            found = Worst(argument, index, float(gradient[index]), (above - below) / (2 * step))
            if found.error > worst.error:
                worst = found
    if worst.error > tolerance:
        raise GradientMismatch(
            f"gradient of input {worst.argument} at index {worst.index}: backward gives {worst.backward:.9g}, "
            f"central differences {worst.numerical:.9g} (error {worst.error:.2g}, allowed {tolerance:.2g})"
        )
    return worst


def _double(value: Any) -> Any:
    array = (value if isinstance(value, Tensor) else Tensor(value)).data
    return array.astype("float64") if array.dtype.kind == "f" else array
