"""The losses of the maps, as functions of one point of the plane that moves, and the force on it.

Force is the negative gradient: where gradient descent moves the point.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from minissl import losses, ops
from minissl.tensor import Tensor

OfPoint = Callable[[Tensor], Tensor]  # (1, 2) -> scalar

MARGIN = 1.0
ANCHOR = np.array([[0.0, 0.0]])
POSITIVE = np.array([[0.6, 0.0]])
NEGATIVE = np.array([[1.3, 0.0]])
# A batch for losses with several negatives; the anchor moves.
PARTNER = np.array([[0.9, -0.3]])
NEGATIVES = np.array([[1.1, 0.7], [-0.9, 0.8], [-0.4, -1.1]])  # (K, 2)
# Directions in degrees for losses of unit vectors: the moving point's other view, and the other images.
TARGET = 0.0
OTHERS = (75.0, 170.0, 250.0)


def value_and_force(loss: OfPoint, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The loss (P,) with the moving point at each of `points` (P, 2), and the force (P, 2) on it."""
    values, forces = np.empty(len(points)), np.empty((len(points), 2))
    for i, point in enumerate(points):
        z = Tensor(point[None], requires_grad=True)  # (1, 2)
        value = loss(z)
        value.backward()
        values[i], forces[i] = value.item(), -z.grad[0]  # type: ignore[index]
    return values, forces


def on_circle(degrees: Any) -> np.ndarray:
    """Unit vectors (P, 2) in these directions."""
    angle = np.radians(np.atleast_1d(degrees))
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def positive_pair(z: Tensor) -> Tensor:
    return losses.contrastive(ANCHOR, z, [True], MARGIN)


def negative_pair(z: Tensor) -> Tensor:
    """The slide's hinge, max(0, ε − d²)."""
    return losses.contrastive(ANCHOR, z, [False], MARGIN)


def negative_pair_hadsell(z: Tensor) -> Tensor:
    """Hadsell's hinge, max(0, ε − d)²."""
    return losses.contrastive(ANCHOR, z, [False], MARGIN, hinge="distance")


def triplet_negative(z: Tensor) -> Tensor:
    return losses.triplet(ANCHOR, POSITIVE, z, MARGIN)


def triplet_positive(z: Tensor) -> Tensor:
    return losses.triplet(ANCHOR, z, NEGATIVE, MARGIN)


def triplets(z: Tensor) -> Tensor:
    """A triplet with each of the K negatives, added."""
    anchors = ops.concatenate([z] * len(NEGATIVES))  # (K, 2)
    return losses.triplet(anchors, np.repeat(PARTNER, len(NEGATIVES), 0), NEGATIVES, MARGIN)


def lifted_structured(z: Tensor) -> Tensor:
    """Anchor and positive are one class, and each negative is one of its own: a single pair."""
    return losses.lifted_structured(ops.concatenate([z, PARTNER, NEGATIVES]), [0, 0, 1, 2, 3], MARGIN)


def n_pair(z: Tensor) -> Tensor:
    return losses.n_pair(z, PARTNER, NEGATIVES[None])


def byol(z: Tensor) -> Tensor:
    """z is the online prediction; the other direction, of the second view, is perfect."""
    target = on_circle(TARGET)
    return losses.byol(z, target, target, target)


def nt_xent(z: Tensor, temperature: float) -> Tensor:
    """z is the first view of the first image. Both views of each other image coincide."""
    others = on_circle(OTHERS)
    return losses.nt_xent(ops.concatenate([z, others]), np.concatenate([on_circle(TARGET), others]), temperature)
