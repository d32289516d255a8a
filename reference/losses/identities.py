"""Which loss is which: the identities between the losses, each measured on random embeddings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minissl import losses, ops

DRAWS = 20
N, K, D = 6, 5, 8
TAU = 0.3
LONG = 1e6  # embeddings so long that softplus has become max(0, ·)

Draw = Callable[..., np.ndarray]  # standard normal numbers of a shape


@dataclass(frozen=True)
class Identity:
    """a = b under a condition; `sides` computes both from random embeddings."""

    a: str
    b: str
    condition: str
    sides: Callable[[Draw], tuple[Any, Any]]


def unit(z: Any) -> Any:
    return ops.l2_normalize(z)


def pairs() -> np.ndarray:
    """One label a pair: row n and row N + n are views of one image."""
    return np.arange(2 * N) % N


def two_views(x: Draw) -> tuple[np.ndarray, np.ndarray]:
    return x(N, D), x(N, D)


def triplet_limit(x: Draw) -> tuple[Any, Any]:
    a, p, n = unit(x(N, D)), unit(x(N, D)), unit(x(N, D))
    sharp = losses.n_pair(LONG * a, LONG * p, (LONG * n).reshape(N, 1, D)) / LONG**2
    return losses.triplet(a, p, n, margin=1e-12, reduction="mean") / 2, sharp


def own_negatives(x: Draw) -> tuple[Any, Any]:
    a, p, n = x(N, D), x(N, D), x(N, K, D)
    return losses.n_pair(a, p, n), losses.info_nce(a, p, n, temperature=1.0)


def in_batch(x: Draw) -> tuple[Any, Any]:
    a, p = two_views(x)
    return losses.n_pair_mc(a, p), losses.info_nce(a, p, temperature=1.0)


def logits(x: Draw) -> tuple[Any, Any]:
    q, p, queue = x(N, D), x(N, D), x(K, D)
    table = np.concatenate([(q * p).sum(1, keepdims=True), q @ queue.T], 1) / TAU  # (N, 1 + K)
    return losses.info_nce(q, p, queue, TAU), losses.cross_entropy(table, np.zeros(N, int))


def bank(x: Draw) -> tuple[Any, Any]:
    v, rows = x(1, D), x(K, D)
    return losses.instance_softmax(v, rows, [2], TAU), losses.info_nce(v, rows[[2]], np.delete(rows, 2, 0), TAU)


def classifier(x: Draw) -> tuple[Any, Any]:
    v, rows, index = x(N, D), x(K, D), np.arange(N) % K
    return losses.instance_softmax(v, rows, index, TAU), losses.cross_entropy(v @ rows.T / TAU, index)


def teacher(x: Draw) -> tuple[Any, Any]:
    s, t = two_views(x)
    return losses.distillation(s, t, TAU), losses.cross_entropy(s / TAU, ops.softmax(t / TAU))


def codes(x: Draw) -> tuple[Any, Any]:
    s1, s2 = two_views(x)
    q1, q2 = losses.sinkhorn(s1), losses.sinkhorn(s2)
    both = losses.cross_entropy(s1 / TAU, q2) + losses.cross_entropy(s2 / TAU, q1)
    return losses.swapped_prediction(s1, s2, TAU), both / 2


def all_others(x: Draw) -> tuple[Any, Any]:
    z1, z2 = two_views(x)
    z = unit(np.concatenate([z1, z2]))
    others = np.array([[k for k in range(2 * N) if k % N != i % N] for i in range(2 * N)])  # (2N, 2N − 2)
    partner = (np.arange(2 * N) + N) % (2 * N)
    return losses.nt_xent(z1, z2, TAU), losses.info_nce(z, z[partner], z[others], TAU)


def supervised(x: Draw) -> tuple[Any, Any]:
    z1, z2 = two_views(x)
    return losses.nt_xent(z1, z2, TAU), losses.sup_con(np.concatenate([z1, z2]), pairs(), TAU)


def neighbours(x: Draw) -> tuple[Any, Any]:
    z1, z2 = two_views(x)
    z = unit(np.concatenate([z1, z2]))
    return losses.nt_xent(z1, z2, TAU), losses.soft_nearest_neighbor(z, pairs(), 2 * TAU)


def no_hidden_positives(x: Draw) -> tuple[Any, Any]:
    z = two_views(x)
    return losses.nt_xent(*z, TAU), losses.debiased(*z, TAU, tau_plus=0.0)


def even_weights(x: Draw) -> tuple[Any, Any]:
    z = two_views(x)
    return losses.debiased(*z, TAU), losses.hard_negative(*z, TAU, beta=0.0)


def all_sensors(x: Draw) -> tuple[Any, Any]:
    z = two_views(x)
    return losses.cross_sensor(*z, TAU), losses.nt_xent(*z, TAU)


def other_sensor(x: Draw) -> tuple[Any, Any]:
    z = two_views(x)
    return losses.cross_sensor(*z, TAU, same_sensor_negatives=False), losses.clip(*z, 1 / TAU)


def two_directions(x: Draw) -> tuple[Any, Any]:
    a, b = two_views(x)
    â, b̂ = unit(a), unit(b)
    both = losses.info_nce(â, b̂, temperature=TAU) + losses.info_nce(b̂, â, temperature=TAU)
    return losses.clip(a, b, 1 / TAU), both / 2


def coding(x: Draw) -> tuple[Any, Any]:
    a, b = two_views(x)
    return losses.cmc([a, b], TAU) / 2, losses.clip(a, b, 1 / TAU)


def positives_only(x: Draw) -> tuple[Any, Any]:
    p1, z2, p2, z1 = (unit(x(N, D)) for _ in range(4))
    same = np.ones(N, bool)
    return losses.byol(p1, z2, p2, z1), losses.contrastive(p1, z2, same) + losses.contrastive(p2, z1, same)


def full_mask(x: Draw) -> tuple[Any, Any]:
    p, t = x(N, K, D), x(N, K, D)
    return losses.masked_mse(p, t, np.ones((N, K))), losses.mse(p, t)


IDENTITIES = (
    Identity("triplet", "n_pair", "K = 1, ε → 0, unit rows × s:\n½ triplet = lim n_pair / s²", triplet_limit),
    Identity("n_pair", "info_nce", "τ = 1", own_negatives),
    Identity("n_pair_mc", "info_nce", "in batch, τ = 1", in_batch),
    Identity("info_nce", "cross_entropy", "answer 0", logits),
    Identity("instance_softmax", "info_nce", "queue = rest of bank", bank),
    Identity("instance_softmax", "cross_entropy", "weights = bank", classifier),
    Identity("distillation", "cross_entropy", "target = teacher", teacher),
    Identity("swapped_prediction", "cross_entropy", "target = other view's code,\nmean of both directions", codes),
    Identity("nt_xent", "info_nce", "unit rows, negatives =\nthe 2N − 2 others", all_others),
    Identity("nt_xent", "sup_con", "one label a pair", supervised),
    Identity("nt_xent", "soft_nearest_neighbor", "unit rows, one label\na pair, its τ doubled", neighbours),
    Identity("nt_xent", "debiased", "τ⁺ = 0, no clamp", no_hidden_positives),
    Identity("debiased", "hard_negative", "β = 0", even_weights),
    Identity("cross_sensor", "nt_xent", "same-sensor\nnegatives in", all_sensors),
    Identity("cross_sensor", "clip", "same-sensor\nnegatives out, s = 1/τ", other_sensor),
    Identity("clip", "info_nce", "unit rows, in batch,\nmean of both directions,\ns = 1/τ", two_directions),
    Identity("cmc", "clip", "two views, s = 1/τ,\ncmc = 2 clip", coding),
    Identity("byol", "contrastive", "unit rows, all positive,\nboth directions added", positives_only),
    Identity("masked_mse", "mse", "full mask", full_mask),
)


Measured = list[tuple[Identity, float]]


def largest_difference(identity: Identity, draws: int = DRAWS) -> float:
    """The largest |a − b| over random embeddings in float64, seeded."""
    rng = np.random.default_rng(0)
    sides = [identity.sides(lambda *shape: rng.standard_normal(shape)) for _ in range(draws)]
    return max(abs(a.item() - b.item()) for a, b in sides)


def measured() -> Measured:
    return [(identity, largest_difference(identity)) for identity in IDENTITIES]


def table(found: Measured) -> str:
    lines = [f"{'':46}{f'largest difference in {DRAWS} draws':>32}  condition"]
    for identity, difference in found:
        names, condition = f"{identity.a} = {identity.b}", identity.condition.replace("\n", " ")
        lines.append(f"{names:46}{difference:32.1e}  {condition}")
    return "\n".join(lines)
