"""Corruption: how much of an input each noise hits, what it puts there, and that it touches nothing else."""

from typing import Any

import numpy as np
import pytest

from minissl import augment, backend
from tests import cupy_standin

KINDS: list[Any] = ["gaussian", "masking", "salt_and_pepper"]


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1, 2, shape).astype(np.float32)


def corrupt(x: Any, kind: Any, amount: float, seed: int = 1) -> Any:
    return augment.corrupt(x, np.random.default_rng(seed), kind, amount)


def test_gaussian_noise_has_the_asked_part_of_the_deviation() -> None:
    x = numbers(50, 20, 20, 3)
    noise = corrupt(x, "gaussian", 0.3) - x
    assert noise.std() == pytest.approx(0.3 * x.std(), rel=0.01)
    assert abs(noise.mean()) < 0.01 * x.std()
    assert abs(np.corrcoef(noise.ravel(), x.ravel())[0, 1]) < 0.02
    np.testing.assert_allclose(corrupt(10 * x, "gaussian", 0.3) - 10 * x, 10 * noise, atol=1e-4)  # in any unit


def test_masking_sets_its_part_to_0_and_leaves_the_rest() -> None:
    x = numbers(50, 20, 20, 3)
    masked = corrupt(x, "masking", 0.3)
    hit = masked == 0
    assert hit.mean() == pytest.approx(0.3, abs=0.01)
    np.testing.assert_array_equal(masked[~hit], x[~hit])
    channels = hit.any(axis=-1) & ~hit.all(axis=-1)  # pixels of which some channels are hit and others are not
    assert channels.mean() == pytest.approx(1 - 0.3**3 - 0.7**3, abs=0.02)


def test_salt_and_pepper_sets_its_part_to_the_extremes_by_a_fair_coin() -> None:
    x = numbers(50, 20, 20, 3)
    peppered = corrupt(x, "salt_and_pepper", 0.3)
    low, high = peppered == x.min(), peppered == x.max()
    assert low.mean() == pytest.approx(0.15, abs=0.01) and high.mean() == pytest.approx(0.15, abs=0.01)
    np.testing.assert_array_equal(peppered[~low & ~high], x[~low & ~high])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_codes_of_any_shape_keep_their_type_and_are_not_written_to(kind: Any, dtype: Any) -> None:
    x = numbers(6, 40).astype(dtype)
    kept = x.copy()
    found = corrupt(x, kind, 0.5)
    assert (found.shape, found.dtype) == (x.shape, dtype)
    assert (found != x).any()
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_array_equal(found, corrupt(x, kind, 0.5))
    assert (found != corrupt(x, kind, 0.5, seed=2)).any()
    unhurt = corrupt(x, kind, 0)
    np.testing.assert_array_equal(unhurt, x)
    assert not np.shares_memory(unhurt, x)


def test_everything_can_be_masked() -> None:
    assert not corrupt(numbers(8, 100), "masking", 1).any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_equals_the_host_and_reads_nothing_back(kind: Any, cupy: backend.Backend) -> None:
    x = numbers(4, 5, 5, 3)
    there = cupy.to_device(x)
    cupy_standin.TRANSFERS.clear()
    found = corrupt(there, kind, 0.5)
    assert cupy_standin.TRANSFERS == [] and found.dtype == np.float32
    np.testing.assert_allclose(cupy.to_host(found), corrupt(x, kind, 0.5), rtol=1e-5, atol=1e-5)


def test_mistakes() -> None:
    with pytest.raises(TypeError, match="corrupt: expected floats, got uint8; call to_float"):
        corrupt(np.zeros((2, 4, 4, 3), np.uint8), "masking", 0.5)
    with pytest.raises(ValueError, match="corrupt: expected kind gaussian, masking or salt_and_pepper, got 'blur'"):
        corrupt(numbers(2, 3), "blur", 0.5)
    for kind, amount in (("gaussian", -1), ("masking", -0.1), ("masking", 1.1), ("salt_and_pepper", float("nan"))):
        with pytest.raises(ValueError, match=f"corrupt: {kind} noise expects an amount .*, got {amount}"):
            corrupt(numbers(2, 3), kind, amount)
    assert corrupt(numbers(2, 3), "gaussian", 1.5).shape == (2, 3)
