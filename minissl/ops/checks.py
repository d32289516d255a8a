"""What ops ask of their arguments, and the errors that say which op, what it expected, what came and the remedy."""

from typing import Any

from minissl import backend
from minissl.backend import Backend
from minissl.tensor import Tensor, as_tensor


def operands(op: str, *values: Any) -> tuple[Tensor, ...]:
    """All values as tensors of one backend, whose shapes broadcast.

    Numbers and integer tensors take the type of the floating-point tensors beside them, so that neither promotes:
    x (float32) * 0.5 stays float32. Raises TypeError for two backends, ValueError for shapes.
    """
    tensors = [value if isinstance(value, Tensor | int | float) else as_tensor(value) for value in values]
    arrays = [value.data for value in tensors if isinstance(value, Tensor)]
    if not arrays:
        return tuple(as_tensor(value) for value in values)
    home = one_backend(op, *(value for value in tensors if isinstance(value, Tensor)))
    floats = [array for array in arrays if array.dtype.kind == "f"]
    dtype = home.xp.result_type(*(floats or arrays))
    if dtype.kind != "f" and any(isinstance(value, float) for value in tensors):
        dtype = home.xp.dtype("float32")
    result = tuple(
        value
        if isinstance(value, Tensor) and (value.dtype.kind == "f" or dtype.kind != "f")
        else Tensor(home.xp.asarray(value.data if isinstance(value, Tensor) else value, dtype))
        for value in tensors
    )
    broadcast_shape(op, *(tensor.shape for tensor in result))
    return result


def one_backend(op: str, *tensors: Tensor) -> Backend:
    """The backend that holds all of these tensors. Raises TypeError when there are two."""
    home = backend.of(tensors[0].data)
    for tensor in tensors[1:]:
        if (other := backend.of(tensor.data)) is not home:
            raise TypeError(
                f"{op}: expected all arrays on one backend, got {home.name} and {other.name}; use backend.to_device"
            )
    return home


def broadcast_shape(op: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that all `shapes` broadcast to. Raises ValueError when they do not."""
    ndim = max(map(len, shapes))
    result = []
    for sizes in zip(*((1,) * (ndim - len(shape)) + shape for shape in shapes), strict=True):
        distinct = {n for n in sizes if n != 1}
        if len(distinct) > 1:
            raise ValueError(
                f"{op}: expected shapes that broadcast (equal, or 1, from the last axis on), "
                f"got {' and '.join(map(str, shapes))}; reshape one of them"
            )
        result.append(distinct.pop() if distinct else 1)
    return tuple(result)


def floating(op: str, value: Any) -> Tensor:
    """`value` as a floating-point tensor. Raises TypeError for integers and booleans."""
    tensor = as_tensor(value)
    if tensor.dtype.kind != "f":
        raise TypeError(f"{op}: expected floating-point numbers, got {tensor.dtype}; use .astype('float32')")
    return tensor


def dimensions(op: str, tensor: Tensor, layout: str) -> None:
    """Raise ValueError unless the tensor has as many axes as `layout`, such as "N H W C", names."""
    if tensor.ndim != len(layout.split()):
        raise ValueError(f"{op}: expected a tensor ({', '.join(layout.split())}), got shape {tensor.shape}")


def normalize_axes(op: str, axis: int | tuple[int, ...] | None, ndim: int) -> tuple[int, ...]:
    """The axes as distinct non-negative numbers; None means all. Raises ValueError for one that does not exist."""
    axes = tuple(range(ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    if any(not -ndim <= a < ndim for a in axes) or len({a % ndim for a in axes}) != len(axes):
        raise ValueError(f"{op}: expected distinct axes between {-ndim} and {ndim - 1}, got {axis}")
    return tuple(a % ndim for a in axes)


def one_axis(op: str, tensor: Tensor, axis: int) -> int:
    """An axis as a non-negative number. Raises ValueError where it does not exist or has no elements."""
    (axis,) = normalize_axes(op, axis, tensor.ndim)
    if tensor.shape[axis] == 0:
        raise ValueError(f"{op}: expected at least one element along axis {axis}, got shape {tensor.shape}")
    return axis


def pair(op: str, name: str, value: int | tuple[int, int], least: int) -> tuple[int, int]:
    """An int or a pair (vertical, horizontal) as a pair. Raises ValueError below `least`."""
    two = (value, value) if isinstance(value, int) else tuple(value)
    if len(two) != 2 or min(two) < least:
        raise ValueError(f"{op}: expected {name} to be an int or a pair of ints, each at least {least}, got {value}")
    return two
