"""Reading and adding at places that other arrays name."""

from typing import Any

from minissl import backend
from minissl.ops.checks import normalize_axes, one_backend
from minissl.ops.shaping import getitem, on_backend
from minissl.tensor import Tensor, as_tensor, record


def embedding(table: Any, index: Any) -> Tensor:
    """Rows of a table (K, D) by their numbers: -> (*index.shape, D). A row read twice receives both gradients.

    Raises ValueError for a number outside 0..K−1 (CuPy would wrap it around without a word).
    """
    table = as_tensor(table)
    numbers = on_backend(index if hasattr(index, "dtype") else as_tensor(index).data, backend.of(table.data))
    if table.ndim != 2 or numbers.dtype.kind not in "iu":
        raise ValueError(f"embedding: expected a table (K, D) and integers, got {table.shape} and {numbers.dtype}")
    if numbers.size and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(table):
        raise ValueError(f"embedding: expected numbers from 0 to {len(table) - 1}, got some outside")
    return getitem(table, numbers)


def take_along_axis(x: Any, index: Any, axis: int) -> Tensor:
    """y[..., i, ...] = x[..., index[..., i, ...], ...] along an axis: one index for every other place.

    index has x's shape except along the axis. Its numbers must lie in 0..n−1.
    """
    x = as_tensor(x)
    (axis,) = normalize_axes("take_along_axis", axis, x.ndim)
    numbers = as_tensor(index).data
    if numbers.dtype.kind not in "iu" or numbers.ndim != x.ndim:
        raise ValueError(f"take_along_axis: expected integers with {x.ndim} axes, got {numbers.dtype} {numbers.shape}")
    others = tuple(n for i, n in enumerate(x.shape) if i != axis)
    if tuple(n for i, n in enumerate(numbers.shape) if i != axis) != others:
        raise ValueError(
            f"take_along_axis: expected an index of shape {x.shape} except along axis {axis}, got {numbers.shape}"
        )
    xp = backend.of(x.data).xp
    key = tuple(
        numbers if i == axis else xp.arange(n).reshape((-1,) + (1,) * (x.ndim - 1 - i)) for i, n in enumerate(x.shape)
    )
    return getitem(x, key)


def scatter_add(x: Any, key: Any, values: Any) -> Tensor:
    """x with `values` added at x[key]; a place that is named twice receives both.  dx = dy, dvalues = dy[key]."""
    x, values = as_tensor(x), as_tensor(values)
    home = one_backend("scatter_add", x, values)
    key = on_backend(key, home)
    try:
        shape = x.data[key].shape
    except IndexError as error:
        raise IndexError(f"scatter_add: expected an index into shape {x.shape}, got {key!r}: {error}") from error
    if shape != values.shape:
        raise ValueError(f"scatter_add: expected values of shape {shape} at this key, got {values.shape}")
    result = x.data.copy()
    home.scatter_add(result, key, values.data.astype(result.dtype))
    return record(result, (x, lambda g: g), (values, lambda g: g[key]))
