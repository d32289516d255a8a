"""Losses that compare positives only: nothing pushes different images apart."""

from typing import Any

from minissl import ops
from minissl.losses.rows import embeddings
from minissl.tensor import Tensor, stop_gradient


def byol(p1: Any, z2: Any, p2: Any, z1: Any) -> Tensor:
    """‖p̂1 − ẑ2‖² + ‖p̂2 − ẑ1‖², mean over N; x̂ = x/‖x‖, so each term is 2 − 2 cos and lies in [0, 4].

    p1, p2: the online network's predictions (N, D) for two views; z1, z2: the target network's projections (N, D) of
    them, constants. Row n of all from the same image. Scaling a row changes nothing.
    The slide calls BYOL contrastive, but it has no negatives: equal embeddings for all images give the least loss, 0.
    What keeps training from there is the predictor together with targets that receive no gradient.
    Raises ValueError for shapes that differ, an empty batch or NaN.

    (Grill et al., 2020, "Bootstrap Your Own Latent")
    """
    p1, z2, p2, z1 = embeddings("byol", p1, stop_gradient(z2), p2, stop_gradient(z1))
    distance = lambda p, z: ((ops.l2_normalize(p) - ops.l2_normalize(z)) ** 2).sum(axis=1)  # (N,)
    return (distance(p1, z2) + distance(p2, z1)).mean()
