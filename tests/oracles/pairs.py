"""Losses over distances between pairs of rows, as loops."""

import math
from collections.abc import Sequence

from tests.oracles.vectors import Rows, log_sum_exp, squared_distance


def contrastive(a: Rows, b: Rows, same: Sequence[bool], margin: float, hinge: str) -> float:
    """Mean of d² for pairs of one class and of the hinge, max(0, ε − d²) or max(0, ε − d)², for all others."""
    total = 0.0
    for x, y, alike in zip(a, b, same, strict=True):
        d2 = squared_distance(x, y)
        if alike:
            total += d2
        elif hinge == "squared_distance":
            total += max(0.0, margin - d2)
        else:
            total += max(0.0, margin - math.sqrt(d2)) ** 2
    return total / len(a)


def triplet(anchor: Rows, positive: Rows, negative: Rows, margin: float) -> float:
    """Σ max(0, d²(a,p) − d²(a,n) + ε)."""
    total = 0.0
    for a, p, n in zip(anchor, positive, negative, strict=True):
        total += max(0.0, squared_distance(a, p) - squared_distance(a, n) + margin)
    return total


def mine_triplets(z: Rows, labels: Sequence[int], margin: float, kind: str) -> list[tuple[int, int, int]]:
    """All (a, p, n) of the kind, in the order of the loops."""
    N, found = len(z), []
    d2 = [[squared_distance(x, y) for y in z] for x in z]
    for a in range(N):
        for p in range(N):
            for n in range(N):
                if p == a or labels[p] != labels[a] or labels[n] == labels[a]:
                    continue
                hard = d2[a][n] <= d2[a][p]
                semi_hard = not hard and d2[a][n] < d2[a][p] + margin
                if {"all": True, "hard": hard, "semi_hard": semi_hard}[kind]:
                    found.append((a, p, n))
    return found


def lifted_structured(z: Rows, labels: Sequence[int], margin: float) -> float:
    """1/(2|P|) Σ max(0, J_ij)² over the pairs i < j of one class; a pair without negatives adds 0."""
    N, total, pairs = len(z), 0.0, 0
    d = [[math.sqrt(squared_distance(x, y)) for y in z] for x in z]
    for i in range(N):
        for j in range(i + 1, N):
            if labels[i] != labels[j]:
                continue
            pairs += 1
            negatives = [k for k in range(N) if labels[k] != labels[i]]
            if negatives:
                J = d[i][j] + log_sum_exp([margin - d[row][k] for row in (i, j) for k in negatives])
                total += max(0.0, J) ** 2
    return total / (2 * pairs)
