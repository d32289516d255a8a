"""Debiased and hard negatives against their formulas as loops."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minissl.gradcheck import gradcheck
from minissl.losses import negatives as losses
from minissl.tensor import Tensor
from tests.losses.drawing import embeddings, temperatures
from tests.oracles import softmax as oracle

shares = st.sampled_from([0.0, 0.1, 0.5])
betas = st.sampled_from([0.0, 0.5, 2.0])


def check(loss: Any, z: Any, expected: float, temperature: float, beta: float = 0.0) -> None:
    """The value in both types. float32's errors are those of the exponents, up to (1 + β)/τ."""
    assert loss(*z).item() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    single = loss(*(array.astype("float32") for array in z))
    assert single.shape == () and single.dtype == "float32"
    assert single.item() == pytest.approx(expected, rel=1e-4, abs=(1 + beta) * 1e-4 / min(1, temperature))


@given(embeddings(2, least=2), temperatures, shares)
def test_debiased_equals_the_loops(z: Any, temperature: float, share: float) -> None:
    expected = oracle.debiased(z[0].tolist(), z[1].tolist(), temperature, share)
    check(lambda a, b: losses.debiased(a, b, temperature, share), z, expected, temperature)


@given(embeddings(2, least=2), temperatures, shares, betas)
def test_hard_negative_equals_the_loops(z: Any, temperature: float, share: float, beta: float) -> None:
    expected = oracle.hard_negative(z[0].tolist(), z[1].tolist(), temperature, share, beta)
    check(lambda a, b: losses.hard_negative(a, b, temperature, share, beta), z, expected, temperature, beta)


LOSSES = {"debiased": losses.debiased, "hard_negative": losses.hard_negative}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("share", [0.0, 0.1])
def test_the_gradient_equals_central_differences(name: str, share: float) -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 4, 3))
    gradcheck(lambda a, b: LOSSES[name](a, b, 0.5, share), a, b)


@pytest.mark.parametrize("name", LOSSES)
def test_where_g_is_clamped_only_the_positive_has_a_gradient(name: str) -> None:
    """Positives that coincide and opposite negatives: mean_neg = e^−2 < τ⁺ e² for τ⁺ = 0.5, so g = e^−2, and the loss
    log(1 + 2 e^−4)."""
    z = np.array([[1.0, 0.0], [-1.0, 0.0]])
    assert LOSSES[name](z, z, 0.5, 0.5).item() == pytest.approx(math.log1p(2 * math.exp(-4)), rel=1e-12)
    tilted = np.array([[1.0, 0.3], [-1.0, 0.2]])
    gradcheck(lambda a, b: LOSSES[name](a, b, 0.5, 0.5), z, tilted)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("sign", [1, -1])
def test_values_and_gradients_stay_finite(name: str, share: float, sign: int) -> None:
    """At τ = 0.01 in float32, where e^{1/τ} is not: positives that coincide, or are opposite; all rows equal or 0."""
    rows = np.random.default_rng(0).standard_normal((16, 8)).astype("float32")
    for z in (rows, np.ones_like(rows), np.zeros_like(rows)):
        z1, z2 = Tensor(z, requires_grad=True), Tensor(sign * z, requires_grad=True)
        loss = LOSSES[name](z1, z2, 0.01, share)
        loss.backward()
        assert math.isfinite(loss.item()) and np.isfinite(z1.grad).all() and np.isfinite(z2.grad).all()


@given(embeddings(2, least=2), temperatures)
def test_harder_negatives_cost_more(z: Any, temperature: float) -> None:
    assume(len(z[0]) > 2)
    costs = [losses.hard_negative(*z, temperature, 0.1, beta).item() for beta in (0.0, 0.5, 2.0)]
    assert costs[0] <= costs[1] + 1e-9 and costs[1] <= costs[2] + 1e-9


def test_they_run_on_cupy(cupy: Any) -> None:
    arrays = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")
    for name, loss in LOSSES.items():
        there = [Tensor(cupy.to_device(array), requires_grad=True) for array in arrays]
        here = [Tensor(array, requires_grad=True) for array in arrays]
        for tensors in (there, here):
            loss(*tensors).backward()
        np.testing.assert_allclose(cupy.to_host(there[0].grad), here[0].grad, rtol=1e-3, atol=1e-5, err_msg=name)


Z = np.ones((3, 2))
BAD: dict[str, tuple[Any, dict[str, float], str]] = {
    "other shapes": ((Z, np.ones((4, 2))), {}, "of one shape"),
    "one image": ((Z[:1], Z[:1]), {}, "N at least 2"),
    "no image": ((Z[:0], Z[:0]), {}, "N at least 2"),
    "NaN": ((Z, Z * np.nan), {}, "expected finite numbers"),
    "τ = 0": ((Z, Z), {"temperature": 0}, "temperature above 0"),
    "τ⁺ = 1": ((Z, Z), {"tau_plus": 1.0}, "tau_plus from 0 to below 1"),
    "τ⁺ < 0": ((Z, Z), {"tau_plus": -0.1}, "tau_plus from 0 to below 1"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("name", LOSSES)
def test_bad_input_is_named(name: str, case: str) -> None:
    rows, options, message = BAD[case]
    with pytest.raises(ValueError, match=f"{name}: .*{message}"):
        LOSSES[name](*rows, **options)


@pytest.mark.parametrize("beta", [-1.0, math.inf, math.nan])
def test_a_beta_below_0_is_named(beta: float) -> None:
    with pytest.raises(ValueError, match="hard_negative: expected a finite beta of at least 0"):
        losses.hard_negative(Z, Z, beta=beta)
