"""Every function again on a device (the stand-in for CuPy): the same values as on NumPy, and nothing read back."""

import numpy as np
import pytest

from minissl import augment, backend
from tests import cupy_standin


@pytest.fixture
def device(monkeypatch):
    class Device(backend.Backend):
        """The least that a backend must have: so this tests the augmentations, and no backend's kernels."""

        name, xp = "cupy", cupy_standin.cupy

        def to_host(self, array):
            return self.xp.asnumpy(array)

        def to_device(self, array):
            return self.xp.asarray(array)

    with cupy_standin.installed():
        monkeypatch.setitem(backend._made, "cupy", Device())
        yield backend._made["cupy"]


FLOATS = {
    "crop": lambda x, rng: augment.random_resized_crop(x, rng, (5, 7), (0.3, 0.8)),
    "horizontal_flip": augment.horizontal_flip,
    "vertical_flip": augment.vertical_flip,
    "no_flip": lambda x, rng: augment.vertical_flip(x, rng, 0),
    "quarter_turns": augment.quarter_turns,
    "color_jitter": augment.color_jitter,
    "grayscale": lambda x, rng: augment.grayscale(x, rng, 0.5),
    "solarize": lambda x, rng: augment.solarize(x, rng, 0.3, 0.5),
    "gaussian_blur": augment.gaussian_blur,
    "resize": lambda x, rng: augment.resize(x, 6),
    "to_float": lambda x, rng: augment.to_float(x),
    "standardize": lambda x, rng: augment.standardize(x, [0.5] * x.shape[-1], np.full(x.shape[-1], 0.1)),
    "unstandardize": lambda x, rng: augment.unstandardize(x, [0.5] * x.shape[-1], [0.1] * x.shape[-1]),
}


@pytest.mark.parametrize("channels", [1, 3, 13])
@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("count", [1, 8])  # with one image, some of the four turns have none
def test_device_equals_host(device, name, channels, count):
    images = np.random.default_rng(0).random((count, 9, 9, channels), dtype=np.float32)
    expected = FLOATS[name](images, np.random.default_rng(3))
    there = device.to_device(images)
    cupy_standin.TRANSFERS.clear()
    found = FLOATS[name](there, np.random.default_rng(3))
    assert isinstance(found, device.xp.ndarray) and found.dtype == np.float32
    assert cupy_standin.TRANSFERS == []
    np.testing.assert_allclose(device.to_host(found), expected, atol=1e-6)
    np.testing.assert_array_equal(device.to_host(there), images)


def test_stored_images_on_the_device(device):
    stored = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    there = device.to_device(stored)
    np.testing.assert_array_equal(device.to_host(augment.to_float(there)), augment.to_float(stored))
    np.testing.assert_allclose(augment.channel_statistics(there), augment.channel_statistics(stored), rtol=1e-12)
