"""Losses between predictions and targets, as loops."""

import math
from collections.abc import Sequence

from tests.oracles.adversarial import gan_generator
from tests.oracles.vectors import Row, Rows, log_sum_exp


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


Image = Sequence[Rows]  # (H, W, C)


def inpainting(
    prediction: Sequence[Image],
    target: Sequence[Image],
    mask: Sequence[Rows],
    fake_logits: Row | None = None,
    adversarial_weight: float = 0.001,
) -> float:
    """(1 − λ) Σ m ‖p − t‖²/C / Σ m over all pixels + λ·(the generator's loss); λ = 0 without logits."""
    total, count = 0.0, 0.0
    for n in range(len(mask)):
        for h in range(len(mask[n])):
            for w in range(len(mask[n][h])):
                total += mask[n][h][w] * mse(prediction[n][h][w], target[n][h][w])
                count += mask[n][h][w]
    if fake_logits is None:
        return total / count
    return (1 - adversarial_weight) * total / count + adversarial_weight * gan_generator(fake_logits, False)


def colorization(logits: Rows, soft_targets: Rows, class_weights: Row) -> float:
    """Mean over pixels, which come as rows, of −w_q* Σ_q Z_q log p_q, q* the first of the most probable colours."""
    total = 0.0
    for x, Z in zip(logits, soft_targets, strict=True):
        best = 0
        for q in range(len(Z)):
            if Z[q] > Z[best]:
                best = q
        for q in range(len(Z)):
            total -= class_weights[best] * Z[q] * (x[q] - log_sum_exp(x))
    return total / len(logits)


def gaussian_kl(mu: Rows, log_var: Rows) -> float:
    """Mean over N of ½ Σ_d (μ² + σ² − 1 − log σ²)."""
    total = 0.0
    for n in range(len(mu)):
        for m, v in zip(mu[n], log_var[n], strict=True):
            total += 0.5 * (m * m + math.expm1(v) - v)
    return total / len(mu)
