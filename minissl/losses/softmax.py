"""Losses that pick the positive out of a set of candidates: −log of its share in a softmax over similarities."""

import math
from functools import partial
from typing import Any

from minissl import backend, ops
from minissl.backend import Array
from minissl.losses.rows import (
    class_labels,
    cosine_similarity,
    dot_products,
    embeddings,
    matched,
    negative_rows,
    pick,
    positive_temperature,
    self_mask,
    without_self,
)
from minissl.tensor import Tensor


def n_pair(anchor: Any, positive: Any, negatives: Any) -> Tensor:
    """log(1 + Σ_k exp(a·n_k − a·p)), mean over the N anchors: the triplet loss with K negatives and no margin.

    anchor, positive: embeddings (N, D); negatives (N, K, D), K of its own for each anchor. Dot products, not distances:
    longer rows sharpen the choice. It is the cross entropy of the logits [a·p, a·n_1, ..., a·n_K] with answer 0.
    Raises ValueError for shapes that do not fit.

    (Sohn, 2016, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective")
    """
    a, p = embeddings("n_pair", anchor, positive)
    n = negative_rows("n_pair", negatives, a, p)
    advantage = dot_products(a, n) - (a * p).sum(axis=1, keepdims=True)  # (N, K), of each negative over the positive
    return ops.softplus(ops.logsumexp(advantage, axis=1)).mean()


def n_pair_mc(anchors: Any, positives: Any, l2: float = 0.0) -> Tensor:
    """log(1 + Σ_{k≠i} exp(a_i·p_k − a_i·p_i)), mean over N: the negatives are the positives of the other pairs.

    anchors, positives: embeddings (N, D), one pair of each class, so that 2N images give N tuples of N − 1 negatives.
    l2 adds l2 · mean over the pairs of (‖a‖² + ‖p‖²). Sohn keeps the embeddings short by this penalty rather than by
    unit length, which holds the dot products in [−1, 1]; public code often has a further factor 1/4 on it.
    Raises ValueError for shapes that differ or fewer than two pairs.

    (Sohn, 2016, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective")
    """
    a, p = embeddings("n_pair_mc", anchors, positives, least=2)
    loss = matched(a @ p.transpose())
    return loss + l2 * (a * a + p * p).sum(axis=1).mean() if l2 else loss


def info_nce(query: Any, positive: Any, negatives: Any = None, temperature: float = 1.0) -> Tensor:
    """−log e^{q·p/τ} / (e^{q·p/τ} + Σ_k e^{q·n_k/τ}), mean over the N queries.

    query, positive: embeddings (N, D), used as they are: normalize them first for cosines. negatives: (K, D) shared by
    all queries (MoCo's queue), (N, K, D) each query's own, or None for the other rows of `positive` (in batch, N ≥ 2).
    Gradients reach all three: apply stop_gradient to what is a key or comes from a queue.

    log(K + 1) − info_nce is a lower bound on the mutual information, so it never exceeds log(K + 1). The slide's
    P(D = 1 | i, v), which leaves out τ and the noise density P_n of noise-contrastive estimation, is the share above at
    τ = 1: that form is this loss, and `nce` is the estimation itself.
    Raises ValueError for shapes that do not fit or τ ≤ 0.

    (van den Oord et al., 2018, "Representation Learning with Contrastive Predictive Coding")
    """
    q, p = embeddings("info_nce", query, positive, least=2 if negatives is None else 1)
    tau = positive_temperature("info_nce", temperature)
    if negatives is None:
        return matched(q @ p.transpose() / tau)
    n = negative_rows("info_nce", negatives, q, p, shared=True)
    logits = ops.concatenate([(q * p).sum(axis=1, keepdims=True), dot_products(q, n)], axis=1) / tau  # (N, 1 + K)
    return -ops.log_softmax(logits)[:, 0].mean()


def nt_xent(z1: Any, z2: Any, temperature: float = 0.5, chunk: int | None = None) -> Tensor:
    """The normalized, temperature-scaled cross entropy of SimCLR.

    −log e^{sim(i,j)/τ} / Σ_{k≠i} e^{sim(i,k)/τ}, mean over the 2N ordered pairs (i, j) of views of one image.
    sim is the cosine: scaling a row changes nothing.

    z1, z2: embeddings (N, D), row n of both from the same image. A row has 2N − 1 candidates: its positive and the
    2N − 2 views of the other images (the slide's text says N − 1 negatives, its formula has 2N − 2); itself is out.
    A small τ gives the nearest negatives the largest share of the gradient. When all embeddings are equal the loss is
    log(2N − 1). chunk: handle so many rows at a time and compute their similarities again on the way back, so that the
    (2N, 2N) matrix is never held whole. Raises ValueError for shapes that differ, fewer than two images or τ ≤ 0.

    (Chen et al., 2020, "A Simple Framework for Contrastive Learning of Visual Representations")
    """
    z1, z2 = embeddings("nt_xent", z1, z2, least=2)
    tau = positive_temperature("nt_xent", temperature)
    z = ops.l2_normalize(ops.concatenate([z1, z2]))  # (2N, D)
    if chunk is None:
        return _cost_of_rows(z, z, 0, tau).mean()
    if chunk < 1:
        raise ValueError(f"nt_xent: expected a chunk of at least one row, got {chunk}")
    pieces = [
        ops.recompute(partial(_cost_of_rows, first=first, tau=tau), z[first : first + chunk], z)
        for first in range(0, len(z), chunk)
    ]
    return ops.concatenate(pieces).mean()


def _cost_of_rows(rows: Tensor, z: Tensor, first: int, tau: float) -> Tensor:
    """−log e^{sim(i,j)/τ} / Σ_{k≠i} e^{sim(i,k)/τ} for i = first, first + 1, ...: unit rows (n, D), (2N, D) -> (n,)."""
    logits = without_self(rows @ z.transpose() / tau, first)  # (n, 2N)
    i = backend.of(z.data).xp.arange(first, first + len(rows))
    partner = (i + len(z) // 2) % len(z)  # row i's positive is the other view of its image
    return ops.logsumexp(logits, axis=1) - pick(logits, partner)


def soft_nearest_neighbor(z: Any, labels: Any, temperature: float = 1.0) -> Tensor:
    """−log Σ_{k≠i, same label} e^{−d²(i,k)/τ} / Σ_{k≠i} e^{−d²(i,k)/τ}, mean over the anchors i with a partner.

    The chance that a neighbour, drawn the likelier the nearer, has the anchor's label: one near partner is enough,
    where `sup_con` wants all of them near. z: embeddings (N, D); labels: integers (N,). Anchors whose label no
    other row has are left out. Raises ValueError when all are, for other shapes, fewer than two rows or τ ≤ 0.

    (Salakhutdinov and Hinton, 2007; Frosst et al., 2019, "Analyzing and Improving Representations with the Soft Nearest
    Neighbor Loss")
    """
    (z,) = embeddings("soft_nearest_neighbor", z, least=2)
    partners, anchors, _ = _partners("soft_nearest_neighbor", z, labels)
    logits = without_self(-ops.squared_distances(z, z) / positive_temperature("soft_nearest_neighbor", temperature))
    among_partners = ops.logsumexp(ops.where(partners, logits, -math.inf), axis=1)  # (N,)
    return (ops.logsumexp(logits, axis=1)[anchors] - among_partners[anchors]).mean()


def sup_con(z: Any, labels: Any, temperature: float = 0.1, form: str = "out") -> Tensor:
    """Supervised contrast: every row of the anchor's label is a positive, P(i) together. sim is the cosine.

    p_ij = e^{sim(i,j)/τ} / Σ_{k≠i} e^{sim(i,k)/τ}
    form "out": −1/|P(i)| Σ_{j∈P(i)} log p_ij, every positive has to be near (the authors' choice).
    form "in": −log(1/|P(i)| Σ_{j∈P(i)} p_ij), which is never larger; one near positive satisfies it.

    Mean over the anchors i with a positive; the others are left out, but remain candidates. No factor τ/τ_base, which
    the authors' code multiplies by. z: embeddings (N, D), all views of all images; labels: integers (N,).
    Raises ValueError when no anchor has a positive, for other shapes, fewer than two rows, τ ≤ 0 or an unknown form.

    (Khosla et al., 2020, "Supervised Contrastive Learning")
    """
    if form not in ("out", "in"):
        raise ValueError(f"sup_con: expected form 'out' or 'in', got {form!r}")
    (z,) = embeddings("sup_con", z, least=2)
    positives, anchors, count = _partners("sup_con", z, labels)
    log_p = ops.log_softmax(without_self(cosine_similarity(z) / positive_temperature("sup_con", temperature)))
    if form == "out":
        log_share = ops.where(positives, log_p, 0.0).sum(axis=1)[anchors] / count
    else:
        log_share = ops.logsumexp(ops.where(positives, log_p, -math.inf), axis=1)[anchors] - ops.log(count)
    return -log_share.mean()


def _partners(loss: str, z: Tensor, labels: Any) -> tuple[Array, Array, Array]:
    """Which rows share a label (N, N), the numbers of those that share it at all (M,), and with how many (M,)."""
    home, y = backend.of(z.data), class_labels(loss, labels, z)
    partners = (y[:, None] == y) & ~self_mask(z)
    count = partners.sum(axis=1)
    (anchors,) = home.xp.nonzero(count)
    if not len(anchors):
        raise ValueError(f"{loss}: expected two rows or more with one label, got {len(z)} labels that all differ")
    return partners, anchors, count[anchors].astype(z.dtype)
