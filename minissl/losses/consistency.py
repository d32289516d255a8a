"""Consistency: what a classifier says of an image should stay when the image is augmented. No label is needed."""

from typing import Any

from minissl import ops
from minissl.losses.rows import embeddings, positive_temperature
from minissl.tensor import Tensor, stop_gradient


def consistency(logits: Any, target_logits: Any, temperature: float = 0.4, confidence: float = 0.8) -> Tensor:
    """KL(q ‖ softmax(logits)) = Σ_k q_k (log q_k − log p_k), q = softmax(t/τ): mean over all N, 0 where t is unsure.

    logits (N, K): of augmented images; target_logits t (N, K): of the same images as they are, constants. A τ below 1
    sharpens the target. Row n counts only if the largest of softmax(t_n), not sharpened, exceeds `confidence`; the sum
    is divided by N all the same, so that a batch with few sure rows moves little. In a training step this is added to
    the `cross_entropy` of images with labels.
    Raises ValueError for shapes that differ, an empty batch, NaN, τ ≤ 0 or a confidence outside 0 to 1 (excluded, since
    no probability exceeds it).

    (Xie et al., 2020, "Unsupervised Data Augmentation for Consistency Training", UDA)
    """
    logits, t = embeddings("consistency", logits, stop_gradient(target_logits))
    tau = positive_temperature("consistency", temperature)
    if not 0 <= confidence < 1:
        raise ValueError(f"consistency: expected confidence from 0 to below 1, got {confidence}")
    log_q, log_p = ops.log_softmax(t / tau), ops.log_softmax(logits)  # (N, K)
    kl = (ops.exp(log_q) * (log_q - log_p)).sum(axis=1)  # (N,)
    sure = ops.softmax(t).data.max(axis=1) > confidence
    return (kl * sure.astype(logits.dtype)).mean()
