"""Normalizing: over a batch, or each row to unit length."""

from typing import Any

from minissl import backend
from minissl.backend import Array
from minissl.ops.checks import floating
from minissl.tensor import Tensor, record


def batch_norm(x: Any, gamma: Any, beta: Any, epsilon: float = 1e-5) -> tuple[Tensor, Array, Array]:
    """y = γ (x − μ)/√(σ² + ε) + β, with mean μ and biased variance σ² per channel over all axes but the last.

    x (N, ..., C), γ and β (C,). Returns y and the arrays μ and σ² (C,), which a layer averages for evaluation.
    (Ioffe and Szegedy, 2015, "Batch Normalization")
    """
    x, gamma, beta = floating("batch_norm", x), floating("batch_norm", gamma), floating("batch_norm", beta)
    if x.ndim < 2 or gamma.shape != x.shape[-1:] or beta.shape != x.shape[-1:]:
        raise ValueError(
            f"batch_norm: expected x (N, ..., C) and γ, β (C,), got {x.shape}, {gamma.shape} and {beta.shape}"
        )
    if x.size <= x.shape[-1]:
        raise ValueError(
            f"batch_norm: expected more than one value per channel, got shape {x.shape}; use a larger batch"
        )
    home, v, scale = backend.of(x.data), x.data, gamma.data
    y, mean, variance = home.batch_norm(v, scale, beta.data, epsilon)
    gradients = lambda g: home.batch_norm_gradient(g, v, scale, mean, variance, epsilon)
    return record(y, ((x, gamma, beta), gradients)), mean, variance


def l2_normalize(x: Any, axis: int = -1, epsilon: float = 1e-12) -> Tensor:
    """x̂ = x/‖x‖ along an axis.  dx = (dx̂ − x̂ ⟨x̂, dx̂⟩)/‖x‖: what points along x is lost.

    Rows shorter than epsilon are divided by epsilon instead, so that a zero row gives zero, not NaN.
    """
    x = floating("l2_normalize", x)
    xp, v = backend.of(x.data).xp, x.data
    length = _length(xp, v, axis)
    divisor = xp.maximum(length, epsilon)
    y = v / divisor

    def vjp(g: Array) -> Array:
        along = (y * g).sum(axis=axis, keepdims=True)
        return (g - y * (along * (length > epsilon))) / divisor

    return record(y, (x, vjp))


def _length(xp: Any, v: Array, axis: int) -> Array:
    """√Σv², with the largest |v| taken out first: squares of 1e-30 or 1e30 would leave float32's range."""
    largest = xp.abs(v).max(axis=axis, keepdims=True)
    safe = xp.where(largest > 0, largest, xp.ones_like(largest))
    return largest * xp.sqrt(((v / safe) ** 2).sum(axis=axis, keepdims=True))
