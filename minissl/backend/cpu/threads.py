"""Several Python threads over slices of a batch, the BLAS at one thread inside each.

Copies, matrix products and ufuncs all release the interpreter lock, so plain Python threads run them side by side.
Threads inside the BLAS alone would leave everything around the matrix products serial.
MINISSL_THREADS sets how many; the default is the number of cores that this process may use.
"""

import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from minissl.backend.cpu.memory import empty

Result = TypeVar("Result")

CHUNK = 1 << 17  # elements that a slice holds, 512 KB in float32: a few of them stay in the L2 cache
WORTH_SPLITTING = 1 << 19  # elements from which handing work to a thread pays (20 µs, and 100 µs on virtual machines)

_local = threading.local()
_limit_lock = threading.Lock()
_limited = False


@cache
def count() -> int:
    """How many threads share the work."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(os.environ.get("MINISSL_THREADS", cores)))


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count() - 1, thread_name_prefix="minissl")


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold the BLAS at one thread until the block ends. Entering again inside, or beside it in a thread, is free."""
    global _limited
    with _limit_lock:  # one at a time: a second would take the limit for the original and restore that, for good
        mine, _limited = not _limited, True
    if not mine:
        yield
        return
    try:
        with _blas().limit(limits=1, user_api="blas"):
            yield
    finally:
        _limited = False


def split(work: Callable[[int, int], Result], n: int, size: int) -> list[Result]:
    """work(start, stop) over range(n) in one part per thread, or in one where `size` elements are too few to share; the
    results in order.
    """
    parts = min(count(), n)
    if parts <= 1 or size < WORTH_SPLITTING or getattr(_local, "busy", False):  # ours never waits for another
        return [work(0, n)]
    bounds = [n * i // parts for i in range(parts + 1)]

    def run(i: int) -> Result:
        _local.busy = True
        try:
            return work(bounds[i], bounds[i + 1])
        finally:
            _local.busy = False

    with one_blas_thread():
        others = [_pool().submit(run, i) for i in range(1, parts)]
        try:
            first = run(0)
        finally:  # nobody leaves while another still writes
            waiting = [other.exception() for other in others]
        for error in waiting:
            if error is not None:
                raise error
        return [first, *(other.result() for other in others)]


def chunks(start: int, stop: int, step: int) -> Iterator[slice]:
    """Slices of at most `step` that cover start..stop."""
    for a in range(start, stop, step):
        yield slice(a, min(a + step, stop))


def workspace(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """A scratch array of this thread, reused from call to call (fresh pages cost more than the work in them).

    What it holds is undefined; whoever asks for the same name again gets the same memory.
    """
    buffers: dict[str, np.ndarray] = _local.__dict__.setdefault("buffers", {})
    size = math.prod(shape) * dtype.itemsize
    buffer = buffers.get(name)
    if buffer is None or buffer.nbytes < size:
        buffer = buffers[name] = np.empty(size, np.uint8)
    return buffer[:size].view(dtype).reshape(shape)


def _alike(arrays: tuple) -> int:
    """The common size of all arrays among the arguments when they can be cut alike, else 0."""
    arrays = tuple(a for a in arrays if isinstance(a, np.ndarray))
    alike = len({a.shape for a in arrays}) == 1 and all(a.flags.c_contiguous for a in arrays)
    return arrays[0].size if alike else 0


def _flat(arrays: tuple) -> list:
    return [a.reshape(-1) if isinstance(a, np.ndarray) else a for a in arrays]


def _cut(arrays: list, s: slice) -> list:
    return [a[s] if isinstance(a, np.ndarray) else a for a in arrays]


def elementwise(function: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    """function(*arrays) slice by slice, so that its temporaries stay in cache. Numbers are passed on as they are."""
    size = _alike(arrays)
    if size < CHUNK:
        return function(*arrays)
    flat = _flat(arrays)
    shape = next(a.shape for a in arrays if isinstance(a, np.ndarray))
    out = empty(shape, np.asarray(function(*_cut(flat, slice(1)))).dtype)
    result = out.reshape(-1)

    def work(start: int, stop: int) -> None:
        for s in chunks(start, stop, CHUNK):
            if isinstance(function, np.ufunc):
                function(*_cut(flat, s), out=result[s])
            else:
                result[s] = function(*_cut(flat, s))

    split(work, size, size)
    return out


def update(function: Callable[..., None], *arrays: np.ndarray) -> None:
    """As `elementwise`, for a function that writes into its arrays."""
    size = _alike(arrays)
    if size < CHUNK:
        return function(*arrays)
    flat = _flat(arrays)

    def work(start: int, stop: int) -> None:
        for s in chunks(start, stop, CHUNK):
            function(*_cut(flat, s))

    split(work, size, size)


def products(a: np.ndarray, b: np.ndarray) -> int:
    """What a @ b costs, as a number of elements to `split`: a core adds 64 products while it passes one element."""
    return a.size * b.shape[-1] // 64


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b, each thread computing some rows of the result (or some matrices of a stack)."""
    if min(a.ndim, b.ndim) < 2 or (a.ndim > 2 and a.shape[:-2] != b.shape[:-2]):
        return np.matmul(a, b)
    if a.ndim == 2 and b.ndim > 2:
        return np.matmul(a, b)
    out = empty((*a.shape[:-1], b.shape[-1]), np.result_type(a, b))
    stacked = a.ndim > 2
    split(lambda i, j: np.matmul(a[i:j], b[i:j] if stacked else b, out=out[i:j]), len(a), products(a, b))
    return out


def linear(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """x @ w + b, each thread computing some rows and adding b while they are in its cache."""
    y = empty((len(x), w.shape[1]), np.result_type(x, w, b))
    step = max(1, 4 * CHUNK // max(1, w.shape[1]))

    def work(start: int, stop: int) -> None:
        for s in chunks(start, stop, step):
            np.matmul(x[s], w, out=y[s])
            y[s] += b

    split(work, len(x), products(x, w))
    return y


def column_sum(x: np.ndarray) -> np.ndarray:
    """Σ over the rows, each thread over some of them."""
    return np.sum(split(lambda i, j: x[i:j].sum(axis=0), len(x), x.size), axis=0)
