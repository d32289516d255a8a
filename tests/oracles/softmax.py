"""Losses that pick the positive out of candidates, as loops."""

from tests.oracles.vectors import Rows, cosine, log_sum_exp


def nt_xent(z1: Rows, z2: Rows, temperature: float) -> float:
    """Mean over the 2N ordered pairs (i, j) of −log e^{sim(i,j)/τ} / Σ_{k≠i} e^{sim(i,k)/τ}."""
    N, views = len(z1), [*z1, *z2]
    total = 0.0
    for i in range(2 * N):
        j = i + N if i < N else i - N
        below = [cosine(views[i], views[k]) / temperature for k in range(2 * N) if k != i]
        total += log_sum_exp(below) - cosine(views[i], views[j]) / temperature
    return total / (2 * N)
