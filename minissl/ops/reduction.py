"""Sums, means and extremes over axes. `axis` is an int, a tuple or None for all; `keepdims` keeps them with size 1."""

import math
from typing import Any

from minissl import backend
from minissl.backend import Array
from minissl.ops.checks import floating, normalize_axes
from minissl.tensor import Tensor, as_tensor, record

Axis = int | tuple[int, ...] | None


def _spread(g: Array, axes: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """The gradient of a reduction at every element that went into it: (reduced shape) -> shape."""
    kept = tuple(1 if i in axes else n for i, n in enumerate(shape))
    return backend.of(g).xp.broadcast_to(g.reshape(kept), shape)


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """y = Σ x.  dx = dy at every element."""
    x = as_tensor(x)
    axes, shape = normalize_axes("sum", axis, x.ndim), x.shape
    return record(x.data.sum(axis=axes, keepdims=keepdims), (x, lambda g: _spread(g, axes, shape)))


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """y = Σ x / M over M elements.  dx = dy / M."""
    x = floating("mean", x)
    axes, shape = normalize_axes("mean", axis, x.ndim), x.shape
    M = _count("mean", shape, axes)
    return record(x.data.mean(axis=axes, keepdims=keepdims), (x, lambda g: _spread(g / M, axes, shape)))


def var(x: Any, axis: Axis = None, keepdims: bool = False, ddof: int = 0) -> Tensor:
    """y = Σ (x − mean)² / (M − ddof).  dx = 2 (x − mean) dy / (M − ddof)."""
    x = floating("var", x)
    axes, shape, v = normalize_axes("var", axis, x.ndim), x.shape, x.data
    M = _count("var", shape, axes) - ddof
    if M <= 0:
        raise ValueError(f"var: expected more than ddof = {ddof} elements, got shape {shape} over axes {axes}")
    centred = v - v.mean(axis=axes, keepdims=True)
    value = (centred * centred).sum(axis=axes, keepdims=keepdims) / M
    return record(value, (x, lambda g: _spread(g * (2 / M), axes, shape) * centred))


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest element. Its gradient goes to it; where several tie, in equal shares."""
    return _extreme("max", x, axis, keepdims)


def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest element. Its gradient goes to it; where several tie, in equal shares."""
    return _extreme("min", x, axis, keepdims)


def _extreme(op: str, x: Any, axis: Axis, keepdims: bool) -> Tensor:
    x = as_tensor(x)
    axes, shape, v = normalize_axes(op, axis, x.ndim), x.shape, x.data
    _count(op, shape, axes)
    y = getattr(v, op)(axis=axes, keepdims=True)

    def vjp(g: Array) -> Array:
        won = v == y
        return won * (_spread(g, axes, shape) / won.sum(axis=axes, keepdims=True).astype(g.dtype))

    return record(y if keepdims else y.reshape(_dropped(shape, axes)), (x, vjp))


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """y = ln Σ eˣ, with the largest x taken out first so that nothing overflows.  dx = e^(x − y) dy."""
    x = floating("logsumexp", x)
    xp, axes, shape, v = backend.of(x.data).xp, normalize_axes("logsumexp", axis, x.ndim), x.shape, x.data
    _count("logsumexp", shape, axes)
    largest = v.max(axis=axes, keepdims=True)
    infinite = ~xp.isfinite(largest)  # every x is −inf: the answer is −inf and the slope 0, where −inf + inf gave NaN
    e = xp.exp(v - xp.where(infinite, xp.zeros_like(largest), largest))
    total = e.sum(axis=axes, keepdims=True) + infinite
    y = largest + xp.log(total)
    value = y if keepdims else y.reshape(_dropped(shape, axes))
    return record(value, (x, lambda g: _spread(g, axes, shape) * (e / total)))


def norm(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """y = √Σx².  dx = x/y dy; 0 at x = 0, where there is no slope."""
    x = floating("norm", x)
    xp, axes, shape, v = backend.of(x.data).xp, normalize_axes("norm", axis, x.ndim), x.shape, x.data
    _count("norm", shape, axes)
    y = length(xp, v, axes)
    unit = v / xp.where(y > 0, y, xp.ones_like(y))
    return record(y if keepdims else y.reshape(_dropped(shape, axes)), (x, lambda g: _spread(g, axes, shape) * unit))


def length(xp: Any, v: Array, axes: int | tuple[int, ...]) -> Array:
    """√Σv², keeping the axes. The largest |v| is taken out first: squares of 1e-30 or 1e30 leave float32's range."""
    largest = xp.abs(v).max(axis=axes, keepdims=True)
    safe = xp.where(largest > 0, largest, xp.ones_like(largest))
    return largest * xp.sqrt(((v / safe) ** 2).sum(axis=axes, keepdims=True))


def cumsum(x: Any, axis: int) -> Tensor:
    """y_i = Σ_{j≤i} x_j along an axis.  dx_j = Σ_{i≥j} dy_i."""
    x = as_tensor(x)
    (axis,) = normalize_axes("cumsum", axis, x.ndim)
    backwards = (slice(None),) * axis + (slice(None, None, -1),)
    return record(x.data.cumsum(axis), (x, lambda g: g[backwards].cumsum(axis)[backwards]))


def _dropped(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def _count(op: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    M = math.prod(shape[i] for i in axes)
    if M == 0:
        raise ValueError(f"{op}: expected at least one element to reduce, got shape {shape} over axes {axes}")
    return M
