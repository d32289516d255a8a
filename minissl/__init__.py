"""minissl: a small autodiff engine on NumPy or CuPy, and self-supervised learning for Earth observation on it."""

from minissl import ops
from minissl.tensor import Tensor, no_grad, stop_gradient

__version__ = "0.1.0.dev0"
__all__ = ["Tensor", "no_grad", "ops", "stop_gradient"]
