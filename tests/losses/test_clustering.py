"""Sinkhorn codes and the swapped prediction against their formulas as loops, and their laws."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minissl import ops
from minissl.backend import Backend
from minissl.gradcheck import gradcheck
from minissl.losses.classification import cross_entropy
from minissl.losses.clustering import sinkhorn, swapped_prediction
from minissl.tensor import Tensor, stop_gradient
from tests.losses.checking import equals_the_loops, gradients, same_on_the_device
from tests.losses.drawing import embeddings, temperatures
from tests.oracles import clustering as oracle

epsilons = st.sampled_from([0.01, 0.05, 1.0])


@st.composite
def scores(draw: Any) -> tuple[np.ndarray, np.ndarray]:
    """Two matrices (N, K) of cosines, now and then with equal rows or a row of zeros."""
    s1, s2 = np.tanh(draw(embeddings(scaled=False)))
    return s1, s2


@given(scores(), epsilons, st.integers(1, 4))
def test_sinkhorn_equals_the_loops(s: Any, epsilon: float, iterations: int) -> None:
    expected = oracle.sinkhorn(s[0].tolist(), epsilon, iterations)
    codes = sinkhorn(s[0], epsilon, iterations)
    assert codes.dtype == "float64"
    np.testing.assert_allclose(codes.data, expected, rtol=1e-9, atol=1e-12)
    single = sinkhorn(s[0].astype("float32"), epsilon, iterations)
    assert single.dtype == "float32"
    np.testing.assert_allclose(single.data, expected, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(embeddings(count=1), epsilons)
def test_rows_sum_to_one_whatever_the_scores(dtype: str, z: Any, epsilon: float) -> None:
    """Also for scores from 1e-8 to 1e8, where whole rows and columns of e^{scores/ε} are 0 in any precision."""
    codes = sinkhorn(z[0].astype(dtype), epsilon).data
    assert (codes >= 0).all()
    np.testing.assert_allclose(codes.sum(axis=1), 1, atol=1e-5 if dtype == "float32" else 1e-12)


def test_a_prototype_far_from_all_images_still_gets_its_share() -> None:
    """Its column of e^{scores/ε} is 0 in float32, and 0/0 without logarithms."""
    codes = sinkhorn(np.array([[1, 0.9, -50], [0.9, 1, -50]], "float32"), iterations=200).data
    np.testing.assert_allclose(codes.sum(axis=0), 2 / 3, atol=1e-4)


@given(scores())
def test_columns_tend_to_equal_shares(s: Any) -> None:
    N, K = s[0].shape
    error = [abs(sinkhorn(s[0], 0.5, n).data.sum(axis=0) - N / K).max() for n in (1, 3, 100)]
    assert error[0] + 1e-12 >= error[1] >= error[2] - 1e-12 and error[2] < 1e-6


@given(scores(), epsilons)
def test_a_constant_added_to_all_scores_changes_nothing(s: Any, epsilon: float) -> None:
    np.testing.assert_allclose(sinkhorn(s[0] + 3, epsilon).data, sinkhorn(s[0], epsilon).data, rtol=1e-9, atol=1e-12)


@given(scores(), temperatures, epsilons, st.integers(1, 3))
def test_swapped_prediction_equals_the_loops(s: Any, temperature: float, epsilon: float, iterations: int) -> None:
    expected = oracle.swapped_prediction(s[0].tolist(), s[1].tolist(), temperature, epsilon, iterations)
    loss = lambda s1, s2: swapped_prediction(s1, s2, temperature, epsilon, iterations)
    equals_the_loops(loss, expected, *s, single=1e-4 / min(1, temperature))


@given(scores(), st.sampled_from([0.2, 1.0]))
def test_the_gradient_is_that_of_fixed_codes(s: Any, temperature: float) -> None:
    s1, s2 = s[0][:4, :5], s[1][:4, :5]
    q1, q2 = sinkhorn(s1), sinkhorn(s2)
    fixed = lambda a, b: (cross_entropy(a / temperature, q2) + cross_entropy(b / temperature, q1)) / 2
    gradcheck(fixed, s1, s2)
    found = gradients(lambda a, b: swapped_prediction(a, b, temperature), s1, s2)
    np.testing.assert_allclose(found, gradients(fixed, s1, s2), rtol=1e-12, atol=1e-15)


def test_codes_are_constants() -> None:
    assert not sinkhorn(Tensor(np.eye(3), requires_grad=True)).requires_grad


@given(scores(), temperatures)
def test_the_order_of_views_does_not_matter(s: Any, temperature: float) -> None:
    there, back = swapped_prediction(*s, temperature), swapped_prediction(*s[::-1], temperature)
    assert there.item() == pytest.approx(back.item(), rel=1e-12)


@given(scores(), temperatures)
def test_collapse_costs_at_least_log_k(s: Any, temperature: float) -> None:
    collapsed = [np.broadcast_to(z[:1], z.shape) for z in s]
    least = math.log(s[0].shape[1])
    assert swapped_prediction(*collapsed, temperature).item() >= least - 1e-9
    equal = np.full(s[0].shape, 0.7)
    assert swapped_prediction(equal, equal, temperature).item() == pytest.approx(least, abs=1e-12)


def test_a_queue_is_composed_as_the_docstring_says() -> None:
    """With an empty queue, the sum over ordered pairs of two crops is the loss itself."""
    s = [Tensor(z) for z in np.random.default_rng(0).uniform(-1, 1, (2, 6, 4))]
    total = 0.0
    for i, v in ((0, 1), (1, 0)):
        q = sinkhorn(ops.concatenate([np.ones((0, 4)), s[i]]))[-6:]
        total += cross_entropy(s[v] / 0.1, stop_gradient(q)).item() / 2
    assert total == pytest.approx(swapped_prediction(*s).item(), rel=1e-12)


def test_the_same_numbers_on_a_device(cupy: Backend) -> None:
    same_on_the_device(cupy, swapped_prediction, *np.random.default_rng(0).uniform(-1, 1, (2, 6, 4)))


S = np.ones((2, 3))
BAD: dict[str, tuple[Any, ...]] = {
    "an empty batch": (np.ones((0, 3)), {}, "N at least 1"),
    "one axis": (np.ones(3), {}, "expected a tensor"),
    "NaN": (S * np.nan, {}, "expected finite numbers"),
    "no epsilon": (S, {"epsilon": 0.0}, "above 0, got 0.0"),
    "no iterations": (S, {"iterations": 0}, "at least 1 iteration, got 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_to_sinkhorn_is_named(case: str) -> None:
    values, options, message = BAD[case]
    with pytest.raises(ValueError, match=f"sinkhorn: .*{message}"):
        sinkhorn(values, **options)


@pytest.mark.parametrize(
    ("s2", "temperature", "message"),
    [(np.ones((2, 4)), 0.1, "of one shape"), (np.ones((3, 3)), 0.1, "of one shape"), (S, 0.0, "temperature above 0")],
)
def test_bad_input_to_swapped_prediction_is_named(s2: Any, temperature: float, message: str) -> None:
    with pytest.raises(ValueError, match=f"swapped_prediction: .*{message}"):
        swapped_prediction(S, s2, temperature)
