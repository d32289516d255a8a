"""Losses that pick the positive out of candidates, as loops."""

import math
from collections.abc import Sequence

from tests.oracles.vectors import Rows, cosine, dot, log_sum_exp, squared_distance


def n_pair(anchor: Rows, positive: Rows, negatives: Sequence[Rows]) -> float:
    """Mean of log(1 + Σ_k exp(a·n_k − a·p))."""
    total = 0.0
    for a, p, own in zip(anchor, positive, negatives, strict=True):
        total += log_sum_exp([0.0, *(dot(a, n) - dot(a, p) for n in own)])
    return total / len(anchor)


def n_pair_mc(anchors: Rows, positives: Rows, l2: float) -> float:
    """The same with the other pairs' positives, and l2 · mean of ‖a‖² + ‖p‖²."""
    N = len(anchors)
    total = 0.0
    for i in range(N):
        a, p = anchors[i], positives[i]
        total += log_sum_exp([0.0, *(dot(a, positives[k]) - dot(a, p) for k in range(N) if k != i)])
        total += l2 * (dot(a, a) + dot(p, p))
    return total / N


def info_nce(query: Rows, positive: Rows, negatives: Sequence[Rows], temperature: float) -> float:
    """Mean of −log e^{q·p/τ} / (e^{q·p/τ} + Σ_k e^{q·n_k/τ}); negatives are each query's own."""
    total = 0.0
    for q, p, own in zip(query, positive, negatives, strict=True):
        below = [dot(q, row) / temperature for row in [p, *own]]
        total += log_sum_exp(below) - dot(q, p) / temperature
    return total / len(query)


def nt_xent(z1: Rows, z2: Rows, temperature: float) -> float:
    """Mean over the 2N ordered pairs (i, j) of −log e^{sim(i,j)/τ} / Σ_{k≠i} e^{sim(i,k)/τ}."""
    N, views = len(z1), [*z1, *z2]
    total = 0.0
    for i in range(2 * N):
        j = i + N if i < N else i - N
        below = [cosine(views[i], views[k]) / temperature for k in range(2 * N) if k != i]
        total += log_sum_exp(below) - cosine(views[i], views[j]) / temperature
    return total / (2 * N)


def soft_nearest_neighbor(z: Rows, labels: Sequence[int], temperature: float) -> float:
    """Mean over i with a partner of −log(Σ_{k≠i, same} e^{−d²/τ} / Σ_{k≠i} e^{−d²/τ})."""
    costs = []
    for i in range(len(z)):
        others = [k for k in range(len(z)) if k != i]
        below = [-squared_distance(z[i], z[k]) / temperature for k in others]
        above = [-squared_distance(z[i], z[k]) / temperature for k in others if labels[k] == labels[i]]
        if above:
            costs.append(log_sum_exp(below) - log_sum_exp(above))
    return sum(costs) / len(costs)


def sup_con(z: Rows, labels: Sequence[int], temperature: float, form: str) -> float:
    """Mean over i with a positive of the mean of −log p_ij over them ("out"), or of −log of the mean of p_ij ("in")."""
    costs = []
    for i in range(len(z)):
        others = [k for k in range(len(z)) if k != i]
        below = log_sum_exp([cosine(z[i], z[k]) / temperature for k in others])
        log_p = [cosine(z[i], z[k]) / temperature - below for k in others if labels[k] == labels[i]]
        if log_p:
            mean = sum(log_p) / len(log_p) if form == "out" else log_sum_exp(log_p) - math.log(len(log_p))
            costs.append(-mean)
    return sum(costs) / len(costs)


def clip(a: Rows, b: Rows, scale: float) -> float:
    """(CE(S) + CE(Sᵀ))/2 with S = scale · cosine."""
    N = len(a)
    total = 0.0
    for i in range(N):
        right = scale * cosine(a[i], b[i])
        total += log_sum_exp([scale * cosine(a[i], b[k]) for k in range(N)]) - right
        total += log_sum_exp([scale * cosine(a[k], b[i]) for k in range(N)]) - right
    return total / (2 * N)


def cmc(views: Sequence[Rows], temperature: float, graph: str) -> float:
    """Σ over pairs of views of both directions' cross entropies; "core": the pairs with view 0."""
    total = 0.0
    for u in range(len(views)):
        for v in range(u + 1, len(views)):
            if graph == "full" or u == 0:
                total += 2 * clip(views[u], views[v], 1 / temperature)
    return total


def cross_sensor(z1: Rows, z2: Rows, temperature: float, same_sensor_negatives: bool) -> float:
    """Mean over both sensors' rows; the sum below runs over all other rows, or over the other sensor's."""
    N, total = len(z1), 0.0
    for mine, other in ((z1, z2), (z2, z1)):
        for i in range(N):
            rows = [*other, *(mine[k] for k in range(N) if k != i)] if same_sensor_negatives else other
            below = [cosine(mine[i], row) / temperature for row in rows]
            total += log_sum_exp(below) - cosine(mine[i], other[i]) / temperature
    return total / (2 * N)


def hard_negative(z1: Rows, z2: Rows, temperature: float, tau_plus: float, beta: float) -> float:
    """−log pos/(pos + M g), g = max((mean_neg − τ⁺pos)/(1−τ⁺), e^{−1/τ}), negatives weighted by e^{β·sim/τ}."""
    N, views = len(z1), [*z1, *z2]
    total = 0.0
    for i in range(2 * N):
        pos = math.exp(cosine(views[i], views[(i + N) % (2 * N)]) / temperature)
        neg = [math.exp(cosine(views[i], views[k]) / temperature) for k in range(2 * N) if k % N != i % N]
        weight = [math.pow(e, beta) for e in neg]
        mean_neg = math.fsum(w * e for w, e in zip(weight, neg, strict=True)) / math.fsum(weight)
        g = max((mean_neg - tau_plus * pos) / (1 - tau_plus), math.exp(-1 / temperature))
        total += math.log1p(len(neg) * g / pos)
    return total / (2 * N)


def debiased(z1: Rows, z2: Rows, temperature: float, tau_plus: float) -> float:
    """The same with all negatives alike."""
    N, views = len(z1), [*z1, *z2]
    total = 0.0
    for i in range(2 * N):
        pos = math.exp(cosine(views[i], views[(i + N) % (2 * N)]) / temperature)
        neg = [math.exp(cosine(views[i], views[k]) / temperature) for k in range(2 * N) if k % N != i % N]
        g = max((sum(neg) / len(neg) - tau_plus * pos) / (1 - tau_plus), math.exp(-1 / temperature))
        total += -math.log(pos / (pos + len(neg) * g))
    return total / (2 * N)
