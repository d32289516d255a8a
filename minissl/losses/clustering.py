"""Losses through cluster assignments: two views of an image should fall to the same prototypes."""

from typing import Any

from minissl import ops
from minissl.losses.classification import cross_entropy
from minissl.losses.rows import embeddings, positive_temperature
from minissl.tensor import Tensor, stop_gradient


def sinkhorn(scores: Any, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Codes (N, K), a constant: e^{scores/ε}, columns and rows scaled in turn until all prototypes are equally used.

    scores: (N, K), each row's similarity to K prototypes. In every iteration each column is divided by its sum (each
    prototype receives the same share of the batch), then each row (each image is handed out once). Rows come last: they
    sum to 1, and columns tend to N/K. Without the columns all images could share one code, the trivial solution.
    A small ε gives codes near 0 and 1. Adding a constant to all scores changes nothing.

    Computed with logarithms, where the largest is taken out of each column and row: the exponentials themselves leave
    float32's range when scores/ε differ by more than 104, and a row or column of zeros would give 0/0. Raises
    ValueError for other shapes, an empty batch, NaN, ε ≤ 0 or no iterations.

    (Cuturi, 2013, "Sinkhorn Distances"; Caron et al., 2020, "Unsupervised Learning of Visual Features by Contrasting
    Cluster Assignments")
    """
    (scores,) = embeddings("sinkhorn", stop_gradient(scores))
    if iterations < 1:
        raise ValueError(f"sinkhorn: expected at least 1 iteration, got {iterations}; usual are 3")
    log_q = scores / positive_temperature("sinkhorn", epsilon, "epsilon")  # (N, K)
    for _ in range(iterations):
        log_q = ops.log_softmax(log_q, axis=0)  # log of: each column divided by its sum
        log_q = ops.log_softmax(log_q, axis=1)  # log of: each row divided by its sum
    return log_q.exp()


def swapped_prediction(
    scores1: Any, scores2: Any, temperature: float = 0.1, epsilon: float = 0.05, iterations: int = 3
) -> Tensor:
    """½ [CE(q2, softmax(s1/τ)) + CE(q1, softmax(s2/τ))], q = sinkhorn(s): each view predicts the other's code.

    scores1, scores2: dot products (N, K) of two views' embeddings with K prototypes, all of unit length; row n of both
    from the same image. Codes receive no gradient. When all rows are equal, as for collapsed embeddings, codes are
    uniform and the loss is at least log K. Raises ValueError as `sinkhorn` does, and for shapes that differ.

    With a queue, or with more than two crops, write out the same sum over ordered pairs of crops i ≠ v:
        q = sinkhorn(concatenate([queue_scores, scores[i]]))[-N:]    and    cross_entropy(scores[v] / τ, q).

    (Caron et al., 2020)
    """
    s1, s2 = embeddings("swapped_prediction", scores1, scores2)
    tau = positive_temperature("swapped_prediction", temperature)
    q1, q2 = sinkhorn(s1, epsilon, iterations), sinkhorn(s2, epsilon, iterations)  # (N, K)
    return (cross_entropy(s1 / tau, q2) + cross_entropy(s2 / tau, q1)) / 2
