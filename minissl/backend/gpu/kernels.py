"""How the kernels of this package are written and called.

Each is the body of a cupy.ElementwiseKernel, in C++: it runs once for every element of the outputs, all at the same
time, with `i` that element's number in reading order. An array declared `raw` is indexed by the body; any other stands
for its own element, broadcast as usual. CuPy compiles a body for the arrays' type T when it first meets that type.

Every run of a body writes its own element and gathers what belongs there, so that nothing is added by two at once:
a result has the same bits every time. Constants are T(0.5), not 0.5, which would compute in double precision.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

from minissl.backend.base import Array
from minissl.backend.windows import Window

LOWEST = -math.inf


@dataclass(frozen=True)
class Kernel:
    """inputs and outputs: CuPy's declarations, "raw T x, int32 C"; helpers: C++ functions that the body calls."""

    name: str
    inputs: str
    outputs: str
    body: str
    helpers: str = ""

    def __call__(self, xp: Any, *arguments: Any) -> None:
        """Run on the inputs, in order, then the arrays to be written. Those that are raw must be contiguous."""
        _made(xp, self)(*arguments)


@cache
def _made(xp: Any, kernel: Kernel) -> Any:
    return xp.ElementwiseKernel(
        kernel.inputs, kernel.outputs, kernel.body, f"minissl_{kernel.name}", preamble=kernel.helpers
    )


def alike(xp: Any, *arrays: Array) -> tuple[Array, ...]:
    """These arrays contiguous and of their common type, as one T demands; copies only where they are not."""
    dtype = xp.result_type(*(array.dtype for array in arrays))
    return tuple(array.astype(dtype, "C", copy=False) for array in arrays)


# Sliding windows in C++: what `geometry` passes, and where windows and pixels lie.

GEOMETRY = (
    "int32 H, int32 W, int32 C, int32 OH, int32 OW, int32 kh, int32 kw, "
    "int32 sh, int32 sw, int32 ph, int32 pw, int32 dh, int32 dw"
)


def geometry(shape: tuple[int, ...], window: Window) -> tuple[int, ...]:
    """The arguments for GEOMETRY, of images (N, H, W, C)."""
    _, H, W, C = shape
    return (H, W, C, *window.outputs(H, W), *window.size, *window.stride, *window.padding, *window.dilation)


INSIDE = """
// Whether pixel (h, w) lies in the image, not in its border.
__device__ bool inside(int h, int w, int H, int W) { return 0 <= h && h < H && 0 <= w && w < W; }
"""

READER = """
// Which of the windows has its tap p at pixel h (along one axis), or -1:  h = window * stride + p * dilation - padding.
__device__ int reader(int h, int p, int stride, int padding, int dilation, int windows) {
    int start = h + padding - p * dilation;
    return start >= 0 && start % stride == 0 && start / stride < windows ? start / stride : -1;
}
"""
