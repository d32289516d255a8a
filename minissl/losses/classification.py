"""Losses with labels."""

from typing import Any

from minissl import ops
from minissl.losses.rows import pick
from minissl.ops.checks import dimensions, floating
from minissl.tensor import Tensor, as_tensor, stop_gradient


def cross_entropy(logits: Any, target: Any, label_smoothing: float = 0.0, weight: Any = None) -> Tensor:
    """−Σ_k t_k log softmax(logits)_k, mean over the N rows.

    logits (N, K); target: class numbers (N,), or soft targets (N, K) whose rows sum to 1; it receives no gradient.
    label_smoothing s takes (1 − s) t + s/K as target. weight (K,) makes row n count w_n = Σ_k t_k w_k; the mean is then
    Σ w_n l_n / Σ w_n. Raises ValueError for other shapes, an empty batch or a class number outside 0..K−1.
    """
    logits, target = floating("cross_entropy", logits), as_tensor(target)
    dimensions("cross_entropy", logits, "N K")
    N, K = logits.shape
    if not N:
        raise ValueError("cross_entropy: expected at least one row, got an empty batch")
    if weight is not None and (weight := as_tensor(weight)).shape != (K,):
        raise ValueError(f"cross_entropy: expected one weight for each of {K} classes, got shape {weight.shape}")
    log_p = ops.log_softmax(logits)  # (N, K)
    if target.dtype.kind in "iu" and target.shape == (N,):
        if not 0 <= int(target.data.min()) <= int(target.data.max()) < K:
            raise ValueError(f"cross_entropy: expected class numbers from 0 to {K - 1}, got some outside")
        picked = pick(log_p, target.data)
        row_weight = None if weight is None else weight.data[target.data]
    elif target.dtype.kind == "f" and target.shape == (N, K):
        soft = stop_gradient(target)
        picked = (soft * log_p).sum(axis=1)
        row_weight = None if weight is None else soft.data @ weight.data
    else:
        raise ValueError(
            f"cross_entropy: expected class numbers ({N},) or soft targets {(N, K)} for logits {logits.shape}, "
            f"got {target.dtype} {target.shape}"
        )
    loss = -picked
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * log_p.mean(axis=1)
    return loss.mean() if row_weight is None else (loss * row_weight).sum() / row_weight.sum()
