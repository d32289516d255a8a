"""Losses between a prediction and what it should have been, element by element."""

from typing import Any

from minissl import backend, ops
from minissl.losses.adversarial import gan_generator
from minissl.losses.classification import weight_per_class
from minissl.losses.rows import embeddings
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
    d = difference("masked_mse", prediction, target)
    dimensions("masked_mse", d, "N L D")
    return weighted_error("masked_mse", d, mask)


def inpainting(
    prediction: Any, target: Any, mask: Any, fake_logits: Any = None, adversarial_weight: float = 0.001
) -> Tensor:
    """(1 − λ) L2 + λ L_adv: fill a hole of an image, near the truth and such that a discriminator believes it.

    L2 = Σ_nhw m_nhw ‖p_nhw − t_nhw‖²/C / Σ_nhw m_nhw over pixels; L_adv = −E[log D(prediction)], see `gan_generator`.
    prediction, target: images (N, H, W, C). mask: weights (N, H, W), 0 outside the hole, 1 inside, and 10 in the border
    of the hole, some 7 pixels wide, that the encoder saw too: a seam would show there. fake_logits: the discriminator's
    for the prediction, of any shape; without them the loss is L2, which alone blurs. λ: adversarial_weight.
    Target and mask receive no gradient. Raises ValueError for other shapes, a mask without a hole or λ outside 0 to 1.

    (Pathak et al., 2016, "Context Encoders", with λ = 0.001. Their code divides L2 by the number of pixels instead of
    the sum of weights.)
    """
    if not 0 <= adversarial_weight <= 1:
        raise ValueError(f"inpainting: expected adversarial_weight from 0 to 1, got {adversarial_weight}")
    d = difference("inpainting", prediction, target)
    dimensions("inpainting", d, "N H W C")
    l2 = weighted_error("inpainting", d, mask)
    if fake_logits is None:
        return l2
    return (1 - adversarial_weight) * l2 + adversarial_weight * gan_generator(fake_logits)


def colorization(logits: Any, soft_targets: Any, class_weights: Any) -> Tensor:
    """−v(Z) Σ_q Z_q log softmax(logits)_q, mean over the N·H·W pixels; v(Z) = w_q* with q* = argmax_q Z_q.

    logits (N, H, W, Q): how likely each of Q colours is at each pixel. soft_targets Z of the same shape: the true
    colour, spread over the nearest ones, summing to 1 over Q. class_weights w (Q,): a pixel counts by its true colour,
    rare ones more; else the grey of most pixels wins. Neither receives a gradient. Raises ValueError for other shapes.

    (Zhang et al., 2016, "Colorful Image Colorization", who take the sum over pixels instead of the mean)
    """
    logits, Z = floating("colorization", logits), floating("colorization", stop_gradient(soft_targets))
    dimensions("colorization", logits, "N H W Q")
    if logits.shape != Z.shape or not logits.size:
        raise ValueError(
            "colorization: expected logits and soft targets of one shape (N, H, W, Q) with at least one element, "
            f"got {logits.shape} and {Z.shape}"
        )
    w = weight_per_class("colorization", class_weights, logits)  # (Q,)
    v = w[backend.of(Z.data).xp.argmax(Z.data, axis=-1)]  # (N, H, W)
    return -(v * (Z * ops.log_softmax(logits)).sum(axis=-1)).mean()


def gaussian_kl(mu: Any, log_var: Any) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)) = ½ Σ_d (μ² + σ² − 1 − log σ²), mean over N; it is 0 at μ = 0, σ = 1 only.

    mu, log_var: mean and log σ² of each latent number, (N, D). Raises ValueError for shapes that differ, an empty batch
    or NaN.

    (Kingma and Welling, 2014, "Auto-Encoding Variational Bayes", appendix B)
    """
    mu, log_var = embeddings("gaussian_kl", mu, log_var)
    return 0.5 * (mu**2 + (log_var.exp() - 1 - log_var)).sum(axis=1).mean()


def difference(loss: str, prediction: Any, target: Any) -> Tensor:
    """p − t, the target a constant."""
    prediction, target = floating(loss, prediction), stop_gradient(target)
    if prediction.shape != target.shape or not prediction.size:
        raise ValueError(
            f"{loss}: expected prediction and target of one shape with at least one element, "
            f"got {prediction.shape} and {target.shape}"
        )
    return prediction - target


def weighted_error(loss: str, d: Tensor, mask: Any) -> Tensor:
    """Σ m e / Σ m with e = ‖d‖²/D for differences d (..., D) and a mask m (...)."""
    mask = as_tensor(mask)
    if mask.shape != d.shape[:-1]:
        raise ValueError(f"{loss}: expected a mask {d.shape[:-1]} for a prediction {d.shape}, got {mask.shape}")
    m = mask.data.astype(d.dtype)
    if not m.any():
        raise ValueError(f"{loss}: expected a mask with at least one place that counts, got none")
    e = (d**2).mean(axis=-1)
    return (e * m).sum() / m.sum()
