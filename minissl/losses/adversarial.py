"""The two sides of a generative adversarial network. D = σ(logit) is the probability that an image is real.

The slide's game is min_G max_D E[log D(x)] + E[log(1 − D(G(z)))]. With softplus(x) = log(1 + eˣ),
−log σ(x) = softplus(−x) and −log(1 − σ(x)) = softplus(x), which never overflow.

(Goodfellow et al., 2014, "Generative Adversarial Nets")
"""

from typing import Any

from minissl import ops
from minissl.losses.rows import finite
from minissl.ops.checks import floating
from minissl.tensor import Tensor


def gan_discriminator(real: Any, fake: Any) -> Tensor:
    """−E[log D(real)] − E[log(1 − D(fake))]: what the discriminator minimises. 2 log 2 when it can only guess.

    real, fake: logits of any shape, such as (N,) or (N, H, W, 1) for patches; each is averaged over its own elements.
    Gradients reach whatever made `fake`: in the discriminator's step, generate the images without gradient.
    Raises ValueError for no logits or NaN.
    """
    real, fake = _logits("gan_discriminator", real), _logits("gan_discriminator", fake)
    return ops.softplus(-real).mean() + ops.softplus(fake).mean()


def gan_generator(fake: Any, saturating: bool = False) -> Tensor:
    """−E[log D(fake)]: what the generator minimises. fake: logits of any shape.

    saturating: E[log(1 − D(fake))], the slide's min-max game. Both have the same fixed point, but where the
    discriminator is sure, logit → −∞, the slope −σ(logit) of the slide's form vanishes, and that of the default is −1.
    Raises ValueError for no logits or NaN.
    """
    fake = _logits("gan_generator", fake)
    return -ops.softplus(fake).mean() if saturating else ops.softplus(-fake).mean()


def _logits(loss: str, values: Any) -> Tensor:
    logits = floating(loss, values)
    if not logits.size:
        raise ValueError(f"{loss}: expected at least one logit, got shape {logits.shape}")
    finite(loss, logits)
    return logits
