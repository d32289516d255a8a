"""Crops, flips and turns, against plain loops, against torch where it is installed, and by what they must keep."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minissl import augment
from minissl.augment.filtering import interpolation_matrix, separable
from minissl.augment.geometry import random_boxes


def photo(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def triangle_loops(line, start, length, size):
    """Resize line[start : start + length] to `size` numbers, one output and one input pixel at a time."""
    step = length / size
    support = max(step, 1.0)
    out = []
    for i in range(size):
        centre = (i + 0.5) * step
        total = weight_sum = 0.0
        for j in range(length):
            weight = max(0.0, 1 - abs(j + 0.5 - centre) / support)
            total, weight_sum = total + weight * float(line[start + j]), weight_sum + weight
        out.append(total / weight_sum)
    return out


@given(st.integers(1, 20), st.integers(1, 24), st.integers(0, 5), st.integers(0, 5))
def test_interpolation_is_the_triangle_filter(length, size, before, after):
    line = photo(before + length + after)
    matrix = interpolation_matrix(np.array([before]), np.array([length]), size, len(line))
    assert matrix.dtype == np.float32 and matrix.shape == (1, size, len(line))
    np.testing.assert_allclose(matrix[0] @ line, triangle_loops(line, before, length, size), atol=2e-6)


@pytest.mark.parametrize("size", [(5, 4), (20, 31), (8, 17)])
def test_crop_resizes_the_box_it_draws(size):
    images, box = photo(3, 12, 17, 2), {"scale": (0.2, 0.9), "ratio": (0.5, 2.0)}
    out = augment.random_resized_crop(images, np.random.default_rng(3), size, **box)
    tops, lefts, heights, widths = random_boxes(np.random.default_rng(3), 3, 12, 17, **box)
    for n in range(3):
        for c in range(2):
            tall = [triangle_loops(images[n, :, j, c], tops[n], heights[n], size[0]) for j in range(17)]  # (W, h)
            tall = np.array(tall).T
            expected = [triangle_loops(tall[i], lefts[n], widths[n], size[1]) for i in range(size[0])]
            np.testing.assert_allclose(out[n, :, :, c], expected, atol=1e-5)


@pytest.mark.parametrize("size", [(7, 9), (13, 30), (40, 11)])
def test_resize_equals_torch(size):
    torch = pytest.importorskip("torch", reason="torch is the second opinion on antialiased resizing")
    images = photo(2, 13, 22, 5)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(images).permute(0, 3, 1, 2), size=size, mode="bilinear", antialias=True, align_corners=False
    )
    np.testing.assert_allclose(augment.resize(images, size), theirs.permute(0, 2, 3, 1).numpy(), atol=1e-5)


def test_whole_box_at_its_own_size_is_the_identity():
    images = photo(4, 16, 16, 3)
    same = augment.random_resized_crop(images, np.random.default_rng(0), scale=(1, 1), ratio=(1, 1))
    np.testing.assert_array_equal(same, images)
    np.testing.assert_array_equal(augment.resize(images, 16), images)


@given(st.integers(0, 2**32), st.integers(2, 40), st.integers(2, 40))
def test_boxes_lie_inside_and_keep_their_bounds(seed, height, width):
    scale, ratio = (0.2, 0.8), (3 / 4, 4 / 3)
    top, left, h, w = random_boxes(np.random.default_rng(seed), 50, height, width, scale, ratio)
    assert min(top.min(), left.min()) >= 0 and min(h.min(), w.min()) >= 1
    assert (top + h).max() <= height and (left + w).max() <= width
    if min(height, width) >= 20 and max(height, width) <= 1.3 * min(height, width):  # some try fits, and rounds little
        assert np.all(h * w / (height * width) > 0.2 * 0.85) and np.all(h * w / (height * width) < 0.8 * 1.15)
        assert np.all(w / h > 0.75 * 0.8) and np.all(w / h < 4 / 3 * 1.2)


def test_box_area_is_uniform_and_ratio_log_uniform():
    _, _, h, w = random_boxes(np.random.default_rng(0), 20_000, 1000, 1000, (0.1, 0.5), (0.5, 2.0))
    quantiles = np.linspace(0.1, 0.9, 9)
    np.testing.assert_allclose(np.quantile(h * w / 1e6, quantiles), 0.1 + 0.4 * quantiles, atol=0.01)
    np.testing.assert_allclose(np.quantile(np.log(w / h), quantiles), math.log(2) * (2 * quantiles - 1), atol=0.04)


def test_box_where_nothing_fits_is_the_largest_central_one():
    top, left, h, w = random_boxes(np.random.default_rng(0), 3, 10, 100, (1, 1), (3 / 4, 4 / 3))
    assert set(zip(top, left, h, w, strict=True)) == {(0, 43, 10, 13)}


@pytest.mark.parametrize("flip, axis", [(augment.horizontal_flip, 1), (augment.vertical_flip, 0)])
def test_flips(flip, axis):
    images = photo(40, 5, 7, 3)
    once = flip(images, np.random.default_rng(1))
    np.testing.assert_array_equal(flip(once, np.random.default_rng(1)), images)
    mirrored = np.flip(images, axis + 1)
    changed = np.array([not np.array_equal(a, b) for a, b in zip(once, images, strict=True)])
    assert 8 < changed.sum() < 32
    np.testing.assert_array_equal(once[changed], mirrored[changed])
    np.testing.assert_array_equal(flip(images, np.random.default_rng(1), probability=1), mirrored)


def test_quarter_turns_are_rot90_of_each_image():
    images = photo(40, 6, 6, 2)
    turned = augment.quarter_turns(images, np.random.default_rng(2))
    counts = np.zeros(4)
    for before, after in zip(images, turned, strict=True):
        counts += [np.array_equal(np.rot90(before, k), after) for k in range(4)]
    assert counts.sum() == 40 and counts.min() > 2
    with pytest.raises(ValueError, match="square"):
        augment.quarter_turns(photo(1, 4, 5, 1), np.random.default_rng(0))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"scale": (0.5, 0.2)}, "scale"),
        ({"scale": (0.5, 1.5)}, "scale"),
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"ratio": (2, 1)}, "ratio"),
        ({"size": -3}, "size"),
        ({"size": 0}, "size"),
        ({"size": (4, 0)}, "size"),
    ],
)
def test_crop_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=f"random_resized_crop: {message}"):
        augment.random_resized_crop(photo(1, 4, 4, 3), np.random.default_rng(0), **arguments)


def test_separable_shares_one_matrix_between_images():
    rows, columns, images = photo(1, 3, 5), photo(1, 2, 4), photo(6, 5, 4, 3)
    expected = np.einsum("hy,nyxc,wx->nhwc", rows[0], images, columns[0])
    np.testing.assert_allclose(separable(rows, columns, images), expected, rtol=1e-5)
