"""A stand-in for CuPy that runs on NumPy and keeps CuPy's rules, so that code for the GPU is tested without one.

    with cupy_standin.installed() as cupy:      # `import cupy` finds the stand-in until the block ends
        ...
        assert cupy_standin.TRANSFERS == []     # no value was read back to the host

It has only the names and keywords of the CuPy that make_cupy_api.py saw, and it fails where CuPy fails, or where
CuPy's result is undefined. It is stricter where CuPy is lax by accident: it never stores NumPy arrays or lists into a
device array, it makes views by broadcasting read-only, it has no x @= y, and an object that wants its own operators
used, such as a Tensor on the right of a device array, must say so by `__array_ufunc__ = None`.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tests import cupy_distributed
from tests.cupy_array import API, TRANSFERS, UPLOADS, Function, lookup, ndarray, ufunc
from tests.gpu_emulation import ElementwiseKernel

__all__ = ["TRANSFERS", "UPLOADS", "cupy", "install", "installed", "uninstall"]


class Module(ModuleType):
    """A module of CuPy's: some names are given here, the others are found in CuPy's listing when they are used."""

    def __init__(self, name: str, **given: Any) -> None:
        super().__init__(name)
        self.__dict__.update(given)

    def __getattr__(self, name: str) -> Any:
        return lookup(self.__name__, name)


class Generator:
    """CuPy's random generator, with the distributions that CuPy has; on a GPU the numbers are others."""

    def __init__(self, seed: Any = None) -> None:
        self._host = np.random.default_rng(seed)

    def __getattr__(self, name: str) -> Any:
        signature = API["cupy.random.Generator"].get(name)
        if signature is None:
            raise AttributeError(f"'Generator' object has no attribute {name!r}")
        return Function("cupy.random.Generator", name, signature, getattr(self._host, name))


class DeviceCode:
    """A whole kernel in CUDA: it can be made, as real ones are made before they are compiled, but not run."""

    def __init__(self, *source: Any, **options: Any) -> None:
        self.source, self.options = source, options

    def __call__(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError("the stand-in for CuPy cannot run device code: test this kernel on a GPU")


class Idle:
    """A Stream, an Event or a Device: everything here happens at once, so there is nothing to wait for."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.id = 0

    def __enter__(self) -> "Idle":
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing was changed on entry."""

    def synchronize(self) -> None:
        """Nothing is pending."""

    use, record = __enter__, __exit__


def asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True) -> np.ndarray:
    return a.get(stream, order, out, _="asnumpy") if isinstance(a, ndarray) else np.asarray(a, order=order)


def get_array_module(*args: Any) -> ModuleType:
    return cupy if any(isinstance(argument, ndarray) for argument in args) else np


def fuse(*args: Any, **options: Any) -> Any:
    """`@fuse` and `@fuse(kernel_name=...)`: the function as it is, one operation after the other."""
    return args[0] if args and callable(args[0]) else lambda function: function


def idle_pool() -> Any:
    """A memory pool that holds nothing."""
    return SimpleNamespace(used_bytes=int, total_bytes=int, n_free_blocks=int, free_all_blocks=lambda: None)


cuda = Module("cupy.cuda", is_available=lambda: True, get_elapsed_time=lambda start_event, end_event: 0.0)
cuda.runtime = SimpleNamespace(getDeviceCount=lambda: 1, CUDARuntimeError=type("CUDARuntimeError", (RuntimeError,), {}))
cuda.Device, cuda.Event = type("Device", (Idle,), {}), type("Event", (Idle,), {})
cuda.Stream = type("Stream", (Idle,), {"null": Idle()})
cuda.get_current_stream = lambda device_id=-1: cuda.Stream.null
stride_tricks = Module("cupy.lib.stride_tricks")
cupy = Module(
    "cupy",
    __version__=f"{API['version']}+standin",
    is_standin=True,
    ndarray=ndarray,
    ufunc=ufunc,
    cuda=cuda,
    fft=Module("cupy.fft"),
    lib=SimpleNamespace(stride_tricks=stride_tricks),
    linalg=Module("cupy.linalg"),
    random=Module("cupy.random", default_rng=lambda seed=None: Generator(seed), Generator=Generator),
    ElementwiseKernel=ElementwiseKernel,
    asnumpy=asnumpy,
    fuse=fuse,
    get_array_module=get_array_module,
    get_default_memory_pool=idle_pool,
    get_default_pinned_memory_pool=idle_pool,
    is_available=lambda: True,
    **{kernel: type(kernel, (DeviceCode,), {}) for kernel in ("ReductionKernel", "RawKernel")},
)
special = Module("cupyx.scipy.special")
scatters = {name: getattr(ndarray, name) for name in ("scatter_add", "scatter_max", "scatter_min")}
distributed = ModuleType("cupyx.distributed")
distributed.__dict__["init_process_group"] = cupy_distributed.init_process_group
cupyx = Module("cupyx", distributed=distributed, scipy=SimpleNamespace(special=special), **scatters)
MODULES = {module.__name__: module for module in (cupy, cuda, cupy.fft, stride_tricks, cupy.linalg, cupy.random)}
MODULES |= {"cupyx": cupyx, "cupyx.scipy.special": special, "cupyx.distributed": distributed}
_replaced: list[dict[str, ModuleType]] = []


def install() -> Module:
    """Let `import cupy` and `import cupyx` find the stand-in, with nothing recorded yet. Returns the module."""
    _replaced.append({name: found for name, found in sys.modules.items() if name.split(".")[0] in ("cupy", "cupyx")})
    for name in _replaced[-1]:
        del sys.modules[name]
    sys.modules.update(MODULES)
    TRANSFERS.clear()
    UPLOADS.clear()
    return cupy


def uninstall() -> None:
    """Undo the last `install`: a real CuPy comes back if it had been imported before."""
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.modules.update(_replaced.pop())


@contextmanager
def installed() -> Iterator[Module]:
    """The stand-in in place of CuPy until the block ends."""
    try:
        yield install()
    finally:
        uninstall()
