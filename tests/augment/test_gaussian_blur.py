"""The Gaussian blur, against a plain convolution and by what it must keep."""

import math

import numpy as np
import pytest

from minissl import augment


def photo(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def blurred(images, sigma):
    return augment.gaussian_blur(images, np.random.default_rng(0), sigma=(sigma, sigma), probability=1)


def test_equals_a_direct_convolution_in_the_interior():
    image, sigma, reach = photo(1, 23, 26, 2), 1.2, 8
    kernel = [math.exp(-(d**2) / (2 * sigma**2)) for d in range(-reach, reach + 1)]
    kernel = np.outer(kernel, kernel) / sum(kernel) ** 2
    out = blurred(image, sigma)
    for i in range(reach, 23 - reach):
        for j in range(reach, 26 - reach):
            window = image[0, i - reach : i + reach + 1, j - reach : j + reach + 1]
            np.testing.assert_allclose(out[0, i, j], np.einsum("ij,ijc->c", kernel, window), atol=1e-6)


def test_keeps_constants_range_and_mean():
    np.testing.assert_allclose(blurred(np.full((2, 9, 11, 3), 0.7, np.float32), 2.0), 0.7, rtol=1e-6)
    images = photo(3, 40, 30, 2)
    out = blurred(images, 1.0)
    assert images.min() <= out.min() and out.max() <= images.max() + 1e-6
    assert out.std() < 0.5 * images.std()
    np.testing.assert_allclose(out.mean(axis=(1, 2)), images.mean(axis=(1, 2)), atol=0.01)


def test_tiny_sigma_is_the_identity():
    images = photo(2, 12, 9, 3)
    np.testing.assert_array_equal(blurred(images, 0.1), images)


def test_each_image_has_a_sigma_of_its_own():
    """A blurred impulse of width σ keeps about 1 / 2πσ² in its centre, from which σ can be read."""
    images = np.zeros((400, 21, 21, 1), np.float32)
    images[:, 10, 10] = 1
    out = augment.gaussian_blur(images, np.random.default_rng(0), sigma=(0.8, 2.0), probability=1)
    sigma = np.sqrt(1 / (2 * math.pi * out[:, 10, 10, 0]))
    np.testing.assert_allclose(np.quantile(sigma, [0, 0.25, 0.5, 0.75, 1]), [0.8, 1.1, 1.4, 1.7, 2.0], atol=0.08)


@pytest.mark.parametrize("sigma", [(0, 1), (2, 1), (-1, 1)])
def test_wrong_sigma(sigma):
    with pytest.raises(ValueError, match="gaussian_blur: sigma"):
        augment.gaussian_blur(photo(1, 4, 4, 1), np.random.default_rng(0), sigma=sigma)
