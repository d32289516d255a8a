"""Losses with labels against their formulas as loops, and against PyTorch where both mean the same."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minissl.backend import Backend
from minissl.gradcheck import gradcheck
from minissl.losses import cross_entropy
from minissl.losses.classification import binary_cross_entropy_with_logits, distillation
from minissl.tensor import Tensor
from tests.losses.checking import equals_the_loops, gradients, same_on_the_device
from tests.losses.drawing import embeddings, temperatures
from tests.oracles import classification as oracle


@given(
    seed=st.integers(0, 9999),
    N=st.sampled_from([1, 2, 5, 17]),
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
    expected = oracle.cross_entropy(logits.tolist(), target.tolist(), smoothing, weight)
    equals_the_loops(lambda z, t: cross_entropy(z, t, smoothing, weight), expected, logits, target)
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


SIZES = st.sampled_from([1, 2, 3, 8, 64])
weights = st.sampled_from(["none", "weight", "positive_weight", "both"])


@st.composite
def labelled(draw: Any) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, K), from near 0 to beyond where e^x overflows, and yes or no for each, or something between."""
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    logits = draw(st.sampled_from([1e-3, 1.0, 30.0, 2000.0])) * rng.normal(size=(draw(SIZES), draw(SIZES)))
    target = rng.random(logits.shape)
    return logits, target if draw(st.booleans()) else target.round()


def options(kind: str, K: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(K)
    return {name: rng.uniform(0.5, 3, K) for name in ("weight", "positive_weight") if kind in (name, "both")}


@given(labelled(), weights)
def test_binary_cross_entropy_equals_the_loops(case: Any, kind: str) -> None:
    logits, target = case
    given = options(kind, logits.shape[1])
    expected = oracle.binary_cross_entropy_with_logits(logits.tolist(), target.tolist(), **given)
    equals_the_loops(lambda x, t: binary_cross_entropy_with_logits(x, t, **given), expected, logits, target)


@given(labelled(), weights)
def test_the_gradient_of_binary_cross_entropy(case: Any, kind: str) -> None:
    logits, target = (array[:3, :4] for array in case)
    given = options(kind, logits.shape[1])
    loss = lambda x, t: binary_cross_entropy_with_logits(x, t, **given)
    gradcheck(lambda x: loss(x, target), np.clip(logits, -5, 5))
    assert gradients(loss, logits, target)[1] is None
    if kind == "none":  # (σ(x) − t)/(N·K)
        sigma = 0.5 + 0.5 * np.tanh(logits / 2)
        np.testing.assert_allclose(gradients(loss, logits, target)[0], (sigma - target) / target.size, atol=1e-12)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float64"])
def test_yes_and_no_of_any_type_and_any_leading_axes(dtype: str) -> None:
    logits = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    target = logits > 0.3
    loss = binary_cross_entropy_with_logits(logits, target.astype(dtype), np.arange(4), np.ones(4))
    assert loss.dtype == "float32"
    rows = binary_cross_entropy_with_logits(logits.reshape(6, 4), target.reshape(6, 4), np.arange(4))
    assert loss.item() == pytest.approx(rows.item(), rel=1e-6)


@pytest.mark.parametrize("kind", ["none", "weight", "positive_weight", "both"])
def test_pytorch_gives_the_same_binary_cross_entropy(kind: str) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    rng, given = np.random.default_rng(0), options(kind, 5)
    logits, target = rng.normal(0, 3, (7, 5)), rng.random((7, 5))
    theirs = {name.replace("positive", "pos"): torch.tensor(value) for name, value in given.items()}
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor(logits), torch.tensor(target), **theirs
    )
    assert binary_cross_entropy_with_logits(logits, target, **given).item() == pytest.approx(expected.item(), rel=1e-12)


X = np.zeros((2, 3))
BAD_BINARY: dict[str, tuple[Any, ...]] = {
    "another shape": (X, np.ones((2, 1)), {}, "of one shape"),
    "class numbers": (X, [0, 1], {}, "of one shape"),
    "no elements": (np.zeros((0, 3)), np.zeros((0, 3)), {}, "at least one element"),
    "a target above 1": (X, np.full((2, 3), 1.5), {}, "from 0 to 1, got some outside"),
    "a target below 0": (X, np.full((2, 3), -1), {}, "from 0 to 1, got some outside"),
    "NaN as target": (X, np.full((2, 3), np.nan), {}, "from 0 to 1, got some outside"),
    "NaN": (X * np.nan, X, {}, "expected finite numbers"),
    "other weights": (X, X, {"weight": np.ones(2)}, "one weight for each of 3 classes"),
    "a positive weight per row": (X, X, {"positive_weight": np.ones((2, 1))}, "one weight for each of 3 classes"),
}


@pytest.mark.parametrize("case", BAD_BINARY)
def test_bad_input_to_binary_cross_entropy_is_named(case: str) -> None:
    logits, target, given, message = BAD_BINARY[case]
    with pytest.raises(ValueError, match=f"binary_cross_entropy_with_logits: .*{message}"):
        binary_cross_entropy_with_logits(logits, target, **given)


@given(embeddings(scaled=False), temperatures)
def test_distillation_equals_the_loops(logits: Any, temperature: float) -> None:
    expected = oracle.distillation(*(z.tolist() for z in logits), temperature)
    loss = lambda s, t: distillation(s, t, temperature)
    equals_the_loops(loss, expected, *logits, single=1e-4 / min(1, temperature))


@given(embeddings(scaled=False), temperatures)
def test_the_teacher_receives_no_gradient_and_an_equal_student_none_either(logits: Any, temperature: float) -> None:
    student, teacher = logits[0][:4, :5], logits[1][:4, :5]
    if temperature >= 0.2:
        gradcheck(lambda s: distillation(s, teacher, temperature), student)
    loss = lambda s, t: distillation(s, t, temperature)
    assert gradients(loss, student, teacher)[1] is None
    np.testing.assert_allclose(gradients(loss, student, student)[0], 0, atol=1e-12)


@given(embeddings(scaled=False), temperatures)
def test_the_least_distillation_is_the_teachers_entropy(logits: Any, temperature: float) -> None:
    student, teacher = logits
    p = np.exp(teacher / temperature - (teacher / temperature).max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1).mean()
    assert distillation(teacher, teacher, temperature).item() == pytest.approx(entropy, abs=1e-9)
    assert distillation(student, teacher, temperature).item() >= entropy - 1e-9


@pytest.mark.parametrize(
    ("student", "teacher", "temperature", "message"),
    [
        (X, np.zeros((2, 4)), 1.0, "of one shape"),
        (X, [0, 1], 1.0, "expected"),
        (np.zeros((0, 3)), np.zeros((0, 3)), 1.0, "N at least 1"),
        (X * np.nan, X, 1.0, "expected finite numbers"),
        (X, X * np.nan, 1.0, "expected finite numbers"),
        (X, X, 0.0, "temperature above 0"),
    ],
)
def test_bad_input_to_distillation_is_named(student: Any, teacher: Any, temperature: float, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"distillation: .*{message}"):
        distillation(student, teacher, temperature)


def test_the_same_numbers_on_a_device(cupy: Backend) -> None:
    rng = np.random.default_rng(0)
    logits, target, weight = rng.normal(size=(4, 3)), rng.dirichlet(np.ones(3), 4), np.array([1.0, 2.0, 0.5])
    same_on_the_device(cupy, distillation, logits, target)
    same_on_the_device(cupy, lambda x, t: cross_entropy(x, t, 0.1, weight), logits, target)
    same_on_the_device(cupy, lambda x, t: cross_entropy(x, t, 0.1, weight), logits, np.array([0, 2, 1, 1]))
    same_on_the_device(cupy, lambda x, t: binary_cross_entropy_with_logits(x, t, weight, weight), logits, target)
