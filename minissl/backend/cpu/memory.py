"""Memory for large results, used again and again within a training run.

The system zeroes every page that a process touches for the first time, and steps want the same sizes over and over: in
a ViT's step fresh pages cost an eighth of the time. So within `reuse()` the memory of a large array, once nobody holds
the array or a view of it, is kept for the next array of its size. The price: a ResNet's step peaks a quarter higher.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

LARGE = 1 << 19  # bytes; smaller arrays come cheaply from the allocator's own stock

_stock: dict[int, list[np.ndarray]] | None = None  # idle memory by its size in bytes; None outside `reuse`


@contextmanager
def reuse() -> Iterator[None]:
    """Keep the memory of large arrays for others of their size until the block ends. A block inside another is free."""
    global _stock
    if _stock is not None:
        yield
        return
    _stock = {}
    try:
        yield
    finally:
        _stock = None


class _Loan:
    """The base of an array made by `empty`, held by it and its views: when the last goes, the memory comes back."""

    __slots__ = ("__array_interface__", "home", "memory")

    def __init__(self, memory: np.ndarray, home: list[np.ndarray], shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.memory, self.home = memory, home
        self.__array_interface__ = memory.__array_interface__ | {"shape": shape, "typestr": dtype.str}

    def __del__(self) -> None:
        self.home.append(self.memory)


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """As numpy.empty; within `reuse`, from memory that has been used before where there is some."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if _stock is None or size < LARGE:
        return np.empty(shape, dtype)
    idle = _stock.setdefault(size, [])
    try:
        memory = idle.pop()
    except IndexError:  # none, or another thread was faster
        memory = np.empty(size, np.uint8)
    return np.asarray(_Loan(memory, idle, shape, dtype))
