"""What every augmentation asks of its arguments, and how it changes some images of a batch and not the others."""

from collections.abc import Callable
from typing import Any

from minissl import backend
from minissl.backend import Array, Backend

Generator = Any  # a NumPy random generator, on the host: `minissl.random.generator()`


def checked(name: str, images: Array) -> tuple[Backend, Array]:
    """The backend that holds `images`, and the images as float32 (N, H, W, C). Raises TypeError or ValueError."""
    place = backend.of(images)
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(
            f"{name}: expected a batch of images (N, H, W, C) with nothing empty, got shape {images.shape}; "
            "a single image goes in as images[None], a grey one with a last axis of length 1"
        )
    if images.dtype.kind != "f":
        raise TypeError(f"{name}: expected float32 images in [0, 1], got {images.dtype}; call to_float(images) first")
    return place, images.astype(place.xp.float32, copy=False)


def check_bounds(name: str, argument: str, bounds: tuple[float, float], highest: float = float("inf")) -> None:
    """Raise ValueError unless `bounds` is (low, high) with 0 < low <= high <= highest."""
    low, high = bounds
    if not 0 < low <= high <= highest:
        limit = "" if highest == float("inf") else f" <= {highest:g}"
        raise ValueError(f"{name}: {argument} must be (low, high) with 0 < low <= high{limit}, got {bounds}")


def choose(name: str, rng: Generator, count: int, probability: float) -> Array:
    """The (host) indices of those of `count` images that a coin of this probability selects, each with its own toss."""
    if not 0 <= probability <= 1:
        raise ValueError(f"{name}: probability must be between 0 and 1, got {probability}")
    return (rng.random(count) < probability).nonzero()[0]


def change_some(images: Array, indices: Array, change: Callable[[Array], Array]) -> Array:
    """A copy of `images` in which those at the (host) `indices` are replaced by `change(images[indices])`."""
    result = images.copy()
    if len(indices):
        indices = backend.of(images).to_device(indices)
        result[indices] = change(images[indices])
    return result
