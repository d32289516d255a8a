"""Losses between predictions and targets, as loops."""

from collections.abc import Sequence


def mse(prediction: Sequence[float], target: Sequence[float]) -> float:
    """Mean of (p − t)² over all elements, which come as one row."""
    total = 0.0
    for p, t in zip(prediction, target, strict=True):
        total += (p - t) ** 2
    return total / len(prediction)


def l1(prediction: Sequence[float], target: Sequence[float]) -> float:
    """Mean of |p − t| over all elements, which come as one row."""
    total = 0.0
    for p, t in zip(prediction, target, strict=True):
        total += p - t if p > t else t - p
    return total / len(prediction)


Patches = Sequence[Sequence[Sequence[float]]]


def masked_mse(prediction: Patches, target: Patches, mask: Sequence[Sequence[float]]) -> float:
    """Mean over D of (p − t)² for each patch, then Σ mask·e / Σ mask."""
    total, count = 0.0, 0.0
    for n in range(len(mask)):
        for l in range(len(mask[n])):
            total += mask[n][l] * mse(prediction[n][l], target[n][l])
            count += mask[n][l]
    return total / count
