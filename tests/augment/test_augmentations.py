"""What holds for every augmentation: types, determinism, probabilities, errors, and that inputs stay as they are."""

import numpy as np
import pytest

from minissl import augment
from minissl.augment import color, filtering, geometry

SOME = {  # each changes some images of a batch, with a probability
    "horizontal_flip": augment.horizontal_flip,
    "vertical_flip": augment.vertical_flip,
    "color_jitter": augment.color_jitter,
    "grayscale": augment.grayscale,
    "gaussian_blur": augment.gaussian_blur,
    "solarize": augment.solarize,
}
ALL = {  # and these all of them
    "random_resized_crop": augment.random_resized_crop,
    "quarter_turns": augment.quarter_turns,
}
EVERY = {**SOME, **ALL}


def photo(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


@pytest.mark.parametrize("channels", [1, 2, 3, 13])
@pytest.mark.parametrize("name", EVERY)
def test_new_float32_arrays_the_same_for_the_same_seed(name, channels):
    images = photo(12, 10, 10 if name == "quarter_turns" else 14, channels)
    images.flags.writeable = False
    once, again = (EVERY[name](images, np.random.default_rng(5)) for _ in range(2))
    assert once.dtype == np.float32 and once.shape == images.shape and once.flags.writeable
    assert not np.shares_memory(once, images)
    assert once.min() >= 0 and once.max() <= 1 + 1e-6
    np.testing.assert_array_equal(once, again)
    if not (name == "grayscale" and channels == 1):
        assert not np.array_equal(once, images)
        assert not np.array_equal(once, EVERY[name](images, np.random.default_rng(6)))


@pytest.mark.parametrize("name", EVERY)
def test_strided_and_double_precision_input(name):
    wide = photo(6, 20, 20, 3)
    view = wide[:, ::2, ::-2]
    expected = EVERY[name](view.copy(), np.random.default_rng(5))
    np.testing.assert_allclose(EVERY[name](view, np.random.default_rng(5)), expected, atol=1e-6)
    double = EVERY[name](view.astype(np.float64), np.random.default_rng(5))
    assert double.dtype == np.float32
    np.testing.assert_allclose(double, expected, atol=1e-6)


@pytest.mark.parametrize("name", SOME)
def test_the_work_is_done_in_float32(name, monkeypatch):
    """Random numbers come in double precision; left so they double the work, and no result shows it."""
    for module in (color, filtering, geometry):
        monkeypatch.setattr(module, "change_some", lambda images, indices, change: change(images[indices]))
    assert SOME[name](photo(4, 6, 6, 3), np.random.default_rng(0), probability=1).dtype == np.float32


@pytest.mark.parametrize("name", SOME)
def test_probability(name):
    images = photo(200, 6, 6, 3)

    def changed(probability):
        out = SOME[name](images, np.random.default_rng(0), probability=probability)
        return (out != images).any(axis=(1, 2, 3)).sum()

    assert changed(0) == 0 and changed(0.3) in range(35, 86)
    # A σ near 0.1 blurs nothing that float32 could hold.
    assert changed(1) == 200 if name != "gaussian_blur" else changed(1) > 180
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=f"{name}: probability"):
            changed(wrong)


@pytest.mark.parametrize("name", EVERY)
def test_errors_name_the_function_and_the_remedy(name):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=rf"{name}: .*\(N, H, W, C\).*images\[None\]"):
        EVERY[name](photo(4, 4, 3), rng)
    with pytest.raises(ValueError, match=f"{name}: .*empty"):
        EVERY[name](photo(0, 4, 4, 3), rng)
    with pytest.raises(TypeError, match=f"{name}: .*to_float"):
        EVERY[name](np.zeros((1, 4, 4, 3), np.uint8), rng)
    with pytest.raises(TypeError, match="expected a NumPy or CuPy array"):
        EVERY[name]([[[[0.5]]]], rng)


@pytest.mark.parametrize("name", EVERY)
def test_the_numbers_drawn_depend_on_the_number_of_images_only(name):
    """So a second sensor, given the same seed, gets the same augmentation however its size and channels differ."""
    first, second = np.random.default_rng(7), np.random.default_rng(7)
    EVERY[name](photo(9, 8, 8, 3), first)
    EVERY[name](photo(9, 12, 12, 2, seed=1), second)
    assert first.bit_generator.state == second.bit_generator.state


def test_pairs_of_sensors_are_cropped_alike():
    optical = photo(5, 9, 9, 3)
    radar = optical[..., :1].copy()
    views = [augment.random_resized_crop(images, np.random.default_rng(4), 6) for images in (optical, radar)]
    np.testing.assert_allclose(views[0][..., :1], views[1], atol=1e-6)
