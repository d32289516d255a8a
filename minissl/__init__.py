"""minissl: a small autodiff engine on NumPy or CuPy, and self-supervised learning for Earth observation on it."""

__version__ = "0.1.0.dev0"
