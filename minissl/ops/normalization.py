"""Normalizing: over a batch, or each row to unit length."""

from typing import Any

from minissl import backend, parallel
from minissl.backend import Array
from minissl.ops.checks import floating, one_axis
from minissl.ops.reduction import length
from minissl.tensor import Tensor, as_tensor, record


def batch_norm(
    x: Any, gamma: Any, beta: Any, epsilon: float = 1e-5, relu: bool = False, pool: parallel.Pool | None = None
) -> tuple[Tensor, Array, Array]:
    """y = γ (x − μ)/√(σ² + ε) + β, with mean μ and biased variance σ² per channel over all axes but the last.

    x (N, ..., C), γ and β (C,). Returns y and the arrays μ and σ² (C,), which a layer averages for evaluation.
    relu: max(y, 0) at the end, in the same passes over memory. pool: x is one rank's part of a batch, and μ and σ² are
    those of the batch, on the way back too; parts must be equally large.
    (Ioffe and Szegedy, 2015, "Batch Normalization")
    """
    x, gamma, beta = floating("batch_norm", x), floating("batch_norm", gamma), floating("batch_norm", beta)
    if x.ndim < 2 or gamma.shape != x.shape[-1:] or beta.shape != x.shape[-1:]:
        raise ValueError(
            f"batch_norm: expected x (N, ..., C) and γ, β (C,), got {x.shape}, {gamma.shape} and {beta.shape}"
        )
    if x.size <= x.shape[-1] and pool is None:
        raise ValueError(
            f"batch_norm: expected more than one value per channel, got shape {x.shape}; use a larger batch"
        )
    home, v, scale, shift = backend.of(x.data), x.data, gamma.data, beta.data
    moments, means = (pool.moments, pool.means) if pool else (None, None)
    y, mean, variance = home.batch_norm(v, scale, shift, epsilon, relu, moments)
    gradients = lambda g: home.batch_norm_gradient(g, v, scale, shift, mean, variance, epsilon, relu, means)
    return record(y, ((x, gamma, beta), gradients)), mean, variance


def layer_norm(x: Any, gamma: Any, beta: Any, epsilon: float = 1e-5) -> Tensor:
    """y = γ (x − μ)/√(σ² + ε) + β, with mean and variance of each row: x (..., D), γ and β (D,).

    (Ba et al., 2016, "Layer Normalization")
    """
    x, gamma, beta = floating("layer_norm", x), floating("layer_norm", gamma), floating("layer_norm", beta)
    if not x.ndim or gamma.shape != x.shape[-1:] or beta.shape != x.shape[-1:] or not x.shape[-1]:
        raise ValueError(f"layer_norm: expected x (..., D) and γ, β (D,), got {x.shape}, {gamma.shape}, {beta.shape}")
    home, v, scale = backend.of(x.data), x.data, gamma.data
    y = home.layer_norm(v, scale, beta.data, epsilon)
    return record(y, ((x, gamma, beta), lambda g: home.layer_norm_gradient(g, v, scale, epsilon)))


def group_norm(x: Any, groups: int, gamma: Any, beta: Any, epsilon: float = 1e-5) -> Tensor:
    """Mean and variance of each image's group of channels: x (N, ..., C), γ and β (C,).

    (Wu and He, 2018, "Group Normalization")
    """
    x = floating("group_norm", x)
    if x.ndim < 2 or groups < 1 or x.shape[-1] % groups or as_tensor(gamma).shape != x.shape[-1:]:
        raise ValueError(
            f"group_norm: expected x (N, ..., C), γ (C,) and groups that divide C, got {x.shape}, {groups}"
        )
    N, C = len(x), x.shape[-1]
    grouped = x.reshape(N, -1, groups, C // groups)  # (N, pixels, G, C/G)
    centred = grouped - grouped.mean(axis=(1, 3), keepdims=True)
    variance = (centred * centred).mean(axis=(1, 3), keepdims=True)
    return (centred * (variance + epsilon) ** -0.5).reshape(x.shape) * gamma + beta


def instance_norm(x: Any, gamma: Any, beta: Any, epsilon: float = 1e-5) -> Tensor:
    """Mean and variance of each image's channel: group norm with one channel a group. (Ulyanov et al., 2016)"""
    return group_norm(x, as_tensor(x).shape[-1], gamma, beta, epsilon)


def l2_normalize(x: Any, axis: int = -1, epsilon: float = 1e-12) -> Tensor:
    """x̂ = x/‖x‖ along an axis.  dx = (dx̂ − x̂ ⟨x̂, dx̂⟩)/‖x‖: what points along x is lost.

    Rows shorter than epsilon are divided by epsilon instead, so that a zero row gives zero, not NaN.
    """
    x = floating("l2_normalize", x)
    axis = one_axis("l2_normalize", x, axis)
    xp, v = backend.of(x.data).xp, x.data
    norm = length(xp, v, axis)
    divisor = xp.maximum(norm, epsilon)
    y = v / divisor

    def vjp(g: Array) -> Array:
        along = (y * g).sum(axis=axis, keepdims=True)
        return (g - y * (along * (norm > epsilon))) / divisor

    return record(y, (x, vjp))
