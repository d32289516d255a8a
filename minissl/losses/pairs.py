"""Losses over distances: rows of one class are pulled together, rows of different classes pushed a margin apart.

They fix distances in absolute units and never normalise: for unit rows, pass `ops.l2_normalize(z)`.
"""

from typing import Any, Literal

from minissl import backend, ops
from minissl.backend import Array
from minissl.losses.rows import class_labels, embeddings, self_mask
from minissl.tensor import Tensor


def contrastive(
    a: Any,
    b: Any,
    same: Any,
    margin: float = 1.0,
    hinge: Literal["squared_distance", "distance"] = "squared_distance",
) -> Tensor:
    """[same]·d² + [¬same]·max(0, ε − d²), mean over P pairs; d = ‖a − b‖.  hinge="distance": max(0, ε − d)² instead.

    a, b: embeddings (P, D), row n of both one pair. same: (P,) booleans, or 0 and 1. margin: ε, in units of d² for
    the first hinge (it pushes while d < √ε) and of d for the second (while d < ε).

    The two hinges push a pair of different classes with gradients of length

        max(0, ε − d²)   2d         nothing at d = 0, so it cannot leave a collapse; jumps from 2√ε to 0 at the margin
        max(0, ε − d)²   2(ε − d)   strongest for the closest pairs; falls to 0 at the margin without a jump

    Exactly at d = 0 there is no direction to push in: both gradients are 0 there. At d = 0.9 and ε = 1 the losses are
    0.19 and 0.01. Raises ValueError or TypeError for shapes that differ, no pairs, other flags, ε ≤ 0 or another hinge.

    (Hadsell et al., 2006, "Dimensionality Reduction by Learning an Invariant Mapping": the second hinge, with a factor
    ½ on both terms. The slide has the first, and a bracket is lost there. The paper that it cites, Chopra et al., 2005,
    has neither: it pushes with e^(−2.77 E/Q), where E is an L1 distance that Q bounds.)
    """
    a, b = embeddings("contrastive", a, b)
    margin = _positive_margin("contrastive", margin)
    same = _flags("contrastive", same, a)
    d2 = _squared_distance(a, b)  # (P,)
    if hinge == "squared_distance":
        repel = ops.relu(margin - d2)
    elif hinge == "distance":
        repel = ops.relu(margin - ops.norm(a - b, axis=1)) ** 2
    else:
        raise ValueError(f"contrastive: expected hinge 'squared_distance' or 'distance', got {hinge!r}")
    return ops.where(same, d2, repel).mean()


def triplet(
    anchor: Any, positive: Any, negative: Any, margin: float = 1.0, reduction: Literal["sum", "mean"] = "sum"
) -> Tensor:
    """Σ max(0, d²(a, p) − d²(a, n) + ε): each negative shall be farther than its positive, by ε in squared distance.

    anchor, positive, negative: embeddings (N, D), row n of all three one triplet. reduction: "sum", as on the slide, or
    "mean" over N. Most random triplets have no loss; `mine_triplets` finds those that have.
    Raises ValueError for shapes that differ, no triplets, ε ≤ 0 or another reduction.

    (Schroff et al., 2015, "FaceNet": unit rows, ε = 0.2, semi-hard mining)
    """
    a, p, n = embeddings("triplet", anchor, positive, negative, least=0)
    if not len(a):
        raise ValueError("triplet: expected at least one triplet, got none; skip a batch in which none was mined")
    loss = ops.relu(_squared_distance(a, p) - _squared_distance(a, n) + _positive_margin("triplet", margin))  # (N,)
    if reduction == "sum":
        return loss.sum()
    if reduction == "mean":
        return loss.mean()
    raise ValueError(f"triplet: expected reduction 'sum' or 'mean', got {reduction!r}")


def mine_triplets(
    z: Any, labels: Any, margin: float, kind: Literal["all", "hard", "semi_hard"] = "semi_hard"
) -> tuple[Array, Array, Array]:
    """Row numbers (a, p, n) of all triplets of a kind: `triplet(z[a], z[p], z[n], margin)`. They carry no gradient.

    z: embeddings (N, D); labels: integers (N,). p is another row of a's class, n a row of a different class.

        "all"         whatever the distances
        "hard"        d²(a, n) ≤ d²(a, p)                  the negative is no farther: loss at least ε
        "semi_hard"   d²(a, p) < d²(a, n) < d²(a, p) + ε   farther, but within the margin: loss between 0 and ε

    So hard and semi-hard ones are together all with a loss above 0. Three integer arrays on z's backend, ordered by a,
    then p, then n; empty where no triplet is of the kind. Needs memory for P·N numbers, P the ordered pairs (a, p).
    Raises ValueError or TypeError for labels that do not fit, an empty batch, ε ≤ 0 or another kind.

    (FaceNet mines one semi-hard negative for each pair (a, p); here are all.)
    """
    (z,) = embeddings("mine_triplets", z)
    margin = _positive_margin("mine_triplets", margin)
    home, y = backend.of(z.data), class_labels("mine_triplets", labels, z)
    same = y[:, None] == y  # (N, N)
    a, p = home.xp.nonzero(same & ~self_mask(z))  # (P,) each
    d2 = home.squared_distances(z.data, z.data)
    d2_ap, d2_an = d2[a, p][:, None], d2[a]  # (P, 1), (P, N)
    chosen = ~same[a]
    if kind == "hard":
        chosen &= d2_an <= d2_ap
    elif kind == "semi_hard":
        chosen &= (d2_ap < d2_an) & (d2_an < d2_ap + margin)
    elif kind != "all":
        raise ValueError(f"mine_triplets: expected kind 'all', 'hard' or 'semi_hard', got {kind!r}")
    pair, n = home.xp.nonzero(chosen)
    return a[pair], p[pair], n


def lifted_structured(z: Any, labels: Any, margin: float = 1.0) -> Tensor:
    """1/(2|P|) Σ_P max(0, J_ij)²,  J_ij = d_ij + log(Σ_{k∈N(i)} e^(ε − d_ik) + Σ_{l∈N(j)} e^(ε − d_jl)).

    z: embeddings (N, D); labels: integers (N,). P: the unordered pairs {i, j} of one class; N(i): the rows of classes
    other than i's; d the distance, not squared. The logarithm is a smooth maximum: the nearest negative of either row
    counts most. With a single class there are no negatives: the log of an empty sum is −∞ and the loss 0.
    The differences of all rows need memory for N·N·D numbers.
    Raises ValueError or TypeError for labels that do not fit, no pair of one class, an empty batch or ε ≤ 0.

    (Song et al., 2016, "Deep Metric Learning via Lifted Structured Feature Embedding"; the slide only names it)
    """
    (z,) = embeddings("lifted_structured", z)
    margin = _positive_margin("lifted_structured", margin)
    (N, D), xp, y = z.shape, backend.of(z.data).xp, class_labels("lifted_structured", labels, z)
    same = y[:, None] == y  # (N, N)
    i, j = xp.nonzero(xp.triu(same, 1))  # (P,) each, i < j
    if not len(i):
        raise ValueError(
            f"lifted_structured: expected at least two rows of one class, got {N} rows with no label twice; "
            "draw batches with several rows of each class"
        )
    d = ops.norm(z.reshape(N, 1, D) - z.reshape(1, N, D), axis=2)  # (N, N)
    repel = ops.logsumexp(ops.where(same, -float("inf"), margin - d), axis=1)  # (N,): log Σ_{k∈N(i)} e^(ε − d_ik)
    J = d[i, j] + ops.logsumexp(ops.stack([repel[i], repel[j]]), axis=0)  # (P,)
    return (ops.relu(J) ** 2).mean() / 2


def _squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """‖a_n − b_n‖² for each n: (N, D), (N, D) -> (N,)."""
    return ((a - b) ** 2).sum(axis=1)


def _positive_margin(loss: str, margin: float) -> float:
    if not 0 < margin < float("inf"):
        raise ValueError(f"{loss}: expected a finite margin above 0, got {margin}; usual are 0.2 to 1")
    return margin


def _flags(loss: str, same: Any, z: Tensor) -> Array:
    """`same` as booleans, one for each row of z. Class numbers would pass for flags without a word: an error."""
    flags = class_labels(loss, same, z)
    if ((flags != 0) & (flags != 1)).any():
        raise ValueError(
            f"{loss}: expected same to be booleans, or 0 and 1, got other numbers; use labels_a == labels_b"
        )
    return flags.astype(bool)
