"""Reconstruction losses against their formulas as loops, and their laws."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minissl import losses
from minissl.gradcheck import gradcheck
from minissl.tensor import Tensor
from tests.oracles import reconstruction as oracle

seeds = st.integers(0, 2**32 - 1)
PLAIN = {"mse": (losses.mse, oracle.mse), "l1": (losses.l1, oracle.l1)}


@st.composite
def patches(draw: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prediction and target (N, L, D), and a mask (N, L) in which at least one patch counts."""
    rng = np.random.default_rng(draw(seeds))
    N, L, D = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 6))
    prediction, target = rng.normal(0, 3, (2, N, L, D))
    mask = (rng.random((N, L)) < draw(st.sampled_from([0.0, 0.25, 0.75, 1.0]))).astype(float)
    mask[rng.integers(N), rng.integers(L)] = 1
    return prediction, target, mask


@pytest.mark.parametrize("name", PLAIN)
@given(seed=seeds, shape=st.lists(st.integers(1, 4), min_size=0, max_size=4))
def test_mse_and_l1_equal_the_loops(name: str, seed: int, shape: list[int]) -> None:
    loss, loops = PLAIN[name]
    p, t = np.random.default_rng(seed).normal(0, 3, (2, *shape))
    expected = loops(p.ravel().tolist(), t.ravel().tolist())
    found = loss(p, t)
    assert found.shape == () and found.dtype == "float64"
    assert found.item() == pytest.approx(expected, rel=1e-12)
    single = loss(p.astype("float32"), t.astype("float32"))
    assert single.dtype == "float32" and single.item() == pytest.approx(expected, rel=1e-4)
    gradcheck(lambda p: loss(p, t), np.where(abs(p - t) < 1e-3, p + 1, p))  # |p − t| has a kink at 0


@given(patches())
def test_masked_mse_equals_the_loops(case: Any) -> None:
    p, t, mask = case
    expected = oracle.masked_mse(p.tolist(), t.tolist(), mask.tolist())
    found = losses.masked_mse(p, t, mask)
    assert found.shape == () and found.dtype == "float64"
    assert found.item() == pytest.approx(expected, rel=1e-12)
    single = losses.masked_mse(*(array.astype("float32") for array in case))
    assert single.dtype == "float32" and single.item() == pytest.approx(expected, rel=1e-4)
    gradcheck(lambda p: losses.masked_mse(p, t, mask), p)


@given(patches())
def test_with_a_full_mask_it_is_mse(case: Any) -> None:
    p, t, mask = case
    for full in (np.ones_like(mask), np.ones(mask.shape, bool), np.full(mask.shape, 3)):
        assert losses.masked_mse(p, t, full).item() == pytest.approx(losses.mse(p, t).item(), rel=1e-12)


@given(patches())
def test_patches_that_do_not_count_have_no_influence(case: Any) -> None:
    p, t, mask = case
    prediction = Tensor(p, requires_grad=True)
    loss = losses.masked_mse(prediction, t, mask)
    loss.backward()
    np.testing.assert_array_equal((prediction.grad != 0).any(axis=2), mask == 1)
    changed = np.where(mask[..., None] == 1, p, 100.0)
    assert losses.masked_mse(changed, t, mask).item() == loss.item()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float32", "float64"])
def test_a_mask_of_any_type_keeps_the_predictions_type(dtype: str) -> None:
    p, t = np.random.default_rng(0).normal(size=(2, 2, 3, 4)).astype("float32")
    mask = np.array([[1, 0, 1], [0, 1, 1]])
    loss = losses.masked_mse(p, t, mask.astype(dtype))
    assert loss.dtype == "float32" and loss.item() == losses.masked_mse(p, t, mask).item()


def test_targets_and_masks_receive_no_gradient() -> None:
    p, t = (Tensor(np.full((2, 3, 4), value), requires_grad=True) for value in (1.0, 2.0))
    mask = Tensor(np.ones((2, 3)), requires_grad=True)
    (losses.mse(p, t) + losses.l1(p, t) + losses.masked_mse(p, t, mask)).backward()
    assert t.grad is None and mask.grad is None
    np.testing.assert_allclose(p.grad, (-2 - 1 - 2) / 24)


def test_the_best_constant_is_the_mean_or_the_median() -> None:
    t = np.array([0.0, 1.0, 2.0, 10.0, 100.0])
    constants = np.linspace(0, 100, 1001)
    best = {name: constants[np.argmin([PLAIN[name][0](np.full(5, c), t).item() for c in constants])] for name in PLAIN}
    assert best == pytest.approx({"mse": t.mean(), "l1": np.median(t)})


@pytest.mark.parametrize(("p", "t"), [((2, 3), (2, 1)), ((2, 3), (3,)), ((0, 3), (0, 3)), ((2, 3, 4), (2, 3))])
@pytest.mark.parametrize("name", ["mse", "l1", "masked_mse"])
def test_bad_shapes_are_named(name: str, p: tuple[int, ...], t: tuple[int, ...]) -> None:
    arguments = [np.ones(p), np.ones(t)] + [np.ones(p[:2])] * (name == "masked_mse")
    with pytest.raises(ValueError, match=f"^{name}: expected prediction and target of one shape"):
        getattr(losses, name)(*arguments)


@pytest.mark.parametrize("name", ["mse", "l1"])
def test_integer_predictions_are_named(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name}: expected floating-point"):
        getattr(losses, name)(np.ones(3, int), np.ones(3))


@pytest.mark.parametrize("mask", [np.ones((2, 4)), np.ones((2, 3, 1)), np.ones(3), np.ones((3, 2))])
def test_a_mask_of_another_shape_is_named(mask: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"masked_mse: expected a mask \(2, 3\) for patches \(2, 3, 4\)"):
        losses.masked_mse(np.ones((2, 3, 4)), np.ones((2, 3, 4)), mask)


def test_predictions_that_are_no_patches_are_named() -> None:
    with pytest.raises(ValueError, match=r"masked_mse: expected a tensor \(N, L, D\)"):
        losses.masked_mse(np.ones((2, 3)), np.ones((2, 3)), np.ones(2))


def test_an_empty_mask_is_named() -> None:
    with pytest.raises(ValueError, match="masked_mse: expected a mask with at least one patch"):
        losses.masked_mse(np.ones((2, 3, 4)), np.ones((2, 3, 4)), np.zeros((2, 3)))
