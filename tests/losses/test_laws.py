"""Losses that are one another: the same number from two formulas, or in a limit."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minissl import losses, ops
from tests.losses.drawing import embeddings, seeds, temperatures


def equal(found: Any, expected: Any) -> None:
    assert found.item() == pytest.approx(expected.item(), rel=1e-9, abs=1e-9)


@st.composite
def with_negatives(draw: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Anchors and positives (N, D), and K negatives of each anchor (N, K, D)."""
    a, p = draw(embeddings(scaled=False))
    K = draw(st.sampled_from([1, 2, 9]))
    return a, p, np.random.default_rng(draw(seeds)).standard_normal((len(a), K, a.shape[1]))


@st.composite
def unit_rows(draw: Any, count: int) -> np.ndarray:
    """`count` matrices (N, D) of rows of length 1, N at least 2."""
    z = np.stack(draw(embeddings(count, least=2, scaled=False)))
    z[~z.any(axis=-1), 0] = 1  # a row of zeros has no direction
    return z / np.linalg.norm(z, axis=-1, keepdims=True)


def squared_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return ((a - b) ** 2).sum(axis=1)


@given(with_negatives())
def test_n_pair_is_info_nce_at_temperature_1(case: Any) -> None:
    """log(1 + Σ e^{n_k − p}) = −log e^p / (e^p + Σ e^{n_k}): the fraction divided by e^p."""
    equal(losses.n_pair(*case), losses.info_nce(*case, temperature=1.0))


@given(with_negatives())
def test_n_pair_is_the_cross_entropy_whose_answer_is_0(case: Any) -> None:
    """−log softmax([a·p, a·n_1, ...])_0 is that fraction."""
    a, p, n = case
    table = np.concatenate([(a * p).sum(axis=1)[:, None], np.einsum("nd,nkd->nk", a, n)], axis=1)  # (N, 1 + K)
    equal(losses.n_pair(a, p, n), losses.cross_entropy(table, np.zeros(len(a), int)))


@given(embeddings(least=2, scaled=False))
def test_n_pair_mc_is_info_nce_in_batch(z: Any) -> None:
    """Both take the other rows of the positives as negatives."""
    equal(losses.n_pair_mc(*z), losses.info_nce(*z, temperature=1.0))


@given(embeddings(count=3, scaled=False))
def test_n_pair_with_one_negative_is_a_softplus(z: Any) -> None:
    """log(1 + e^x) with one term x = a·n − a·p."""
    a, p, n = z
    equal(losses.n_pair(a, p, n[:, None]), ops.softplus((a * n).sum(axis=1) - (a * p).sum(axis=1)).mean())


@given(unit_rows(3))
def test_n_pair_with_one_negative_compares_squared_distances(z: Any) -> None:
    """On unit rows d² = 2 − 2 a·b, so a·n − a·p = (d²_p − d²_n)/2."""
    a, p, n = z
    expected = ops.softplus((squared_distance(a, p) - squared_distance(a, n)) / 2).mean()
    equal(losses.n_pair(a, p, n[:, None]), expected)


@given(unit_rows(3))
def test_n_pair_of_long_rows_is_the_triplet_without_margin(z: Any) -> None:
    """n_pair(s·z)/s² → ½ max(0, d²_p − d²_n) as s grows, since max(0, x) ≤ softplus(x) ≤ max(0, x) + log 2, x ~ s²."""
    expected = losses.triplet(*z, margin=1e-15, reduction="mean").item() / 2
    for s in (1.0, 10.0, 1e3, 1e5):
        a, p, n = s * z
        error = losses.n_pair(a, p, n[:, None]).item() / s**2 - expected
        assert -1e-9 <= error <= math.log(2) / s**2 + 1e-9


def others(z1: np.ndarray, z2: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit views q (2N, D), of each its other view, and the 2N − 2 views of the other images (2N, 2N − 2, D)."""
    z, N = np.asarray(ops.l2_normalize(np.concatenate([z1, z2])).data), len(z1)
    negatives = [np.delete(z, [i % N, i % N + N], axis=0) for i in range(2 * N)]
    return z, np.roll(z, N, axis=0), np.stack(negatives)


@given(embeddings(least=2), temperatures)
def test_nt_xent_is_info_nce_with_the_other_images_as_negatives(z: Any, temperature: float) -> None:
    """Σ over k ≠ i is the positive and the 2N − 2 others."""
    equal(losses.nt_xent(*z, temperature), losses.info_nce(*others(*z), temperature))


@given(embeddings(least=2), temperatures)
def test_nt_xent_is_sup_con_with_a_label_for_each_image(z: Any, temperature: float) -> None:
    """P(i) then holds the other view alone, and its mean and sum are the one term, in either form."""
    labels = np.tile(np.arange(len(z[0])), 2)
    for form in ("out", "in"):
        equal(losses.nt_xent(*z, temperature), losses.sup_con(np.concatenate(z), labels, temperature, form))


@given(embeddings(least=2), temperatures)
def test_nt_xent_is_moco_whose_queue_holds_the_other_images(z: Any, temperature: float) -> None:
    """A row's table [q·k₊, q·queue]/τ has the terms of its sum, and the answer is column 0; the mean over rows."""
    rows = []
    for q, k, queue in zip(*others(*z), strict=True):
        table = np.concatenate([[q @ k], queue @ q])[None] / temperature  # (1, K + 1)
        rows.append(losses.cross_entropy(table, [0]).item())
    equal(losses.nt_xent(*z, temperature), np.mean(rows))


@given(unit_rows(2), temperatures)
def test_soft_nearest_neighbor_of_pairs_is_nt_xent_at_half_the_temperature(z: Any, temperature: float) -> None:
    """On unit rows −d²/τ = cos/(τ/2) − 2/τ, and the constant cancels in the fraction."""
    labels = np.tile(np.arange(len(z[0])), 2)
    neighbor = losses.soft_nearest_neighbor(np.concatenate(z), labels, temperature)
    equal(neighbor, losses.nt_xent(*z, temperature / 2))


@given(unit_rows(4))
def test_byol_is_the_squared_distance_of_unit_rows(z: Any) -> None:
    """‖p − z‖² = 2 − 2 cos, and −1 ≤ cos ≤ 1 puts each of both terms in [0, 4]."""
    p1, z2, p2, z1 = z
    terms = np.stack([squared_distance(p1, z2), squared_distance(p2, z1)])
    equal(losses.byol(p1, z2, p2, z1), terms.sum(axis=0).mean())
    assert ((terms >= 0) & (terms <= 4 + 1e-12)).all()


@given(embeddings(least=2), temperatures, st.sampled_from([0.0, 0.1, 0.9]))
def test_hard_negative_without_concentration_is_debiased(z: Any, temperature: float, share: float) -> None:
    """At β = 0 all weights are 1/M."""
    equal(losses.hard_negative(*z, temperature, share, beta=0.0), losses.debiased(*z, temperature, share))


@given(embeddings(least=2), temperatures)
def test_debiased_without_hidden_positives_is_nt_xent(z: Any, temperature: float) -> None:
    """At τ⁺ = 0, M g is the sum over negatives: the clamp e^{−1/τ} is never above a mean of e^{cos/τ}."""
    equal(losses.debiased(*z, temperature, tau_plus=0.0), losses.nt_xent(*z, temperature))


@given(embeddings(least=2), temperatures)
def test_cmc_of_two_views_is_twice_their_clip(z: Any, temperature: float) -> None:
    """Both directions of one pair of views, added by the one and averaged by the other; scale = 1/τ."""
    for graph in ("full", "core"):
        equal(losses.cmc(z, temperature, graph), 2 * losses.clip(*z, 1 / temperature))


@given(embeddings(least=2), temperatures)
def test_cross_sensor_is_nt_xent_or_clip(z: Any, temperature: float) -> None:
    """With the negatives of the own sensor all other rows are below, without them only the other sensor's."""
    equal(losses.cross_sensor(*z, temperature), losses.nt_xent(*z, temperature))
    equal(losses.cross_sensor(*z, temperature, same_sensor_negatives=False), losses.clip(*z, 1 / temperature))


@given(seeds, st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
def test_masked_mse_with_a_full_mask_is_mse(seed: int, N: int, L: int, D: int) -> None:
    """A mean over patches of equally many numbers is the mean over all numbers; a constant mask cancels."""
    p, t = np.random.default_rng(seed).standard_normal((2, N, L, D))
    for constant in (1.0, 3.0):
        equal(losses.masked_mse(p, t, np.full((N, L), constant)), losses.mse(p, t))
