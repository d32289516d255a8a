"""Policies: what each operation does at 0 and at 10, who gets which, and that a policy is names and numbers."""

import json
from typing import Any

import numpy as np
import pytest

from minissl import augment
from minissl.augment.policies import LARGEST, OPERATIONS, WITHOUT_MAGNITUDE, Policy, apply_policy, random_policy
from minissl.backend import Backend

WITH_MAGNITUDE = [name for name in OPERATIONS if name not in (*WITHOUT_MAGNITUDE, "identity")]


def photos(count: int = 12, channels: int = 3, side: int = 16) -> np.ndarray:
    """Smooth enough that a crop and a blur keep much, with all values of [0, 1]."""
    rough = np.random.default_rng(0).random((count, 5, 5, channels), np.float32)
    return augment.resize(rough, side).clip(0, 1)


def only(name: str, magnitude: float = 7, probability: float = 1.0) -> Policy:
    return [[(name, probability, magnitude), ("identity", 1.0, 0)]]


def applied(policy: Policy, images: np.ndarray, seed: int = 0) -> np.ndarray:
    return apply_policy(images, policy, np.random.default_rng(seed))


def change(policy: Policy) -> float:
    return float(np.abs(applied(policy, photos()) - photos()).mean())


@pytest.mark.parametrize("channels", [1, 3, 13])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_gives_images(name: str, channels: int) -> None:
    x = photos(channels=channels)
    before = x.copy()
    for magnitude in (0, 1, 5.5, LARGEST):
        y = applied(only(name, magnitude), x)
        assert y.shape == x.shape and y.dtype == np.float32
        assert y.min() >= -1e-6 and y.max() <= 1 + 1e-6
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("name", OPERATIONS)
def test_probability_0_is_the_identity(name: str) -> None:
    np.testing.assert_array_equal(applied(only(name, 10, 0.0), photos()), photos())


@pytest.mark.parametrize("name", [*WITH_MAGNITUDE, "identity"])
def test_magnitude_0_is_the_identity(name: str) -> None:
    np.testing.assert_array_equal(applied(only(name, 0), photos()), photos())


@pytest.mark.parametrize("name", WITHOUT_MAGNITUDE)
def test_what_has_no_magnitude_does_the_same_at_any(name: str) -> None:
    np.testing.assert_array_equal(applied(only(name, 0), photos()), applied(only(name, 10), photos()))
    assert change(only(name, 0)) > 0.01


@pytest.mark.parametrize("name", WITH_MAGNITUDE)
def test_a_larger_magnitude_changes_more(name: str) -> None:
    changes = [change(only(name, magnitude)) for magnitude in (2, 6, 10)]
    assert 0 < changes[0] < changes[1] < changes[2]


def test_what_operations_do_at_10() -> None:
    """Against plain formulas; the coin for more or less is read from the result."""
    x = photos()
    luma = x @ np.array([0.299, 0.587, 0.114], np.float32)  # (N, H, W)
    of = {
        "brightness": np.zeros((len(x), 1, 1, 1)),
        "contrast": luma.mean(axis=(1, 2))[:, None, None, None],
        "saturation": luma[..., None],
    }
    for name, other in of.items():
        y = applied(only(name, 10), x)
        more, less = (np.clip(other + f * (x - other), 0, 1) for f in (1.9, 0.1))
        is_more = np.array([np.allclose(y[n], more[n], atol=1e-5) for n in range(len(x))])
        is_less = np.array([np.allclose(y[n], less[n], atol=1e-5) for n in range(len(x))])
        assert (is_more ^ is_less).all() and is_more.any() and is_less.any()
    np.testing.assert_allclose(applied(only("grey"), x), np.repeat(luma[..., None], 3, axis=3), atol=1e-6)
    np.testing.assert_array_equal(applied(only("flip"), x), x[:, :, ::-1])
    np.testing.assert_allclose(applied(only("solarize", 4), x), np.where(x >= 0.6, 1 - x, x), atol=1e-6)
    levels = np.unique(applied(only("posterize", 10), x) * 15)
    assert len(levels) <= 16 and np.abs(levels - np.round(levels)).max() < 1e-5


def test_cutout_fills_one_square_with_the_images_mean_colour() -> None:
    x = photos(200)
    y = applied(only("cutout", 10), x)
    mean = x.mean(axis=(1, 2), keepdims=True)
    filled = (np.abs(y - mean) < 1e-6).all(axis=3)  # (N, H, W)
    np.testing.assert_array_equal(y[~filled], x[~filled])
    area = filled.sum(axis=(1, 2))
    assert area.max() == 100  # 0.6 of 16 pixels is 10
    assert area.min() >= 25 and (area < 100).any()  # cut off at edges, in a corner to a quarter


def test_each_image_gets_one_sub_policy_and_both_of_its_steps() -> None:
    policy: Policy = [
        [("flip", 1.0, 0), ("grey", 1.0, 0)],
        [("identity", 1.0, 0), ("identity", 1.0, 0)],
    ]
    x = photos(400)
    y = applied(policy, x)
    grey = np.abs(y - (x[:, :, ::-1] @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]).max(axis=(1, 2, 3))
    same = np.abs(y - x).max(axis=(1, 2, 3))
    assert ((grey < 1e-6) ^ (same == 0)).all()
    assert 150 < (same == 0).sum() < 250


def test_a_step_is_taken_with_its_probability() -> None:
    x = photos(2000, side=4)
    taken = (applied(only("flip", 0, 0.3), x) != x).any(axis=(1, 2, 3)).mean()
    assert taken == pytest.approx(0.3, abs=0.04)
    both = applied([[("flip", 0.5, 0), ("grey", 0.5, 0)]], x)
    is_grey = np.ptp(both, axis=3).max(axis=(1, 2)) < 1e-6
    brightness = np.where(is_grey[:, None, None], both[..., 0], both @ np.array([0.299, 0.587, 0.114], np.float32))
    straight = x @ np.array([0.299, 0.587, 0.114], np.float32)
    flipped = np.abs(brightness - straight).max(axis=(1, 2)) > 1e-5
    assert (is_grey & flipped).mean() == pytest.approx(0.25, abs=0.04)  # the two coins are not one


def test_the_same_seed_gives_the_same_and_other_sensors_too() -> None:
    policy = random_policy(np.random.default_rng(1), 8)
    x = photos()
    np.testing.assert_array_equal(applied(policy, x, 5), applied(policy, x, 5))
    assert np.abs(applied(policy, x, 5) - applied(policy, x, 6)).max() > 0.1
    turning: Policy = [[("quarter_turn", 0.7, 0), ("crop", 0.7, 5)], [("flip", 0.5, 0), ("cutout", 0.5, 5)]]
    thirteen = np.repeat(x[..., :1], 13, axis=3)
    np.testing.assert_allclose(applied(turning, thirteen, 5)[..., :1], applied(turning, x[..., :1], 5), atol=1e-6)


def test_random_policies_are_seeded_and_span_the_search_space() -> None:
    assert random_policy(np.random.default_rng(3)) == random_policy(np.random.default_rng(3))
    assert random_policy(np.random.default_rng(3)) != random_policy(np.random.default_rng(4))
    policy = random_policy(np.random.default_rng(0), 300)
    assert len(policy) == 300 and all(len(sub_policy) == 2 for sub_policy in policy)
    names, probabilities, magnitudes = (set(column) for column in zip(*(s for sub in policy for s in sub), strict=True))
    assert names == set(OPERATIONS)
    assert probabilities == {i / 10 for i in range(11)} and magnitudes == set(range(11))


def test_a_policy_survives_json() -> None:
    policy = random_policy(np.random.default_rng(2))
    read = json.loads(json.dumps(policy))
    np.testing.assert_array_equal(applied(read, photos()), applied(policy, photos()))


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_same_on_a_device(name: str, cupy: Backend) -> None:
    policy: Policy = [[(name, 0.7, 8), ("identity", 1.0, 0)]]
    there = apply_policy(cupy.to_device(photos()), policy, np.random.default_rng(3))
    assert isinstance(there, cupy.xp.ndarray)
    np.testing.assert_allclose(cupy.to_host(there), applied(policy, photos(), 3), atol=1e-5)


BAD: dict[str, tuple[Any, str]] = {
    "nothing": ([], "expected at least one sub-policy"),
    "one step": ([[("flip", 1.0, 0)]], "two steps"),
    "two numbers": ([[("flip", 1.0), ("flip", 1.0, 0)]], "two steps"),
    "unknown": (only("sharpen"), "expected an operation among identity, brightness.*got 'sharpen'"),
    "probability": (only("flip", 0, 1.5), "probability from 0 to 1.*for flip, got 1.5 and 0"),
    "magnitude": (only("blur", 11), "magnitude from 0 to 10 for blur, got 1.0 and 11"),
    "NaN": (only("blur", float("nan")), "magnitude from 0 to 10 for blur, got 1.0 and nan"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_policies_are_named(bad: str) -> None:
    policy, message = BAD[bad]
    with pytest.raises(ValueError, match=f"apply_policy: .*{message}"):
        applied(policy, photos())


def test_no_sub_policy_is_named() -> None:
    with pytest.raises(ValueError, match="random_policy: expected at least 1 sub-policy, got 0"):
        random_policy(np.random.default_rng(0), 0)
