"""Losses that look twice at their negatives: some are hidden positives, and some teach more than others."""

import math
from typing import Any

from minissl import backend, ops
from minissl.backend import Array
from minissl.losses.rows import cosine_similarity, embeddings, pick, positive_temperature
from minissl.tensor import Tensor


def debiased(z1: Any, z2: Any, temperature: float = 0.5, tau_plus: float = 0.1) -> Tensor:
    """−log pos/(pos + M g),  g = max((mean_neg − τ⁺ pos)/(1 − τ⁺), e^{−1/τ}),  mean over the 2N anchors.

    pos = e^{sim/τ} of the anchor and its other view, mean_neg the mean of e^{sim/τ} over its M = 2N − 2 negatives, the
    views of the other images. Of those a share τ⁺ has the anchor's class (sampling bias): g takes it out again, and
    never falls below the least that a mean of e^{sim/τ} can be. At τ⁺ = 0 it is `nt_xent`.

    z1, z2: embeddings (N, D), row n of both from one image; their lengths do not matter. tau_plus: the chance that a
    random image has the anchor's class, 1/K for K balanced classes. The slide shows the bias, not this correction.
    Raises ValueError for shapes that differ, fewer than two images, τ ≤ 0 or τ⁺ outside 0 to below 1.

    (Chuang et al., 2020, "Debiased Contrastive Learning", with one positive)
    """
    s, log_pos, others, M = _anchors("debiased", z1, z2, temperature)
    log_mean = _logsumexp_over(others, s) - math.log(M)
    return _corrected("debiased", log_pos, log_mean, M, temperature, tau_plus)


def hard_negative(z1: Any, z2: Any, temperature: float = 0.5, tau_plus: float = 0.1, beta: float = 1.0) -> Tensor:
    """`debiased` with mean_neg = Σ_k w_k e^{sim_k/τ},  w = softmax(β sim/τ) over the negatives: near ones count more.

    β = 0 weights all alike and is `debiased`; β → ∞ sees the nearest negative only. β has to be at least 0. The
    gradient flows through the weights too, as in the authors' code. Other arguments and errors as for `debiased`.

    (Robinson et al., 2021, "Contrastive Learning with Hard Negative Samples")
    """
    if not 0 <= beta < math.inf:
        raise ValueError(f"hard_negative: expected a finite beta of at least 0, got {beta}; usual are 0.5 to 2")
    s, log_pos, others, M = _anchors("hard_negative", z1, z2, temperature)
    log_mean = _logsumexp_over(others, (1 + beta) * s) - _logsumexp_over(others, beta * s)
    return _corrected("hard_negative", log_pos, log_mean, M, temperature, tau_plus)


def _anchors(loss: str, z1: Any, z2: Any, temperature: float) -> tuple[Tensor, Tensor, Array, int]:
    """sim/τ of all 2N views (2N, 2N), of each with its other view (2N,), where negatives are (2N, 2N), and how many."""
    z1, z2 = embeddings(loss, z1, z2, least=2)
    s = cosine_similarity(ops.concatenate([z1, z2])) / positive_temperature(loss, temperature)
    N, i = len(z1), backend.of(s.data).xp.arange(len(s))
    return s, pick(s, (i + N) % (2 * N)), i[:, None] % N != i % N, 2 * N - 2


def _logsumexp_over(chosen: Array, s: Tensor) -> Tensor:
    return ops.logsumexp(ops.where(chosen, s, -math.inf), axis=1)


def _corrected(loss: str, log_pos: Tensor, log_mean: Tensor, M: int, tau: float, tau_plus: float) -> Tensor:
    """−log pos/(pos + M g), mean over the anchors. All in logarithms: e^{1/τ} leaves float32's range at τ = 0.01."""
    if not 0 <= tau_plus < 1:
        raise ValueError(f"{loss}: expected tau_plus from 0 to below 1, got {tau_plus}; 1/K for K balanced classes")
    hidden = log_pos + (math.log(tau_plus) if tau_plus else -math.inf)  # log(τ⁺ pos)
    log_g = ops.maximum(_log_difference(log_mean, hidden) - math.log(1 - tau_plus), -1 / tau)
    return ops.softplus(math.log(M) + log_g - log_pos).mean()  # log(1 + M g/pos)


def _log_difference(a: Tensor, b: Tensor) -> Tensor:
    """log(e^a − e^b), −∞ where that is not above 0."""
    ratio = ops.exp(ops.minimum(b - a, 0.0))  # e^b / e^a
    above = ratio.data < 1
    return ops.where(above, a + ops.log1p(-ops.where(above, ratio, 0.0)), -math.inf)
