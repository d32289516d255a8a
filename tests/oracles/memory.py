"""Losses against a memory bank, as loops."""

import math
from collections.abc import Sequence

from tests.oracles.vectors import Row, Rows, dot, log_sum_exp


def instance_softmax(v: Rows, bank: Rows, index: Sequence[int], temperature: float) -> float:
    """Mean over N of −log(e^{v·b_i/τ} / Σ_j e^{v·b_j/τ})."""
    total = 0.0
    for n in range(len(v)):
        s = [dot(v[n], row) / temperature for row in bank]
        total += log_sum_exp(s) - s[index[n]]
    return total / len(v)


def nce(positive: Row, noise: Rows, n: int, log_z: float, temperature: float) -> float:
    """Mean over N of −log h(p) − Σ_m log(1 − h(noise)), with h = P/(P + m/n) and P = e^{s/τ}/Z."""
    total = 0.0
    for i in range(len(positive)):
        prior = math.log(len(noise[i]) / n)  # log(m/n)
        log_p = positive[i] / temperature - log_z
        total -= log_p - log_sum_exp([log_p, prior])
        for s in noise[i]:
            total -= prior - log_sum_exp([s / temperature - log_z, prior])
    return total / len(positive)
