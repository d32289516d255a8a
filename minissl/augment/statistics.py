"""From stored numbers to what a network takes: floats in [0, 1], then zero mean and unit deviation per channel."""

import math
from collections.abc import Sequence

from minissl import backend
from minissl.augment.arguments import checked
from minissl.backend import Array

CHUNK = 2**22  # values read at a time: 32 MB in float64


def to_float(images: Array) -> Array:
    """uint8 images (N, H, W, C) as float32 in [0, 1]; floats stay as they are (float32). Other integers: TypeError."""
    xp = backend.of(images).xp
    if images.dtype == xp.uint8:
        return checked("to_float", images.astype(xp.float32) / 255)[1]
    if images.dtype.kind != "f":
        raise TypeError(
            f"to_float: cannot know the range of {images.dtype}; divide by the largest value yourself, "
            "such as 10,000 for Sentinel-2 reflectances"
        )
    return checked("to_float", images)[1]


def channel_statistics(images: Array) -> tuple[list[float], list[float]]:
    """Mean and (biased) standard deviation of each channel over a stack (N, H, W, C), as two lists of C numbers.

    The stack is read in chunks, so it may be memory-mapped and larger than memory. uint8 counts as [0, 1], as in
    `to_float`; other integers and floats keep their units. Chunks are merged as Chan 1979 does, in float64.
    """
    xp = backend.of(images).xp
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"channel_statistics: expected a stack (N, H, W, C) with nothing empty, got {images.shape}")
    N, H, W, C = images.shape
    step = max(1, CHUNK // (H * W * C))
    count, mean, squares = 0, xp.zeros(C), xp.zeros(C)  # squares: the sum of (x - mean)²
    for i in range(0, N, step):
        chunk = xp.asarray(images[i : i + step]).astype(xp.float64).reshape(-1, W * C)  # long rows: fast sums
        n = len(chunk) * W
        chunk_mean = chunk.sum(axis=0).reshape(W, C).sum(axis=0) / n
        chunk_squares = ((chunk - xp.tile(chunk_mean, W)) ** 2).sum(axis=0).reshape(W, C).sum(axis=0)
        difference = chunk_mean - mean
        squares = squares + chunk_squares + difference**2 * (count * n / (count + n))
        mean = mean + difference * (n / (count + n))
        count += n
    unit = 255 if images.dtype == xp.uint8 else 1
    means, deviations = (mean / unit).tolist(), (xp.sqrt(squares / count) / unit).tolist()
    if broken := [c for c in range(C) if not math.isfinite(deviations[c])]:
        raise ValueError(f"channel_statistics: channels {broken} hold NaN or infinite values; fill or drop them first")
    return means, deviations


def _rows(name: str, images: Array, mean: Sequence[float], std: Sequence[float]) -> tuple[Array, Array, Array]:
    """The images as (N, H, W·C), and mean and std repeated to (W·C,): NumPy broadcasts long rows far faster than C."""
    place, images = checked(name, images)
    N, H, W, C = images.shape
    mean, std = [float(m) for m in mean], [float(s) for s in std]
    if not len(mean) == len(std) == C:
        raise ValueError(
            f"{name}: expected {C} means and {C} deviations, one per channel, got {len(mean)} and {len(std)}"
        )
    if not all(s > 0 for s in std):
        raise ValueError(f"{name}: every deviation must be positive, got {std}; a constant channel has none: drop it")
    long_mean, long_std = (place.xp.tile(place.xp.asarray(v, place.xp.float32), W) for v in (mean, std))
    return images.reshape(N, H, W * C), long_mean, long_std


def standardize(images: Array, mean: Sequence[float], std: Sequence[float]) -> Array:
    """(x - mean) / std per channel, for images (N, H, W, C) and C numbers each: see `channel_statistics`."""
    rows, long_mean, long_std = _rows("standardize", images, mean, std)
    rows = rows - long_mean
    rows /= long_std
    return rows.reshape(images.shape)


def unstandardize(images: Array, mean: Sequence[float], std: Sequence[float]) -> Array:
    """x · std + mean per channel: undoes `standardize`."""
    rows, long_mean, long_std = _rows("unstandardize", images, mean, std)
    rows = rows * long_std
    rows += long_mean
    return rows.reshape(images.shape)
