"""Softmax and its logarithm, the largest input taken out first so that nothing overflows."""

from typing import Any

from minissl import backend
from minissl.ops.checks import floating, one_axis
from minissl.tensor import Tensor, record


def softmax(x: Any, axis: int = -1) -> Tensor:
    """y_i = e^x_i / Σ_k e^x_k.  dx = y (dy − Σ y dy)."""
    x = floating("softmax", x)
    axis = one_axis("softmax", x, axis)
    xp, v = backend.of(x.data).xp, x.data
    e = xp.exp(v - v.max(axis=axis, keepdims=True))
    y = e / e.sum(axis=axis, keepdims=True)
    return record(y, (x, lambda g: y * (g - (y * g).sum(axis=axis, keepdims=True))))


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """y_i = x_i − ln Σ_k e^x_k.  dx = dy − e^y Σ dy."""
    x = floating("log_softmax", x)
    axis = one_axis("log_softmax", x, axis)
    xp, v = backend.of(x.data).xp, x.data
    shifted = v - v.max(axis=axis, keepdims=True)
    y = shifted - xp.log(xp.exp(shifted).sum(axis=axis, keepdims=True))
    return record(y, (x, lambda g: g - xp.exp(y) * g.sum(axis=axis, keepdims=True)))
