"""Losses that pick the positive out of candidates, as loops."""

import math
from collections.abc import Sequence

Rows = Sequence[Sequence[float]]


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / max(math.sqrt(sum(x * x for x in a)), 1e-12) / max(math.sqrt(sum(y * y for y in b)), 1e-12)


def log_sum_exp(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(v - top) for v in values))


def nt_xent(z1: Rows, z2: Rows, temperature: float) -> float:
    """Mean over the 2N ordered pairs (i, j) of −log e^{sim(i,j)/τ} / Σ_{k≠i} e^{sim(i,k)/τ}."""
    N, views = len(z1), [*z1, *z2]
    total = 0.0
    for i in range(2 * N):
        j = i + N if i < N else i - N
        below = [cosine(views[i], views[k]) / temperature for k in range(2 * N) if k != i]
        total += log_sum_exp(below) - cosine(views[i], views[j]) / temperature
    return total / (2 * N)
