"""Stored numbers to floats, and channel statistics, against NumPy on the whole stack."""

import numpy as np
import pytest

from minissl import augment
from minissl.augment import statistics


def photo(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def test_to_float():
    stored = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    expected = [np.float32(v) / np.float32(255) for v in range(256)]
    np.testing.assert_array_equal(augment.to_float(stored).ravel(), expected)
    assert augment.to_float(stored).dtype == np.float32
    np.testing.assert_array_equal(augment.to_float(photo(1, 2, 2, 3)), photo(1, 2, 2, 3))
    with pytest.raises(TypeError, match=r"uint16.*10,000"):
        augment.to_float(stored.astype(np.uint16))
    with pytest.raises(ValueError, match="N, H, W, C"):
        augment.to_float(stored[0])


@pytest.mark.parametrize("channels", [1, 3, 13])
@pytest.mark.parametrize("dtype, unit", [(np.uint8, 255), (np.uint16, 1), (np.float32, 1)])
def test_channel_statistics_by_chunks(channels, dtype, unit, monkeypatch):
    # Steps between images: a merge that forgets the difference of the chunks' means is off by far.
    stack = (photo(11, 6, 5, channels) * 100 + np.arange(11)[:, None, None, None] * 10).astype(dtype)
    monkeypatch.setattr(statistics, "CHUNK", 6 * 5 * channels * 4)  # 4 images at a time: chunks of 4, 4 and 3
    mean, std = augment.channel_statistics(stack)
    pixels = stack.reshape(-1, channels).astype(np.float64) / unit
    np.testing.assert_allclose(mean, pixels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std(axis=0), rtol=1e-12)
    assert isinstance(mean[0], float)


def test_channel_statistics_of_a_memory_map(tmp_path):
    np.save(tmp_path / "stack.npy", (photo(5, 4, 4, 3) * 255).astype(np.uint8))
    mapped = np.load(tmp_path / "stack.npy", mmap_mode="r")
    mean, std = augment.channel_statistics(mapped)
    standard = augment.standardize(augment.to_float(mapped), mean, std)
    np.testing.assert_allclose(standard.mean(axis=(0, 1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(standard.std(axis=(0, 1, 2)), 1, rtol=1e-5)


def test_channel_statistics_names_channels_with_nan():
    stack = photo(2, 3, 3, 3)
    stack[1, 2, 2, 1] = np.nan
    with pytest.raises(ValueError, match=r"channels \[1\] hold NaN"):
        augment.channel_statistics(stack)


def test_standardize_and_back():
    images, mean, std = photo(2, 3, 5, 4), [0.1, 0.2, 0.3, 0.4], np.array([1, 2, 3, 4])
    standard = augment.standardize(images, mean, std)
    assert standard.dtype == np.float32
    np.testing.assert_allclose(standard, (images - np.float32(mean)) / std, rtol=1e-5)
    np.testing.assert_allclose(augment.unstandardize(standard, mean, std), images, atol=1e-6)
    with pytest.raises(ValueError, match="4 means"):
        augment.standardize(images, mean[:3], std)
    with pytest.raises(ValueError, match="positive"):
        augment.standardize(images, mean, [1, 0, 1, 1])
