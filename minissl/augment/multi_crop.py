"""Multi-crop: a few large crops of each image and more small ones, which cost a fraction of a large one each."""

from collections.abc import Sequence

from minissl.augment.arguments import Generator
from minissl.augment.geometry import random_resized_crop
from minissl.backend import Array


def multi_crop(
    images: Array,
    rng: Generator,
    sizes: Sequence[int] = (64, 32),
    counts: Sequence[int] = (2, 4),
    scales: Sequence[tuple[float, float]] = ((0.25, 1.0), (0.05, 0.25)),
) -> list[Array]:
    """Crops of every image (N, H, W, C), as Σ counts arrays: counts[i] of (N, sizes[i], sizes[i], C) for each i.

    scales[i] bounds the part of the image's area that a crop of kind i shows. Small crops show a part in few pixels: to
    predict from them what the large ones show is to learn what belongs together, and 4 of half the side cost as much
    as one large crop. Raises ValueError unless sizes, counts and scales are of one length, for counts below 1, and as
    `random_resized_crop` does.

    (Caron et al., 2020, "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments")
    """
    if not len(sizes) == len(counts) == len(scales) >= 1 or min(counts) < 1:
        raise ValueError(
            "multi_crop: expected one size, one count of at least 1 and one scale for each kind of crop, "
            f"got sizes {tuple(sizes)}, counts {tuple(counts)} and scales {tuple(scales)}"
        )
    return [
        random_resized_crop(images, rng, size, scale)
        for size, count, scale in zip(sizes, counts, scales, strict=True)
        for _ in range(count)
    ]
