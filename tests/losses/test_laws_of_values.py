"""What the losses are where it is known: at a collapse, at their least, at their bounds, and after many draws."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minissl import losses
from tests.losses.checking import gradients
from tests.losses.drawing import embeddings, seeds, temperatures

SIZES = st.sampled_from([2, 3, 8, 20])


@given(embeddings(count=1, least=2), temperatures, st.integers(1, 20))
def test_collapse_costs_the_logarithm_of_the_number_of_candidates(z: Any, temperature: float, K: int) -> None:
    """All similarities are equal, so the positive's share is one of 2N − 1, of K + 1, or of N in batch."""
    N, row = len(z[0]), z[0][:1] / np.linalg.norm(z[0]).clip(1e-300)
    same = np.broadcast_to(row, z[0].shape)
    assert losses.nt_xent(same, same, temperature).item() == pytest.approx(math.log(2 * N - 1))
    queue = np.broadcast_to(row, (K, row.shape[1]))
    assert losses.info_nce(same, same, queue, temperature).item() == pytest.approx(math.log(K + 1))
    assert losses.info_nce(same, same, None, temperature).item() == pytest.approx(math.log(N))
    assert losses.byol(same, same, same, same).item() == 0


@given(seeds, SIZES, SIZES, temperatures)
def test_swapped_prediction_of_collapsed_views_is_at_least_log_k(seed: int, N: int, K: int, temperature: float) -> None:
    """Equal rows have uniform codes, and −1/K Σ_k log p_k ≥ log K (Jensen), equal where all p_k are 1/K."""
    rows = np.random.default_rng(seed).uniform(-1, 1, (2, 1, K))
    collapsed = [np.broadcast_to(row, (N, K)) for row in rows]
    assert losses.swapped_prediction(*collapsed, temperature).item() >= math.log(K) - 1e-9
    flat = np.full((N, K), rows[0, 0, 0])
    assert losses.swapped_prediction(flat, flat, temperature).item() == pytest.approx(math.log(K), rel=1e-9)


def test_swapped_prediction_of_images_told_apart_is_below_log_k() -> None:
    """Each image has a prototype of its own: only collapse costs log K."""
    assert losses.swapped_prediction(np.eye(4), np.eye(4)).item() < 0.01 < math.log(4)


@given(embeddings(scaled=False), temperatures, seeds, st.integers(1, 20))
def test_info_nce_is_at_least_0(z: Any, temperature: float, seed: int, K: int) -> None:
    """A share of a sum of positive terms is at most 1. So log(K + 1) − info_nce is at most log(K + 1)."""
    negatives = np.random.default_rng(seed).standard_normal((K, z[0].shape[1]))
    assert losses.info_nce(*z, negatives, temperature).item() >= 0


def test_the_bound_on_mutual_information_is_reached_by_a_positive_that_stands_out() -> None:
    """As the positive's lead grows its share tends to 1, and the bound to log(K + 1)."""
    q, negatives = np.eye(3)[:1], np.zeros((7, 3))
    bounds = [math.log(8) - losses.info_nce(q, s * q, negatives).item() for s in (0.0, 1.0, 5.0, 50.0)]
    assert bounds[0] == pytest.approx(0) and bounds == sorted(bounds)
    assert bounds[-1] == pytest.approx(math.log(8), abs=1e-9)


@pytest.mark.parametrize("correlation", [0.5, 0.8, 0.95])
def test_info_nce_bounds_the_information_of_correlated_gaussians(correlation: float) -> None:
    """I = −D/2 log(1 − ρ²). log p(y|x)/p(y) is a dot product and a term in x, which cancels: the best critic.

    log N − info_nce in batches of N stays below both I and log N, and rises towards the smaller with N. Other
    temperatures are worse critics, and stay below too.
    """
    D, numbers = 2, np.random.default_rng(0)
    x, noise = numbers.standard_normal((2, 8192, D))
    y = correlation * x + math.sqrt(1 - correlation**2) * noise
    rest = 1 - correlation**2
    q = np.concatenate([correlation * x / rest, np.ones((len(x), 1))], axis=1)
    k = np.concatenate([y, -(correlation**2) * (y**2).sum(axis=1, keepdims=True) / (2 * rest)], axis=1)

    def estimate(N: int, temperature: float = 1.0) -> float:
        batches = zip(q.reshape(-1, N, D + 1), k.reshape(-1, N, D + 1), strict=True)
        return math.log(N) - float(np.mean([losses.info_nce(*batch, None, temperature).item() for batch in batches]))

    information = -D / 2 * math.log(rest)
    estimates = [estimate(N) for N in (4, 32, 256)]
    assert estimates == sorted(estimates)
    assert all(e < min(information, math.log(N)) for e, N in zip(estimates, (4, 32, 256), strict=True))
    assert estimates[-1] == pytest.approx(information, rel=0.05)
    assert all(estimate(256, temperature) < estimates[-1] for temperature in (0.5, 2.0, 10.0))


@given(seeds, SIZES, SIZES, st.sampled_from([0.05, 0.5, 5.0]))
def test_sinkhorn_codes_sum_to_one_and_ignore_a_constant(seed: int, N: int, K: int, epsilon: float) -> None:
    """Rows are scaled last; e^{c/ε} divides out with the first column sums."""
    scores = np.random.default_rng(seed).uniform(-1, 1, (N, K))
    codes = losses.sinkhorn(scores, epsilon).data
    np.testing.assert_allclose(codes.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(losses.sinkhorn(scores + 3, epsilon).data, codes, rtol=1e-9, atol=1e-12)


@given(seeds, SIZES, SIZES)
def test_sinkhorn_columns_tend_to_equal_shares(seed: int, N: int, K: int) -> None:
    """Scaling columns to N/K, then rows to 1, never adds to the columns' total error and contracts it (ε = 0.5)."""
    scores = np.random.default_rng(seed).uniform(-1, 1, (N, K))
    errors = [abs(losses.sinkhorn(scores, 0.5, n).data.sum(axis=0) - N / K).sum() for n in (1, 2, 4, 8, 100)]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(errors))
    assert errors[-1] < 1e-6


@given(embeddings(scaled=False))
def test_gaussian_kl_is_0_at_the_prior_alone(z: Any) -> None:
    """μ² ≥ 0 with 0 at μ = 0, and e^x − 1 − x ≥ 0 with 0 at x = 0."""
    mu, log_var = z
    zero = np.zeros_like(mu)
    assert losses.gaussian_kl(zero, zero).item() == 0
    assert losses.gaussian_kl(mu, zero).item() > 0 and losses.gaussian_kl(zero, log_var).item() > 0


def test_gaussian_kl_is_the_mean_of_the_log_ratio_of_densities() -> None:
    """E_q[log q(x) − log p(x)] over draws x = μ + σ ε; the error falls as one over the root of their number."""
    mu, log_var = np.array([[0.5, -1.0, 0.0]]), np.array([[-1.0, 0.5, 0.3]])
    epsilon = np.random.default_rng(0).standard_normal((10**6, 3))
    x = mu + np.exp(log_var / 2) * epsilon
    log_ratio = (x**2 - epsilon**2 - log_var).sum(axis=1) / 2  # the factors 1/√2π cancel
    errors = [abs(log_ratio[:m].mean() - losses.gaussian_kl(mu, log_var).item()) for m in (10**2, 10**4, 10**6)]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 5e-3


@given(st.integers(1, 9), st.integers(1, 9))
def test_a_discriminator_that_guesses_costs_2_log_2(R: int, F: int) -> None:
    """−log σ(0) = log 2 for the real ones and for the fake ones."""
    assert losses.gan_discriminator(np.zeros(R), np.zeros(F)).item() == pytest.approx(2 * math.log(2), rel=1e-12)
    assert losses.gan_generator(np.zeros(F)).item() == pytest.approx(math.log(2), rel=1e-12)


@given(embeddings(scaled=False), temperatures)
def test_the_least_of_distillation_is_the_teachers_entropy(z: Any, temperature: float) -> None:
    """Cross entropy = entropy + KL, and KL ≥ 0 with 0, and so gradient 0, at equal probabilities."""
    student, teacher = z
    share = np.exp(teacher / temperature - (teacher / temperature).max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(axis=1).mean()
    assert losses.distillation(teacher, teacher, temperature).item() == pytest.approx(entropy, rel=1e-9, abs=1e-9)
    assert losses.distillation(student, teacher, temperature).item() >= entropy - 1e-9
    loss = lambda student, teacher: losses.distillation(student, teacher, temperature)
    np.testing.assert_allclose(gradients(loss, teacher, teacher)[0], 0, atol=1e-9)


def test_the_gradient_of_nce_tends_to_that_of_instance_softmax() -> None:
    """With the true Z, 1 − h → 1 for the positive and Σ_m h(noise) ∇s → Σ_j P_j ∇s_j, as m uniform draws grow."""
    numbers, tau = np.random.default_rng(0), 0.5
    rows = numbers.standard_normal((11, 4))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    v, bank = rows[:1], rows[1:]  # (1, D), (n, D)
    log_z = math.log(np.exp(bank @ v[0] / tau).sum())
    (expected,) = gradients(lambda v: losses.instance_softmax(v, bank, [3], tau), v)

    def error(m: int) -> float:
        drawn = bank[numbers.integers(10, size=m)]  # (m, D)
        loss = lambda v: losses.nce((v * bank[3]).sum(axis=1), v @ drawn.T, 10, log_z, tau)
        return float(np.linalg.norm(gradients(loss, v)[0] - expected))

    errors = [error(m) for m in (10, 10**3, 10**5)]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.02
