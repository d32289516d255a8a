"""The backend for NVIDIA GPUs: CuPy. This package is the only one that imports cupy.

CUPY_TF32=1 in the environment lets cuBLAS round the inputs of float32 products to 10 bits of mantissa, several times
as fast on recent GPUs. CuPy reads it once: it must be set before the first product, so before this backend is made.
"""

from typing import Any

import numpy as np

from minissl.backend.base import Array, Backend, Pool
from minissl.backend.gpu import communication, convolution, elementwise, normalization, pooling, tokens
from minissl.backend.windows import Window

INSTALL = (
    "install CuPy for your CUDA version: pip install 'minissl[gpu12]' for CUDA 12, 'minissl[gpu13]' for CUDA 13 "
    "(nvidia-smi prints the version)"
)
LIBRARIES = (
    "CuPy needs cuBLAS and NVRTC of the CUDA toolkit, which pip brings too: pip install 'cupy-cuda12x[ctk]' for "
    "CUDA 12, 'cupy-cuda13x[ctk]' for CUDA 13"
)


class CupyBackend(Backend):
    """Arrays on the current CUDA device: the textbook kernels of Backend, and faster forms of those that gain.

    Making one finds out whether CuPy can compute here. Raises ImportError (CuPy is not installed, or cannot be
    imported) or RuntimeError (no driver or device, or libraries of the toolkit are missing), with reason and remedy.
    """

    name = "cupy"

    def __init__(self) -> None:
        self.xp = _import_cupy()
        if not self.xp.cuda.is_available():
            raise RuntimeError(f"no CUDA driver or device: {_why_no_device(self.xp)}")
        communication.choose_device(self.xp)
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

    def gelu(self, x: Array) -> Array:
        return elementwise.gelu(self.xp, x)

    def gelu_gradient(self, g: Array, x: Array) -> Array:
        return elementwise.gelu_gradient(self.xp, g, x)

    def conv2d(self, x: Array, w: Array, window: Window, groups: int = 1) -> Array:
        if groups > 1:
            return super().conv2d(x, w, window, groups)
        return convolution.conv2d(self.xp, x, w, window)

    def conv2d_input_gradient(
        self, g: Array, w: Array, shape: tuple[int, ...], window: Window, groups: int = 1
    ) -> Array:
        if groups > 1:
            return super().conv2d_input_gradient(g, w, shape, window, groups)
        return convolution.input_gradient(self.xp, g, w, shape, window)

    def conv2d_weight_gradient(self, x: Array, g: Array, window: Window, groups: int = 1) -> Array:
        if groups > 1:
            return super().conv2d_weight_gradient(x, g, window, groups)
        return convolution.weight_gradient(self.xp, x, g, window)

    def max_pool2d(self, x: Array, window: Window) -> Array:
        return pooling.max_pool2d(self.xp, x, window)

    def max_pool2d_gradient(self, g: Array, x: Array, y: Array, window: Window) -> Array:
        return pooling.max_pool2d_gradient(self.xp, g, x, y, window)

    def attention(self, q: Array, k: Array, v: Array, allowed: Array | None) -> tuple[Array, Array]:
        return tokens.attention(self.xp, q, k, v, allowed)

    def attention_gradient(self, g: Array, q: Array, k: Array, v: Array, P: Array) -> tuple[Array, Array, Array]:
        return tokens.attention_gradient(self.xp, g, q, k, v, P)

    def layer_norm(self, x: Array, gamma: Array, beta: Array, epsilon: float) -> Array:
        return tokens.layer_norm(self.xp, x, gamma, beta, epsilon)

    def layer_norm_gradient(self, g: Array, x: Array, gamma: Array, epsilon: float) -> tuple[Array, Array, Array]:
        return tokens.layer_norm_gradient(self.xp, g, x, gamma, epsilon)

    def batch_norm(
        self, x: Array, gamma: Array, beta: Array, epsilon: float, relu: bool = False, pool: Pool | None = None
    ) -> tuple[Array, Array, Array]:
        return normalization.batch_norm(self.xp, x, gamma, beta, epsilon, relu, pool)

    def batch_norm_gradient(
        self,
        g: Array,
        x: Array,
        gamma: Array,
        beta: Array,
        mean: Array,
        variance: Array,
        epsilon: float,
        relu: bool = False,
        pool: Pool | None = None,
    ) -> tuple[Array, Array, Array]:
        return normalization.batch_norm_gradient(self.xp, g, x, gamma, beta, mean, variance, epsilon, relu, pool)


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
