"""Losses with labels."""

from typing import Any

from minissl import backend, ops
from minissl.backend import Array
from minissl.losses.rows import embeddings, finite, pick, positive_temperature
from minissl.ops.checks import dimensions, floating
from minissl.tensor import Tensor, as_tensor, stop_gradient


def cross_entropy(logits: Any, target: Any, label_smoothing: float = 0.0, weight: Any = None) -> Tensor:
    """−Σ_k t_k log softmax(logits)_k, mean over the N rows.

    logits (N, K); target: class numbers (N,), or soft targets (N, K) whose rows sum to 1; it receives no gradient.
    label_smoothing s takes (1 − s) t + s/K as target. weight (K,) makes row n count w_n = Σ_k t_k w_k; the mean is then
    Σ w_n l_n / Σ w_n. Raises ValueError for other shapes, no row or class, or a class number outside 0..K−1.
    """
    logits, target = floating("cross_entropy", logits), as_tensor(target)
    dimensions("cross_entropy", logits, "N K")
    N, K = logits.shape
    if not logits.size:
        raise ValueError(f"cross_entropy: expected at least one row and one class, got an empty batch {logits.shape}")
    if weight is not None:
        weight = weight_per_class("cross_entropy", weight, logits)
    log_p = ops.log_softmax(logits)  # (N, K)
    if target.dtype.kind in "iu" and target.shape == (N,):
        if not 0 <= int(target.data.min()) <= int(target.data.max()) < K:
            raise ValueError(f"cross_entropy: expected class numbers from 0 to {K - 1}, got some outside")
        picked = pick(log_p, target.data)
        row_weight = None if weight is None else weight[target.data]
    elif target.dtype.kind == "f" and target.shape == (N, K):
        soft = stop_gradient(target)
        picked = (soft * log_p).sum(axis=1)
        row_weight = None if weight is None else soft.data @ weight
    else:
        raise ValueError(
            f"cross_entropy: expected class numbers ({N},) or soft targets {(N, K)} for logits {logits.shape}, "
            f"got {target.dtype} {target.shape}"
        )
    loss = -picked
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * log_p.mean(axis=1)
    return loss.mean() if row_weight is None else (loss * row_weight).sum() / row_weight.sum()


def binary_cross_entropy_with_logits(
    logits: Any, target: Any, weight: Any = None, positive_weight: Any = None
) -> Tensor:
    """−t log σ(x) − (1 − t) log(1 − σ(x)), mean over all elements: one yes or no for each of K labels.

    logits (..., K); target of the same shape, from 0 to 1, of any type; it receives no gradient. weight (K,) multiplies
    the loss of each label; positive_weight (K,) its first term only: above 1 it favours recall of a rare label. The
    mean divides by the number of elements, not by the sum of weights. Raises ValueError for other shapes, no elements,
    NaN or a target outside 0 to 1.
    """
    logits, target = floating("binary_cross_entropy_with_logits", logits), as_tensor(target)
    if logits.shape != target.shape or not logits.ndim or not logits.size:
        raise ValueError(
            "binary_cross_entropy_with_logits: expected logits and target of one shape (..., K) with at least one "
            f"element, got {logits.shape} and {target.shape}"
        )
    finite("binary_cross_entropy_with_logits", logits)
    t = target.data.astype(logits.dtype)
    if not ((t >= 0) & (t <= 1)).all():
        raise ValueError("binary_cross_entropy_with_logits: expected a target from 0 to 1, got some outside")
    yes, no = t * ops.softplus(-logits), (1 - t) * ops.softplus(logits)  # −log σ(x) = softplus(−x)
    if positive_weight is not None:
        yes = yes * weight_per_class("binary_cross_entropy_with_logits", positive_weight, logits)
    loss = yes + no
    if weight is not None:
        loss = loss * weight_per_class("binary_cross_entropy_with_logits", weight, logits)
    return loss.mean()


def distillation(student: Any, teacher: Any, temperature: float = 1.0) -> Tensor:
    """−Σ_k softmax(t/τ)_k log softmax(s/τ)_k, mean over N: the student learns the teacher's probabilities.

    student, teacher: logits (N, K); the teacher's are constants. The least value is the entropy of the teacher's
    probabilities, at equal ones. A large τ shows which wrong classes the teacher holds to be likely. There is no factor
    τ², by which Hinton et al. (2015) keep gradients of one size at all τ. Raises ValueError for shapes that differ, an
    empty batch, NaN or τ ≤ 0.

    (Chen et al., 2020, "Big Self-Supervised Models are Strong Semi-Supervised Learners")
    """
    student, teacher = embeddings("distillation", student, stop_gradient(teacher))
    tau = positive_temperature("distillation", temperature)
    return cross_entropy(student / tau, ops.softmax(teacher / tau))


def weight_per_class(loss: str, weight: Any, logits: Tensor) -> Array:
    """Weights (K,) for logits (..., K), of their type and on their backend. Raises ValueError for another shape."""
    weights, K = as_tensor(weight).data, logits.shape[-1]
    if weights.shape != (K,):
        raise ValueError(f"{loss}: expected one weight for each of {K} classes, got shape {weights.shape}")
    return backend.of(logits.data).to_device(weights).astype(logits.dtype)
