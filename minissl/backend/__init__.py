"""Where arrays live: NumPy on the host, or CuPy on a GPU. The only package that knows one from the other.

backend.use("cupy")             from now on; also `with backend.use("cupy"): ...` and MINISSL_BACKEND=cupy
backend.current()               the Backend on which new tensors are made
backend.of(array)               the Backend that holds this array; ops ask it for `.xp` and for kernels
backend.to_device(array)        a host array to the current backend
backend.to_host(array)          any array to NumPy
"""

import os
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np

from minissl.backend.base import Array, Backend

__all__ = ["Array", "Backend", "BackendUnavailable", "current", "of", "reasons", "to_device", "to_host", "use"]


class BackendUnavailable(RuntimeError):
    """A backend was asked for that this machine cannot run; the message says why and what to install."""


def _numpy() -> Backend:
    from minissl.backend.cpu import NumpyBackend

    return NumpyBackend()


def _cupy() -> Backend:
    from minissl.backend.gpu import CupyBackend

    return CupyBackend()


_makers: dict[str, Callable[[], Backend]] = {"numpy": _numpy, "cupy": _cupy}
_made: dict[str, Backend] = {}
_current: Backend | None = None


def get(name: str) -> Backend:
    """The backend of this name, made on first use. Raises ValueError (no such name) or BackendUnavailable."""
    if name not in _makers:
        raise ValueError(f"backend {name!r} is not known; choose one of {', '.join(map(repr, _makers))}")
    if name not in _made:
        try:
            _made[name] = _makers[name]()
        except (ImportError, RuntimeError) as error:
            raise BackendUnavailable(f"backend {name!r} cannot run here: {error}") from error
    return _made[name]


class use:
    """Make `name` the current backend: `use("cupy")` for good, `with use("cupy"):` until the block ends."""

    def __init__(self, name: str) -> None:
        global _current
        self.backend, self._before = get(name), current()
        _current = self.backend

    def __enter__(self) -> Backend:
        return self.backend

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _current
        _current = self._before


def current() -> Backend:
    """The backend on which new tensors are made: the last one given to `use`, else MINISSL_BACKEND, else NumPy."""
    global _current
    if _current is None:
        _current = get(os.environ.get("MINISSL_BACKEND", "numpy"))
    return _current


def of(array: Array) -> Backend:
    """The backend that holds `array`. Raises TypeError for anything that is not an array of a backend in use."""
    for backend in _made.values():
        if isinstance(array, backend.xp.ndarray):
            return backend
    if isinstance(array, np.ndarray | np.generic):
        return get("numpy")
    raise TypeError(
        f"expected a NumPy or CuPy array, got {type(array).__name__}; make it one with `minissl.tensor.Tensor(...)`"
    )


def to_host(array: Array) -> np.ndarray:
    """Copy an array to host memory (no copy when it is there already)."""
    return of(array).to_host(array)


def to_device(array: Any) -> Array:
    """Copy a host array to the current backend (no copy when it is there already)."""
    return current().to_device(array)


def reasons() -> dict[str, str]:
    """For each backend "available", or why it cannot run here."""
    found = {}
    for name in _makers:
        try:
            get(name)
            found[name] = "available"
        except BackendUnavailable as error:
            found[name] = str(error)
    return found
