"""The backend for NVIDIA GPUs: CuPy. This package is the only one that imports cupy."""

from typing import Any

import numpy as np

from minissl.backend.base import Array, Backend

INSTALL = (
    "install CuPy for your CUDA version: pip install 'minissl[gpu12]' for CUDA 12, 'minissl[gpu13]' for CUDA 13 "
    "(nvidia-smi prints the version)"
)
LIBRARIES = (
    "CuPy needs cuBLAS and NVRTC of the CUDA toolkit, which pip brings too: pip install 'cupy-cuda12x[ctk]' for "
    "CUDA 12, 'cupy-cuda13x[ctk]' for CUDA 13"
)


class CupyBackend(Backend):
    """Arrays on the current CUDA device. The kernels are the textbook forms of Backend, run by CuPy.

    Making one finds out whether CuPy can compute here. Raises ImportError (CuPy is not installed, or cannot be
    imported) or RuntimeError (no driver or device, or libraries of the toolkit are missing), with reason and remedy.
    """

    name = "cupy"

    def __init__(self) -> None:
        self.xp = _import_cupy()
        if not self.xp.cuda.is_available():
            raise RuntimeError(f"no CUDA driver or device: {_why_no_device(self.xp)}")
        try:
            _compute_something(self.xp)
        except Exception as error:  # CuPy has a dozen kinds, by the library that failed; any of them means the same
            reason = f"{type(error).__name__}: {error}"
            raise RuntimeError(f"a first computation on the GPU failed ({reason}); {LIBRARIES}") from error

    def to_host(self, array: Array) -> np.ndarray:
        """Copy to host memory, after waiting for the device. A NumPy array is returned as it is."""
        return array.get() if isinstance(array, self.xp.ndarray) else np.asarray(array)

    def to_device(self, array: Any) -> Array:
        """Copy to the current device. An array that is there already is returned as it is."""
        return self.xp.asarray(array)

    def synchronize(self) -> None:
        """Wait until the device has computed everything that was asked for."""
        self.xp.cuda.get_current_stream().synchronize()


def _import_cupy() -> Any:
    """The module cupy. ImportError says whether it is missing or broken."""
    try:
        import cupy
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "cupy"
        found = "CuPy is not installed" if missing else f"CuPy is installed but its import fails ({error})"
        raise ImportError(f"{found}; {INSTALL}") from error
    return cupy


def _why_no_device(cupy: Any) -> str:
    """What the CUDA runtime itself says, as `is_available` keeps it to itself."""
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        return f"{error}; install or update NVIDIA's driver until nvidia-smi lists the GPU"
    return f"the driver lists {count} devices; check nvidia-smi and CUDA_VISIBLE_DEVICES"


def _compute_something(cupy: Any) -> None:
    """A matrix product needs cuBLAS, the addition a kernel compiled by NVRTC; reading the sum waits for both."""
    ones = cupy.ones((2, 2), dtype=cupy.float32)
    total = float((ones @ ones + ones).sum())
    if total != 12:
        raise ArithmeticError(f"four times three came out as {total}")
