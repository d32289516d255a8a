"""Cross entropy against its formula as plain loops, and against PyTorch where both mean the same."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minissl.gradcheck import gradcheck
from minissl.losses import cross_entropy
from minissl.tensor import Tensor


def by_loops(logits: np.ndarray, target: np.ndarray, smoothing: float = 0.0, weight: Any = None) -> float:
    """−Σ_n w_n Σ_k t_nk log p_nk / Σ_n w_n with w_n = Σ_k t_nk w_k, the target smoothed after the weights are taken."""
    N, K = logits.shape
    total, weights = 0.0, 0.0
    for n in range(N):
        t = [float(k == target[n]) for k in range(K)] if target.ndim == 1 else target[n].tolist()
        denominator = sum(math.exp(value) for value in logits[n])
        loss = 0.0
        for k in range(K):
            share = (1 - smoothing) * t[k] + smoothing / K
            loss -= share * math.log(math.exp(logits[n, k]) / denominator)
        w = 1.0 if weight is None else sum(t[k] * weight[k] for k in range(K))
        total, weights = total + w * loss, weights + w
    return total / weights


@given(
    seed=st.integers(0, 9999),
    N=st.integers(1, 5),
    K=st.integers(1, 5),
    soft=st.booleans(),
    smoothing=st.sampled_from([0.0, 0.1, 1.0]),
    weighted=st.booleans(),
)
def test_the_value_and_gradient_are_those_of_the_formula(
    seed: int, N: int, K: int, soft: bool, smoothing: float, weighted: bool
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, size=(N, K))
    target = rng.dirichlet(np.ones(K), size=N) if soft else rng.integers(K, size=N)
    weight = rng.uniform(0.5, 2, K) if weighted else None
    loss = cross_entropy(Tensor(logits), target, smoothing, weight)
    assert loss.shape == () and loss.dtype == "float64"
    np.testing.assert_allclose(loss.item(), by_loops(logits, target, smoothing, weight), rtol=1e-10, atol=1e-12)
    gradcheck(lambda z: cross_entropy(z, target, smoothing, weight), logits)


def test_the_gradient_is_softmax_minus_target() -> None:
    logits = Tensor(np.array([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0]]), requires_grad=True)
    cross_entropy(logits, [2, 0]).backward()
    p = np.exp(logits.data) / np.exp(logits.data).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(logits.grad, (p - np.eye(3)[[2, 0]]) / 2, rtol=1e-12)


def test_class_numbers_are_one_hot_targets() -> None:
    rng = np.random.default_rng(0)
    logits, numbers, weight = rng.normal(size=(6, 4)), rng.integers(4, size=6), rng.uniform(0.5, 2, 4)
    for options in ({}, {"label_smoothing": 0.2}, {"weight": weight}, {"label_smoothing": 0.2, "weight": weight}):
        assert cross_entropy(logits, numbers, **options).item() == pytest.approx(
            cross_entropy(logits, np.eye(4)[numbers], **options).item(), rel=1e-12
        )


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_class_numbers_of_any_integer_type(dtype: str) -> None:
    logits = np.eye(3) * 2
    expected = cross_entropy(logits, [0, 1, 2]).item()
    assert cross_entropy(logits, np.arange(3).astype(dtype)).item() == expected
    assert cross_entropy(Tensor(logits), Tensor(np.arange(3).astype(dtype))).item() == expected


def test_equal_logits_cost_log_k() -> None:
    assert cross_entropy(np.zeros((2, 10)), [3, 4]).item() == pytest.approx(math.log(10))


def test_huge_logits_stay_finite() -> None:
    logits = Tensor(np.array([[1e4, -1e4], [-1e4, 1e4]], "float32"), requires_grad=True)
    loss = cross_entropy(logits, [1, 1])
    loss.backward()
    assert loss.dtype == "float32" and loss.item() == 1e4
    np.testing.assert_allclose(logits.grad, [[0.5, -0.5], [0, 0]])


def test_soft_targets_receive_no_gradient() -> None:
    logits, target = (Tensor(np.full((2, 3), 1 / 3), requires_grad=True) for _ in range(2))
    cross_entropy(logits, target).backward()
    assert target.grad is None and logits.grad is not None


def test_a_class_of_weight_zero_does_not_count() -> None:
    logits = np.random.default_rng(0).normal(size=(4, 3))
    found = cross_entropy(logits, [0, 1, 2, 1], weight=np.array([1.0, 0.0, 1.0])).item()
    assert found == pytest.approx(cross_entropy(logits[[0, 2]], [0, 2]).item())


@pytest.mark.parametrize("options", ["plain", "smoothing", "weight", "soft", "soft and smoothing"])
def test_pytorch_gives_the_same(options: str) -> None:
    """PyTorch means something else by smoothing with weights, and by soft targets with weights: not compared."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    rng = np.random.default_rng(0)
    values, weight = rng.normal(0, 3, size=(7, 5)), rng.uniform(0.5, 2, 5)
    target = rng.dirichlet(np.ones(5), size=7) if "soft" in options.split() else rng.integers(5, size=7)
    smoothing = 0.2 if "smoothing" in options else 0.0
    ours = Tensor(values, requires_grad=True)
    loss = cross_entropy(ours, target, smoothing, weight if options == "weight" else None)
    loss.backward()
    theirs = torch.tensor(values, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        theirs,
        torch.tensor(target),
        weight=torch.tensor(weight) if options == "weight" else None,
        label_smoothing=smoothing,
    )
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    np.testing.assert_allclose(ours.grad, theirs.grad.numpy(), rtol=1e-9, atol=1e-12)


LOGITS = np.zeros((2, 3))
BAD: dict[str, tuple[Any, ...]] = {
    "a number below": (LOGITS, [0, -1], r"class numbers from 0 to 2"),
    "a number above": (LOGITS, [0, 3], r"class numbers from 0 to 2"),
    "too few numbers": (LOGITS, [0], r"class numbers \(2,\) or soft targets \(2, 3\)"),
    "a column of numbers": (LOGITS, [[0], [1]], r"class numbers \(2,\)"),
    "numbers that are floats": (LOGITS, [0.0, 1.0], r"class numbers \(2,\).*got float32 \(2,\)"),
    "integers as soft targets": (LOGITS, np.eye(3, dtype=int)[:2], r"class numbers \(2,\)"),
    "soft targets of other classes": (LOGITS, np.ones((2, 4)), r"soft targets \(2, 3\)"),
    "one axis of logits": (np.zeros(3), [0], r"expected a tensor \(N, K\)"),
    "an empty batch": (np.zeros((0, 3)), np.zeros(0, int), "empty batch"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case: str) -> None:
    logits, target, message = BAD[case]
    with pytest.raises(ValueError, match=f"(?s)cross_entropy: .*{message}"):
        cross_entropy(logits, target)


def test_integer_logits_are_named() -> None:
    with pytest.raises(TypeError, match="cross_entropy: expected floating-point"):
        cross_entropy(np.zeros((2, 3), int), [0, 1])


@pytest.mark.parametrize("weight", [np.ones(4), np.ones(2), np.ones((3, 1)), 1.0])
@pytest.mark.parametrize("target", [[0, 1], np.full((2, 3), 1 / 3)], ids=["numbers", "soft"])
def test_another_number_of_weights_than_classes_is_named(weight: Any, target: Any) -> None:
    with pytest.raises(ValueError, match="cross_entropy: expected one weight for each of 3 classes"):
        cross_entropy(LOGITS, target, weight=weight)
