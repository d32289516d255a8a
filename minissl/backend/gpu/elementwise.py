"""GELU and its gradient, one pass each.

`Backend.elementwise` and `Backend.update` stay one operation after the other here. `cupy.fuse` would make one kernel of
a function, but it keeps the numbers that the function closes over as they were at the first call. An optimizer's rate
and its bias corrections change at every step: they would stay as they were, or be compiled anew each time.
"""

from typing import Any

from minissl.backend.base import GELU_A, GELU_B, Array
from minissl.backend.gpu.kernels import Kernel, alike

# y = x (½ + ½ tanh u),  u = x (A + B x²)
GELU = Kernel(
    "gelu",
    "T x, T A, T B",
    "T y",
    "y = x * (T(0.5) + T(0.5) * tanh(x * (A + B * x * x)));",
)

# dx = g (½ + ½ t + ½ x (1 − t²) u′),  t = tanh u,  u′ = A + 3 B x²
GELU_GRADIENT = Kernel(
    "gelu_gradient",
    "T g, T x, T A, T B",
    "T dx",
    """
    const T t = tanh(x * (A + B * x * x));
    dx = g * T(0.5) * (1 + t + x * (1 - t * t) * (A + 3 * B * x * x));
    """,
)


def gelu(xp: Any, x: Array) -> Array:
    """See `Backend.gelu`."""
    y = xp.empty(x.shape, x.dtype)
    GELU(xp, x, GELU_A, GELU_B, y)
    return y


def gelu_gradient(xp: Any, g: Array, x: Array) -> Array:
    """See `Backend.gelu_gradient`."""
    g, x = alike(xp, g, x)
    dx = xp.empty(x.shape, x.dtype)
    GELU_GRADIENT(xp, g, x, GELU_A, GELU_B, dx)
    return dx
