"""Resizing and blurring, as one matrix for the rows and one for the columns of each image.

Both are linear and separable: output = R · image · Kᵀ, with a row of weights per output pixel in R (h, H) and K (w, W).
An image of its own crop or its own blur is then a matrix of its own, and a batch is two batched matrix products, which
both backends do at full speed. The matrices are dense: meant for patches of up to some hundred pixels a side.
"""

from minissl import backend
from minissl.augment.arguments import Generator, change_some, check_bounds, checked, choose
from minissl.backend import Array


def separable(rows: Array, columns: Array, images: Array) -> Array:
    """rows (N or 1, h, H) · images (N, H, W, C) · columns (N or 1, w, W) transposed -> (N, h, w, C)."""
    N, H, W, C = images.shape
    tall = rows @ images.reshape(N, H, W * C)  # (N, h, W·C)
    return columns[:, None] @ tall.reshape(N, rows.shape[1], W, C)  # (N, 1, w, W) @ (N, h, W, C) -> (N, h, w, C)


def interpolation_matrix(start: Array, length: Array, size: int, pixels: int) -> Array:
    """Bilinear weights (N, size, pixels) that resize the pixels start ... start+length-1 of a line to `size`.

    `start` and `length` are integer arrays (N,). Output pixel i lies at c = start + (i + ½)·s with s = length/size, and
    pixel j, at j + ½, weighs max(0, 1 - |j + ½ - c| / max(s, 1)). The triangle widens with s when the line shrinks:
    the antialiasing of Pillow and of torchvision. Pixels outside the box weigh nothing; each row sums to 1.
    """
    xp = backend.of(start).xp
    start, length = (a.astype(xp.float32)[:, None, None] for a in (start, length))  # (N, 1, 1)
    step = length / size
    centre = start + (xp.arange(size, dtype=xp.float32)[:, None] + 0.5) * step  # (N, size, 1)
    middle = xp.arange(pixels, dtype=xp.float32) + 0.5  # (pixels,)
    weights = xp.maximum(1 - xp.abs(middle - centre) / xp.maximum(step, 1), 0)  # (N, size, pixels)
    weights *= (middle > start) & (middle < start + length)
    return weights / weights.sum(axis=2, keepdims=True)


def gaussian_matrix(sigma: Array, pixels: int) -> Array:
    """Weights (N, pixels, pixels) exp(-(i - j)² / 2σ²) of a blur by `sigma` (N,) pixels; each row sums to 1.

    Rows near the border are made of the pixels that exist (torchvision mirrors the image there instead).
    """
    xp = backend.of(sigma).xp
    place = xp.arange(pixels, dtype=xp.float32)
    exponent = -0.5 * ((place[:, None] - place) / sigma[:, None, None]) ** 2  # (N, pixels, pixels)
    # Beyond e^-20 a weight is lost in float32; left in, the subnormal ones would slow the matrix product.
    weights = xp.where(exponent > -20, xp.exp(exponent), 0)
    return weights / weights.sum(axis=2, keepdims=True)


def height_and_width(name: str, size: int | tuple[int, int]) -> tuple[int, int]:
    """`size` as (height, width); one number means a square. Raises ValueError when it is not positive."""
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(f"{name}: size must be a positive number of pixels or a pair of them, got {size}")
    return height, width


def resize(images: Array, size: int | tuple[int, int]) -> Array:
    """All images (N, H, W, C) resized to `size` (pixels, or (height, width)): bilinear, with antialiasing."""
    place, images = checked("resize", images)
    zero = place.xp.zeros(1, dtype=place.xp.int64)
    rows, columns = (
        interpolation_matrix(zero, zero + pixels, wanted, pixels)  # (1, wanted, pixels): the same for every image
        for wanted, pixels in zip(height_and_width("resize", size), images.shape[1:3], strict=True)
    )
    return separable(rows, columns, images)


def gaussian_blur(
    images: Array, rng: Generator, sigma: tuple[float, float] = (0.1, 2.0), probability: float = 0.5
) -> Array:
    """Blur some images, each by a σ of its own, uniform between the bounds `sigma` and in pixels (SimCLR, Chen 2020).

    SimCLR's bounds are those for 224 pixels a side: on small patches the same σ removes more.
    """
    place, images = checked("gaussian_blur", images)
    check_bounds("gaussian_blur", "sigma", sigma)
    N, H, W, _ = images.shape
    indices = choose("gaussian_blur", rng, N, probability)
    drawn = rng.uniform(*sigma, N)[indices].astype("float32")

    def blur(chosen: Array) -> Array:
        widths = place.to_device(drawn)
        rows = gaussian_matrix(widths, H)
        return separable(rows, rows if H == W else gaussian_matrix(widths, W), chosen)

    return change_some(images, indices, blur)
