"""Losses with labels, as loops."""

import math
from collections.abc import Sequence

from tests.oracles.vectors import Row, Rows, log_sum_exp, softplus


def cross_entropy(
    logits: Rows, target: Sequence[int] | Rows, smoothing: float = 0.0, weight: Row | None = None
) -> float:
    """−Σ_n w_n Σ_k t_nk log p_nk / Σ_n w_n with w_n = Σ_k t_nk w_k, the target smoothed after the weights are taken."""
    N, K = len(logits), len(logits[0])
    total, weights = 0.0, 0.0
    for n in range(N):
        own = target[n]
        t = [float(k == own) for k in range(K)] if isinstance(own, int) else own
        w = 1.0 if weight is None else sum(t[k] * weight[k] for k in range(K))
        for k in range(K):
            share = (1 - smoothing) * t[k] + smoothing / K
            total -= w * share * (logits[n][k] - log_sum_exp(logits[n]))
        weights += w
    return total / weights


def binary_cross_entropy_with_logits(
    logits: Rows, target: Rows, weight: Row | None = None, positive_weight: Row | None = None
) -> float:
    """Mean over all of w_k (−w⁺_k t log σ(x) − (1 − t) log(1 − σ(x)))."""
    total, count = 0.0, 0
    for n in range(len(logits)):
        for k in range(len(logits[n])):
            x, t = logits[n][k], target[n][k]
            positive = 1.0 if positive_weight is None else positive_weight[k]
            loss = positive * t * softplus(-x) + (1 - t) * softplus(x)
            total += loss * (1.0 if weight is None else weight[k])
            count += 1
    return total / count


def distillation(student: Rows, teacher: Rows, temperature: float) -> float:
    """Mean over N of −Σ_k softmax(t/τ)_k log softmax(s/τ)_k."""
    total = 0.0
    for n in range(len(student)):
        s, t = [x / temperature for x in student[n]], [x / temperature for x in teacher[n]]
        for k in range(len(s)):
            total -= math.exp(t[k] - log_sum_exp(t)) * (s[k] - log_sum_exp(s))
    return total / len(student)
