"""Rearranging elements: nothing is computed, so each derivative is the inverse rearrangement."""

import builtins
import math
from collections.abc import Sequence
from typing import Any, Literal

from minissl import backend
from minissl.graph import Part
from minissl.ops.checks import normalize_axes, one_backend
from minissl.tensor import Tensor, as_tensor, record


def reshape(x: Any, shape: tuple[int, ...]) -> Tensor:
    """The same elements, in the same order, in another shape; one size may be -1."""
    x = as_tensor(x)
    before = x.shape
    known = math.prod(n for n in shape if n != -1)
    if tuple(shape).count(-1) > 1 or (x.size != known if -1 not in shape else known == 0 or x.size % known):
        raise ValueError(f"reshape: expected a shape of {x.size} elements, got {tuple(shape)} for shape {before}")
    return record(x.data.reshape(shape), (x, lambda g: g.reshape(before)))


def transpose(x: Any, axes: tuple[int, ...] | None = None) -> Tensor:
    """Axes in another order; reversed when none is given."""
    x = as_tensor(x)
    order = tuple(reversed(range(x.ndim))) if axes is None else normalize_axes("transpose", tuple(axes), x.ndim)
    if len(order) != x.ndim:
        raise ValueError(f"transpose: expected all {x.ndim} axes of shape {x.shape} in some order, got {axes}")
    inverse = tuple(order.index(i) for i in range(x.ndim))
    return record(x.data.transpose(order), (x, lambda g: g.transpose(inverse)))


def broadcast_to(x: Any, shape: tuple[int, ...]) -> Tensor:
    """Repeated along new axes and axes of size 1. The gradient is summed over the repeats."""
    x = as_tensor(x)
    fits = len(shape) >= x.ndim and all(m in (1, n) for m, n in zip(x.shape[::-1], shape[::-1], strict=False))
    if not fits:
        raise ValueError(f"broadcast_to: expected a shape that {x.shape} broadcasts to, got {tuple(shape)}")
    return record(backend.of(x.data).xp.broadcast_to(x.data, shape), (x, lambda g: g))


def concatenate(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors one after another along an axis that exists. Each receives its slice of the gradient."""
    parts = _alike("concatenate", tensors)
    (axis,) = normalize_axes("concatenate", axis, parts[0].ndim)
    others = {part.shape[:axis] + part.shape[axis + 1 :] for part in parts}
    if len(others) > 1:
        shapes = ", ".join(str(part.shape) for part in parts)
        raise ValueError(f"concatenate: expected shapes that differ along axis {axis} only, got {shapes}")
    value = backend.of(parts[0].data).xp.concatenate([part.data for part in parts], axis)
    stops = [0]
    for part in parts:
        stops.append(stops[-1] + part.shape[axis])

    def piece(i: int) -> Any:
        key = (slice(None),) * axis + (slice(stops[i], stops[i + 1]),)
        return lambda g: g[key]

    return record(value, *((part, piece(i)) for i, part in enumerate(parts)))


def stack(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors of one shape along a new axis."""
    parts = _alike("stack", tensors)
    if len({part.shape for part in parts}) > 1:
        raise ValueError(f"stack: expected equal shapes, got {', '.join(str(part.shape) for part in parts)}")
    (axis,) = normalize_axes("stack", axis, parts[0].ndim + 1)
    shape = (*parts[0].shape[:axis], 1, *parts[0].shape[axis:])
    return concatenate([reshape(part, shape) for part in parts], axis)


def split(x: Any, parts: int, axis: int = 0) -> tuple[Tensor, ...]:
    """Cut along an axis into `parts` equal pieces."""
    x = as_tensor(x)
    (axis,) = normalize_axes("split", axis, x.ndim)
    if parts < 1 or x.shape[axis] % parts:
        raise ValueError(f"split: expected parts that divide axis {axis} of shape {x.shape}, got {parts}")
    n = x.shape[axis] // parts
    return tuple(getitem(x, (slice(None),) * axis + (slice(i * n, (i + 1) * n),)) for i in range(parts))


def _alike(op: str, tensors: Sequence[Any]) -> tuple[Tensor, ...]:
    parts = tuple(as_tensor(tensor) for tensor in tensors)
    if not parts:
        raise ValueError(f"{op}: expected at least one tensor, got none")
    if len({part.ndim for part in parts}) > 1 or (parts[0].ndim == 0 and op == "concatenate"):
        shapes = ", ".join(str(part.shape) for part in parts)
        raise ValueError(f"{op}: expected tensors with equally many axes, at least one, got {shapes}")
    one_backend(op, *parts)
    return parts


def flip(x: Any, axis: int | tuple[int, ...]) -> Tensor:
    """Elements in reverse order along one or several axes."""
    x = as_tensor(x)
    axes = normalize_axes("flip", axis, x.ndim)
    key = tuple(slice(None, None, -1) if i in axes else slice(None) for i in range(x.ndim))
    return record(x.data[key], (x, lambda g: g[key]))


def roll(x: Any, shift: int | tuple[int, ...], axis: int | tuple[int, ...]) -> Tensor:
    """Elements moved by `shift` places along one or several axes; what leaves at the end comes in at the start."""
    x = as_tensor(x)
    axes = normalize_axes("roll", axis, x.ndim)
    shifts = (shift,) * len(axes) if isinstance(shift, int) else tuple(shift)
    if len(shifts) != len(axes):
        raise ValueError(f"roll: expected one shift for each axis, got {shift} for axes {axis}")
    back = tuple(-s for s in shifts)
    xp = backend.of(x.data).xp
    return record(xp.roll(x.data, shifts, axes), (x, lambda g: xp.roll(g, back, axes)))


def tile(x: Any, repeats: Sequence[int]) -> Tensor:
    """The whole tensor repeated along each axis. The gradient is summed over the repeats."""
    x = as_tensor(x)
    if len(repeats) != x.ndim or min(repeats, default=1) < 1:
        raise ValueError(f"tile: expected a number of repeats, at least 1, for each axis of {x.shape}, got {repeats}")
    thin = tuple(size for n in x.shape for size in (1, n))  # (1, n₀, 1, n₁, ...)
    wide = tuple(size for r, n in zip(repeats, x.shape, strict=True) for size in (r, n))
    return reshape(broadcast_to(reshape(x, thin), wide), tuple(r * n for r, n in zip(repeats, x.shape, strict=True)))


def pad(
    x: Any,
    widths: Sequence[tuple[int, int]],
    value: float = 0.0,
    mode: Literal["constant", "reflect", "circular"] = "constant",
) -> Tensor:
    """A border, (before, after) elements wide along each axis.

    mode: "constant", filled with `value`; "reflect", mirrored at the edge element; "circular", from the other end.
    """
    x = as_tensor(x)
    if len(widths) != x.ndim or any(min(width) < 0 for width in widths):
        raise ValueError(f"pad: expected (before, after) >= 0 for each axis of shape {x.shape}, got {widths}")
    if mode in ("reflect", "circular"):
        for axis, (width, n) in enumerate(zip(widths, x.shape, strict=True)):
            if builtins.max(width) > n - (mode == "reflect"):
                raise ValueError(
                    f"pad: expected a {mode} border narrower than the axis, got {width} for shape {x.shape}"
                )
            if width != (0, 0):
                x = _repeat_edges(x, axis, width, mode)
        return x
    if mode != "constant":
        raise ValueError(f"pad: expected mode 'constant', 'reflect' or 'circular', got {mode!r}")
    xp = backend.of(x.data).xp
    shape = tuple(n + before + after for n, (before, after) in zip(x.shape, widths, strict=True))
    inside = tuple(slice(before, before + n) for n, (before, _) in zip(x.shape, widths, strict=True))
    padded = xp.full(shape, value, x.dtype)
    padded[inside] = x.data
    return record(padded, (x, lambda g: g[inside]))


def _repeat_edges(x: Tensor, axis: int, width: tuple[int, int], mode: str) -> Tensor:
    """The border along one axis, as slices of x itself: their derivatives are known already."""
    n, (before, after) = x.shape[axis], width
    at = lambda start, stop: getitem(x, (slice(None),) * axis + (slice(start, stop),))
    if mode == "circular":
        parts = [at(n - before, n), x, at(0, after)]
    else:
        parts = [flip(at(1, before + 1), axis), x, flip(at(n - 1 - after, n - 1), axis)]
    return concatenate(parts, axis)


def getitem(x: Any, key: Any) -> Tensor:
    """x[key] for slices, integers, integer arrays and masks. An element taken twice receives both gradients."""
    x = as_tensor(x)
    home = backend.of(x.data)
    key = on_backend(key, home)
    try:
        value = x.data[key]
    except IndexError as error:
        raise IndexError(f"getitem: expected an index into shape {x.shape}, got {key!r}: {error}") from error
    basic = all(
        isinstance(k, int | slice | type(None) | type(Ellipsis)) for k in (key if isinstance(key, tuple) else (key,))
    )

    return record(value, (x, lambda g: Part(key, g, repeats=not basic)))


def on_backend(key: Any, home: Any) -> Any:
    """Tensors, lists and host arrays among the indices become arrays of the backend that is indexed."""
    if isinstance(key, tuple):
        return tuple(on_backend(k, home) for k in key)
    if isinstance(key, Tensor):
        key = key.data
    if isinstance(key, list) or (hasattr(key, "dtype") and backend.of(key) is not home):
        key = home.to_device(key)
    return key


def astype(x: Any, dtype: Any) -> Tensor:
    """The same values as another type. Between floating types the gradient is converted back; else there is none."""
    x = as_tensor(x)
    before, value = x.dtype, x.data.astype(dtype)
    if value.dtype.kind != "f" or before.kind != "f":
        return Tensor(value)
    return record(value, (x, lambda g: g.astype(before)))
