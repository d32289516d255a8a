"""Crops, flips and quarter turns: where each pixel goes. An image from above has no up: any turn keeps its label."""

from minissl.augment.arguments import Generator, change_some, check_bounds, checked, choose
from minissl.augment.filtering import height_and_width, interpolation_matrix, separable
from minissl.backend import Array

TRIES = 10


def random_boxes(
    rng: Generator, count: int, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Array, Array, Array, Array]:
    """The top, left, height and width of `count` random boxes in an image: four integer host arrays (count,).

    As torchvision draws them: an area uniform in `scale` (a part of the image), width/height log-uniform in `ratio`,
    the first of ten tries that fits, placed uniformly; where none fits, the largest central box within `ratio`.
    """
    area = rng.uniform(*scale, (count, TRIES)) * (height * width)
    aspect = ratio[0] * (ratio[1] / ratio[0]) ** rng.random((count, TRIES))
    heights, widths = ((area / aspect) ** 0.5).round().astype(int), ((area * aspect) ** 0.5).round().astype(int)
    fits = (heights >= 1) & (heights <= height) & (widths >= 1) & (widths <= width)  # (count, TRIES)

    first = fits.argmax(axis=1)
    h, w = heights[range(count), first], widths[range(count), first]
    none = ~fits.any(axis=1)
    h[none] = min(height, max(1, round(width / ratio[0])))
    w[none] = min(width, max(1, round(height * ratio[1])))

    # Not rng.integers: at times it draws again, depending on its bounds. A second sensor of another resolution, given
    # a generator in the same state, would from there on be augmented otherwise than the first.
    top, left = ((rng.random(count) * room).astype(int) for room in (height - h + 1, width - w + 1))
    top[none], left[none] = (height - h[none]) // 2, (width - w[none]) // 2
    return top, left, h, w


def random_resized_crop(
    images: Array,
    rng: Generator,
    size: int | tuple[int, int] | None = None,
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Array:
    """Crop each image (N, H, W, C) to a random box of its own and resize that to `size` (Szegedy 2015; SimCLR).

    `scale` bounds the box's part of the image's area, `ratio` its width over its height; `size` is a number of pixels
    or (height, width), by default that of the images. Bilinear with antialiasing. Two small `scale`s beside two large
    ones are SwAV's multi-crop.
    """
    place, images = checked("random_resized_crop", images)
    check_bounds("random_resized_crop", "scale", scale, highest=1)
    check_bounds("random_resized_crop", "ratio", ratio)
    N, H, W, _ = images.shape
    rows, columns = height_and_width("random_resized_crop", (H, W) if size is None else size)
    top, left, height, width = (place.to_device(a) for a in random_boxes(rng, N, H, W, scale, ratio))
    return separable(interpolation_matrix(top, height, rows, H), interpolation_matrix(left, width, columns, W), images)


def horizontal_flip(images: Array, rng: Generator, probability: float = 0.5) -> Array:
    """Mirror some images left to right."""
    place, images = checked("horizontal_flip", images)
    indices = choose("horizontal_flip", rng, len(images), probability)
    backwards = place.xp.arange(images.shape[2] - 1, -1, -1)
    # `take` moves whole pixels, which is twice as fast as copying the view [:, :, ::-1].
    return change_some(images, indices, lambda chosen: place.xp.take(chosen, backwards, 2))


def vertical_flip(images: Array, rng: Generator, probability: float = 0.5) -> Array:
    """Mirror some images top to bottom."""
    _, images = checked("vertical_flip", images)
    indices = choose("vertical_flip", rng, len(images), probability)
    return change_some(images, indices, lambda chosen: chosen[:, ::-1])


def quarter_turns(images: Array, rng: Generator) -> Array:
    """Turn each (square) image by 0, 90, 180 or 270 degrees, with equal chances. No pixel changes its value."""
    place, images = checked("quarter_turns", images)
    if images.shape[1] != images.shape[2]:
        raise ValueError(
            f"quarter_turns: expected square images, got {images.shape}; crop them to squares, or use flips"
        )
    turns = rng.integers(0, 4, len(images))
    result = images.copy()
    for k in (1, 2, 3):
        chosen = place.to_device((turns == k).nonzero()[0])
        result[chosen] = place.xp.rot90(images[chosen], k, (1, 2))
    return result
