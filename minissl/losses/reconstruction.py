"""Losses between a prediction and what it should have been, element by element."""

from typing import Any

from minissl.ops.checks import dimensions, floating
from minissl.tensor import Tensor, as_tensor, stop_gradient


def mse(prediction: Any, target: Any) -> Tensor:
    """(p − t)², mean over all elements. Its best constant is the mean of the targets: unsure, it blurs.

    prediction and target have one shape; the target receives no gradient. Raises ValueError for shapes that differ
    (none is broadcast) and for empty ones.
    """
    return (difference("mse", prediction, target) ** 2).mean()


def l1(prediction: Any, target: Any) -> Tensor:
    """|p − t|, mean over all elements. Its best constant is their median: an outlier counts no more than its distance.

    Shapes and errors as for `mse`.
    """
    return abs(difference("l1", prediction, target)).mean()


def masked_mse(prediction: Any, target: Any, mask: Any) -> Tensor:
    """Σ_nl m_nl e_nl / Σ_nl m_nl, where e_nl = ‖p_nl − t_nl‖²/D: the error of the patches that count alone.

    prediction, target: patches (N, L, D). mask: (N, L), 1 where a patch counts and 0 elsewhere. Neither target nor mask
    receives a gradient. Where all count it is `mse`. Raises ValueError for other shapes and where none counts.

    (He et al., 2022, "Masked Autoencoders Are Scalable Vision Learners")
    """
    d, mask = difference("masked_mse", prediction, target), as_tensor(mask)
    dimensions("masked_mse", d, "N L D")
    if mask.shape != d.shape[:2]:
        raise ValueError(f"masked_mse: expected a mask {d.shape[:2]} for patches {d.shape}, got {mask.shape}")
    m = mask.data.astype(d.dtype)
    if not m.any():
        raise ValueError("masked_mse: expected a mask with at least one patch that counts, got none")
    e = (d**2).mean(axis=2)  # (N, L)
    return (e * m).sum() / m.sum()


def difference(loss: str, prediction: Any, target: Any) -> Tensor:
    """p − t, the target a constant."""
    prediction, target = floating(loss, prediction), stop_gradient(target)
    if prediction.shape != target.shape or not prediction.size:
        raise ValueError(
            f"{loss}: expected prediction and target of one shape with at least one element, "
            f"got {prediction.shape} and {target.shape}"
        )
    return prediction - target
