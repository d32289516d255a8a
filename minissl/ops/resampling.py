"""Other image sizes: adaptive pooling and upsampling of (N, H, W, C), as one matrix for rows and one for columns.

Both are linear and separable, y = R x Kᵀ, so that the derivative is Rᵀ dy K. The matrices are small and depend on the
sizes only.
"""

from typing import Any

from minissl import backend
from minissl.backend import Array
from minissl.ops.checks import dimensions, floating, pair
from minissl.ops.shaping import broadcast_to, reshape
from minissl.tensor import Tensor, record


def separable(rows: Array, columns: Array, x: Array) -> Array:
    """R x Kᵀ: (h, H), (w, W), (N, H, W, C) -> (N, h, w, C)."""
    home = backend.of(x)
    N, H, W, C = x.shape
    tall = home.matmul(rows, x.reshape(N, H, W * C)).reshape(-1, W, C)  # (N·h, W, C)
    return home.matmul(columns, tall).reshape(N, len(rows), len(columns), C)


def _apply(x: Tensor, rows: Array, columns: Array) -> Tensor:
    return record(separable(rows, columns, x.data), (x, lambda g: separable(rows.T, columns.T, g)))


def adaptive_average_pool2d(x: Any, size: int | tuple[int, int]) -> Tensor:
    """Means over `size` bins of (nearly) equal height and width: (N, H, W, C) -> (N, h, w, C).

    Bin i covers rows ⌊iH/h⌋ to ⌈(i + 1)H/h⌉ − 1: neighbours share a row where H is no multiple of h, and rows repeat
    where h > H.
    """
    x = floating("adaptive_average_pool2d", x)
    dimensions("adaptive_average_pool2d", x, "N H W C")
    h, w = pair("adaptive_average_pool2d", "size", size, 1)
    if 0 in x.shape[1:3]:
        raise ValueError(f"adaptive_average_pool2d: expected images of at least one pixel, got shape {x.shape}")
    xp = backend.of(x.data).xp

    def bins(out: int, pixels: int) -> Array:
        i, j = xp.arange(out)[:, None], xp.arange(pixels)
        inside = (j >= i * pixels // out) & (j < -(-(i + 1) * pixels // out))  # (out, pixels)
        return (inside / inside.sum(axis=1, keepdims=True)).astype(x.dtype)

    return _apply(x, bins(h, x.shape[1]), bins(w, x.shape[2]))


def upsample_nearest(x: Any, factor: int) -> Tensor:
    """Every pixel as a square of factor x factor equal pixels: (N, H, W, C) -> (N, fH, fW, C)."""
    x = floating("upsample_nearest", x)
    dimensions("upsample_nearest", x, "N H W C")
    if factor < 1:
        raise ValueError(f"upsample_nearest: expected a factor of at least 1, got {factor}")
    N, H, W, C = x.shape
    squares = broadcast_to(reshape(x, (N, H, 1, W, 1, C)), (N, H, factor, W, factor, C))
    return reshape(squares, (N, H * factor, W * factor, C))


def upsample_bilinear(x: Any, size: int | tuple[int, int]) -> Tensor:
    """Bilinear interpolation to `size`: (N, H, W, C) -> (N, h, w, C), larger or smaller, without antialiasing.

    Output pixel i lies at (i + ½)H/h − ½ among the input's pixels; beyond the outermost centres the edge continues.
    """
    x = floating("upsample_bilinear", x)
    dimensions("upsample_bilinear", x, "N H W C")
    h, w = pair("upsample_bilinear", "size", size, 1)
    xp = backend.of(x.data).xp

    def triangles(out: int, pixels: int) -> Array:
        place = xp.clip((xp.arange(out) + 0.5) * (pixels / out) - 0.5, 0, pixels - 1)  # (out,)
        return xp.maximum(0, 1 - xp.abs(place[:, None] - xp.arange(pixels))).astype(x.dtype)  # (out, pixels)

    return _apply(x, triangles(h, x.shape[1]), triangles(w, x.shape[2]))
