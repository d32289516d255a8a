"""Multi-crop: as many crops of each size as asked for, each of a part of the image within its bounds."""

from typing import Any

import numpy as np
import pytest

from minissl import augment, backend
from minissl.augment import multi_crop


def places(count: int, side: int) -> np.ndarray:
    """Images of two channels, which say of every pixel how far down and how far right it lies: (N, side, side, 2)."""
    line = (np.arange(side, dtype=np.float32) + 0.5) / side
    image = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1)
    return np.broadcast_to(image, (count, side, side, 2))


def shown(crop: np.ndarray) -> np.ndarray:
    """The part of the image's area (N,) that crops of `places` show."""
    side = crop.shape[1]
    extent = lambda low, high: (high - low) * side / (side - 1)  # between the middles of the outermost pixels
    return extent(crop[:, 0, 0, 0], crop[:, -1, 0, 0]) * extent(crop[:, 0, 0, 1], crop[:, 0, -1, 1])


def test_counts_and_sizes() -> None:
    crops = multi_crop(places(3, 64), np.random.default_rng(0))
    assert [crop.shape for crop in crops] == [(3, 64, 64, 2)] * 2 + [(3, 32, 32, 2)] * 4
    assert all(crop.dtype == np.float32 for crop in crops)
    one = multi_crop(places(3, 8), np.random.default_rng(0), (5,), (1,), ((0.5, 1.0),))
    assert [crop.shape for crop in one] == [(3, 5, 5, 2)]


def test_each_kind_keeps_its_own_scale() -> None:
    crops = multi_crop(places(200, 64), np.random.default_rng(0), (32, 16), (2, 1), ((0.5, 0.9), (0.1, 0.3)))
    for crop, (low, high) in zip(crops, [(0.5, 0.9)] * 2 + [(0.1, 0.3)], strict=True):
        parts = shown(crop)
        assert 0.9 * low < parts.min() < 1.15 * low and 0.9 * high < parts.max() < 1.1 * high


def test_all_crops_of_an_image_differ_and_the_same_seed_repeats_them() -> None:
    crops = multi_crop(places(4, 32), np.random.default_rng(0), (16, 16), (2, 2), ((0.2, 0.5), (0.2, 0.5)))
    for i in range(4):
        for j in range(i):
            assert (np.abs(crops[i] - crops[j]).reshape(4, -1).max(axis=1) > 0).all()
    again = multi_crop(places(4, 32), np.random.default_rng(0), (16, 16), (2, 2), ((0.2, 0.5), (0.2, 0.5)))
    np.testing.assert_array_equal(np.stack(crops), np.stack(again))


def test_one_kind_is_so_many_random_crops() -> None:
    images = np.random.default_rng(1).random((3, 12, 12, 1), dtype=np.float32)
    rng = np.random.default_rng(0)
    expected = [augment.random_resized_crop(images, rng, 8, (0.3, 0.6)) for _ in range(3)]
    found = multi_crop(images, np.random.default_rng(0), (8,), (3,), ((0.3, 0.6),))
    np.testing.assert_array_equal(np.stack(found), np.stack(expected))


def test_the_same_crops_on_a_device(cupy: backend.Backend) -> None:
    images = np.random.default_rng(1).random((3, 12, 12, 3), dtype=np.float32)
    found = multi_crop(cupy.to_device(images), np.random.default_rng(0), (8, 4))
    expected = multi_crop(images, np.random.default_rng(0), (8, 4))
    for there, here in zip(found, expected, strict=True):
        assert isinstance(there, cupy.xp.ndarray)
        np.testing.assert_allclose(cupy.to_host(there), here, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": (64,)}, "multi_crop: expected one size, one count of at least 1 and one scale for each kind"),
        ({"counts": (2, 0)}, "multi_crop: .* counts \\(2, 0\\)"),
        ({"sizes": (), "counts": (), "scales": ()}, "multi_crop: .* sizes \\(\\)"),
        ({"scales": ((0.5, 0.2), (0.1, 0.2))}, "random_resized_crop: scale"),
    ],
)
def test_what_cannot_be_cropped_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        multi_crop(places(1, 8), np.random.default_rng(0), **arguments)
