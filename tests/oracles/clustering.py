"""Losses through cluster assignments, as loops."""

import math

from tests.oracles.vectors import Rows, log_sum_exp


def sinkhorn(scores: Rows, epsilon: float, iterations: int) -> list[list[float]]:
    """e^{(scores − max)/ε}, each column divided by its sum, then each row, and again."""
    N, K = len(scores), len(scores[0])
    largest = max(max(row) for row in scores)
    q = [[math.exp((s - largest) / epsilon) for s in row] for row in scores]
    for _ in range(iterations):
        for k in range(K):
            column = math.fsum(q[n][k] for n in range(N))
            for n in range(N):
                q[n][k] /= column
        for n in range(N):
            total = math.fsum(q[n])
            q[n] = [x / total for x in q[n]]
    return q


def swapped_prediction(scores1: Rows, scores2: Rows, temperature: float, epsilon: float, iterations: int) -> float:
    """½ [CE(q2, softmax(s1/τ)) + CE(q1, softmax(s2/τ))], each the mean over N of −Σ_k q_k log p_k."""
    total = 0.0
    for scores, other in ((scores1, scores2), (scores2, scores1)):
        codes = sinkhorn(other, epsilon, iterations)
        for n in range(len(scores)):
            s = [x / temperature for x in scores[n]]
            for k in range(len(s)):
                total -= codes[n][k] * (s[k] - log_sum_exp(s))
    return total / 2 / len(scores1)
