"""Jitter, grey and solarisation, against plain loops over pixels and by what they must keep."""

import math

import numpy as np
import pytest

from minissl import augment
from minissl.augment.color import LUMA, QUARTER_TURN

NO_CHANGE = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "probability": 1}


def photo(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


class Fixed:
    """A generator whose every draw is given: each image is chosen, and uniform() returns the next of `values`."""

    def __init__(self, *values):
        self.values = iter(values)

    def random(self, count):
        return np.zeros(count)

    def uniform(self, low, high, count):
        return np.full(count, next(self.values))


def jittered(images, brightness=1.0, contrast=1.0, saturation=1.0, turn=0.0):
    drawn = Fixed(brightness, contrast, saturation, turn)
    return augment.color_jitter(images, drawn, 1, 1, 1, hue=None, probability=1)


def loops(image, brightness, contrast, saturation, turn):
    """The four steps on one RGB image, a pixel at a time; the hue by way of YIQ and back."""
    to_yiq = np.array([LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
    rotation = np.array([[1, 0, 0], [0, math.cos(turn), math.sin(turn)], [0, -math.sin(turn), math.cos(turn)]])
    pixels = [brightness * pixel.astype(float) for pixel in image.reshape(-1, 3)]
    mean = sum(pixel @ LUMA for pixel in pixels) / len(pixels)
    out = []
    for pixel in pixels:
        pixel = contrast * pixel + (1 - contrast) * mean
        pixel = saturation * pixel + (1 - saturation) * (pixel @ LUMA)
        pixel = np.linalg.solve(to_yiq, rotation @ (to_yiq @ pixel))
        out.append(np.clip(pixel, 0, 1))
    return np.reshape(out, image.shape)


@pytest.mark.parametrize(
    "factors",
    [(1.3, 1, 1, 0), (1, 0.6, 1, 0), (1, 1.4, 1, 0), (1, 1, 0.3, 0), (1, 1, 1, 0.15), (0.8, 1.2, 1.3, -0.08)],
)
def test_jitter_equals_its_steps(factors):
    images, (b, c, s, turn) = photo(2, 5, 6, 3), factors
    expected = [loops(image, b, c, s, turn * math.tau) for image in images]
    np.testing.assert_allclose(jittered(images, b, c, s, turn), expected, atol=2e-4)  # the YIQ matrix has 6 digits


@pytest.mark.parametrize("channels", [1, 2, 3, 13])
def test_jitter_of_strength_zero_is_the_identity(channels):
    images = photo(3, 6, 5, channels)
    np.testing.assert_allclose(augment.color_jitter(images, np.random.default_rng(0), **NO_CHANGE), images, atol=1e-6)


@pytest.mark.parametrize("channels", [2, 3, 13])
def test_single_factors(channels):
    images = photo(2, 6, 5, channels) / 2
    np.testing.assert_allclose(jittered(images, brightness=1.5), 1.5 * images, atol=1e-6)
    grey = jittered(images, saturation=0)
    np.testing.assert_allclose(grey, grey[..., :1].repeat(channels, axis=-1), atol=1e-6)
    np.testing.assert_allclose(grey, augment.grayscale(images, np.random.default_rng(0), 1), atol=1e-6)
    mean_grey = np.broadcast_to(grey.mean(axis=(1, 2, 3), keepdims=True), images.shape)
    np.testing.assert_allclose(jittered(images, contrast=0), mean_grey, atol=1e-5)


def test_hue_turns_in_a_circle_and_keeps_luma_and_grey():
    images = 0.4 + photo(2, 6, 5, 3) / 5  # far enough from 0 and 1 that no turn is clipped
    np.testing.assert_allclose(jittered(images, turn=1.0), images, atol=1e-5)
    np.testing.assert_allclose(jittered(jittered(images, turn=0.5), turn=0.5), images, atol=1e-5)
    turned = jittered(images, turn=0.2)
    assert np.abs(turned - images).mean() > 0.01
    np.testing.assert_allclose(turned @ np.float32(LUMA), images @ np.float32(LUMA), atol=1e-5)
    grey = augment.grayscale(images, np.random.default_rng(0), 1)
    np.testing.assert_allclose(jittered(grey, turn=0.2), grey, atol=1e-5)
    quarter = np.array(QUARTER_TURN)
    np.testing.assert_allclose(quarter @ quarter, np.outer(LUMA, [1, 1, 1]) - np.eye(3), atol=1e-6)


def test_factors_differ_between_images_and_stay_in_their_bounds():
    images = np.full((500, 2, 2, 1), 0.4, np.float32)
    out = augment.color_jitter(images, np.random.default_rng(0), 0.5, 0, 0, probability=1)[:, 0, 0, 0] / 0.4
    np.testing.assert_allclose(np.quantile(out, [0, 0.5, 1]), [0.5, 1, 1.5], atol=0.05)


def test_jitter_says_what_is_wrong():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="hue is defined for the 3 channels of RGB, got 13"):
        augment.color_jitter(photo(1, 2, 2, 13), rng, hue=0.1)
    with pytest.raises(ValueError, match="negative"):
        augment.color_jitter(photo(1, 2, 2, 3), rng, contrast=-1)
    with pytest.raises(ValueError, match="hue above"):
        augment.color_jitter(photo(1, 2, 2, 3), rng, hue=0.6)


@pytest.mark.parametrize("channels, weights", [(3, LUMA), (2, [1 / 2] * 2), (13, [1 / 13] * 13)])
def test_grayscale(channels, weights):
    images = photo(2, 4, 5, channels)
    grey = augment.grayscale(images, np.random.default_rng(0), probability=1)
    for n, i, j in np.ndindex(2, 4, 5):
        expected = sum(w * v for w, v in zip(weights, images[n, i, j], strict=True))
        np.testing.assert_allclose(grey[n, i, j], expected, rtol=1e-5)


def test_solarize():
    images = photo(2, 4, 5, 3)
    out = augment.solarize(images, np.random.default_rng(0), threshold=0.6, probability=1)
    expected = [1 - v if v >= 0.6 else v for v in images.ravel()]
    np.testing.assert_array_equal(out.ravel(), expected)
