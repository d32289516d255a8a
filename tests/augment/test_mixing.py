"""Mixup and CutMix against plain loops over pixels: what is mixed with what, and by exactly what part."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minissl.augment import cutmix, mixup
from minissl.backend import Backend

MIXTURES = {"mixup": mixup, "cutmix": cutmix}
seeds = st.integers(0, 2**32 - 1)
alphas = st.sampled_from([0.1, 0.4, 1.0, 5.0])


def photos(count: int = 8, channels: int = 3, height: int = 9, width: int = 7) -> np.ndarray:
    """No two numbers are alike, so that each tells where it came from."""
    size = count * height * width * channels
    return np.random.default_rng(0).permutation(size).reshape(count, height, width, channels).astype(np.float32) / size


@given(seeds, alphas)
def test_mixup_is_a_weighted_sum(seed: int, alpha: float) -> None:
    x = photos()
    mixed, partner, weight = mixup(x, np.random.default_rng(seed), alpha)
    assert ((weight >= 0) & (weight <= 1)).all()
    for n in range(len(x)):
        w = float(weight[n])
        np.testing.assert_allclose(mixed[n], w * x[n] + (1 - w) * x[partner[n]], atol=1e-6)


@given(seeds, alphas)
def test_cutmix_pastes_one_box_and_its_weight_is_the_exact_area_left(seed: int, alpha: float) -> None:
    x = photos()
    mixed, partner, weight = cutmix(x, np.random.default_rng(seed), alpha)
    for n in range(len(x)):
        own = (mixed[n] == x[n]).all(axis=-1)  # (H, W)
        assert ((mixed[n] == x[partner[n]]).all(axis=-1) == ~own).all()
        assert weight[n] == np.float32(own.mean())
        rows, columns = np.nonzero(~own)
        if len(rows):
            assert (~own).sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


@pytest.mark.parametrize(("centre", "shown"), [(0.5, 1.0), (0.0, 0.25)], ids=["middle", "corner"])
def test_boxes_have_the_sides_of_the_paper_and_are_cut_off_at_the_edge(centre: float, shown: float) -> None:
    """√(1 − λ) of the image's sides, λ being the share that was drawn; of a box at a corner a quarter is left."""
    drawn = np.array([0.0, 0.36, 0.75, 1.0])

    class Fixed:
        def permutation(self, count: int) -> np.ndarray:
            return np.arange(count)

        def beta(self, a: float, b: float, count: int) -> np.ndarray:
            return drawn

        def random(self, count: int) -> np.ndarray:
            return np.full(count, centre)

    _, partner, weight = cutmix(photos(4, height=20, width=40), Fixed())
    np.testing.assert_allclose(weight, 1 - shown * (1 - drawn), atol=1e-7)
    assert partner.tolist() == [3, 0, 1, 2]


def test_boxes_lie_anywhere() -> None:
    x = photos(400, 1, 16, 16)
    mixed, _, weight = cutmix(x, np.random.default_rng(0))
    replaced = (mixed != x)[..., 0].mean(axis=0)  # (H, W): how often each pixel is
    assert replaced.min() > 0.04  # corners, too
    assert 0.5 < weight.mean() < 0.8  # ½, were nothing cut off


@pytest.mark.parametrize("name", MIXTURES)
@given(seeds, alphas)
def test_mostly_own(name: str, seed: int, alpha: float) -> None:
    x = photos()
    free = MIXTURES[name](x, np.random.default_rng(seed), alpha)
    own = MIXTURES[name](x, np.random.default_rng(seed), alpha, mostly_own=True)
    assert own[2].min() >= 0.5
    np.testing.assert_array_equal(own[1], free[1])
    if name == "mixup":
        np.testing.assert_allclose(own[2], np.maximum(free[2], 1 - free[2]), atol=1e-7)


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("count", [2, 3, 9])
def test_everyone_has_another_as_partner_and_is_a_partner_once(name: str, count: int) -> None:
    found = set()
    for seed in range(20):
        _, partner, _ = MIXTURES[name](photos(count), np.random.default_rng(seed))
        assert sorted(partner.tolist()) == list(range(count))
        assert (partner != np.arange(count)).all()
        found.add(tuple(partner.tolist()))
    assert len(found) >= min(count - 1, 10)


@pytest.mark.parametrize("name", MIXTURES)
def test_a_single_image_stays_as_it_is(name: str) -> None:
    mixed, partner, _ = MIXTURES[name](photos(1), np.random.default_rng(0))
    np.testing.assert_allclose(mixed, photos(1), atol=1e-6)
    assert partner.tolist() == [0]


def test_alpha_says_how_much_is_mixed() -> None:
    images = np.zeros((4000, 1, 1, 1), np.float32)
    halves = lambda alpha: np.abs(mixup(images, np.random.default_rng(0), alpha)[2] - 0.5).mean()
    assert halves(0.1) > 0.4 and halves(1.0) == pytest.approx(0.25, abs=0.01) and halves(50.0) < 0.06


@pytest.mark.parametrize("name", MIXTURES)
def test_seeds_types_and_other_sensors(name: str) -> None:
    x = photos()
    before = x.copy()
    first, again, other = (MIXTURES[name](x, np.random.default_rng(s)) for s in (1, 1, 2))
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, same)
    assert np.abs(first[0] - other[0]).max() > 0.1
    np.testing.assert_array_equal(x, before)
    assert [array.dtype for array in first] == ["float32", "int64", "float32"]
    sensor = MIXTURES[name](photos(channels=13), np.random.default_rng(1))
    np.testing.assert_array_equal(sensor[1], first[1])
    np.testing.assert_array_equal(sensor[2], first[2])


@pytest.mark.parametrize("name", MIXTURES)
def test_the_same_on_a_device(name: str, cupy: Backend) -> None:
    here = MIXTURES[name](photos(), np.random.default_rng(3))
    there = MIXTURES[name](cupy.to_device(photos()), np.random.default_rng(3))
    for expected, found in zip(here, there, strict=True):
        assert isinstance(found, cupy.xp.ndarray)
        np.testing.assert_allclose(cupy.to_host(found), expected, atol=1e-6)


BAD: dict[str, tuple[Any, float, type[Exception], str]] = {
    "alpha 0": (photos(), 0.0, ValueError, "expected alpha above 0, got 0.0"),
    "alpha NaN": (photos(), float("nan"), ValueError, "expected alpha above 0, got nan"),
    "one image": (photos()[0], 1.0, ValueError, "expected a batch of images"),
    "integers": (np.zeros((2, 3, 3, 1), np.uint8), 1.0, TypeError, "call to_float"),
}


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_named(name: str, bad: str) -> None:
    images, alpha, error, message = BAD[bad]
    with pytest.raises(error, match=f"{name}: .*{message}"):
        MIXTURES[name](images, np.random.default_rng(0), alpha)
