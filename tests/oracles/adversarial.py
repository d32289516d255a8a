"""The two sides of a generative adversarial network, as loops over logits."""

from tests.oracles.vectors import Row, softplus


def log_sigmoid(x: float) -> float:
    """log(1/(1 + e⁻ˣ))."""
    return -softplus(-x)


def gan_discriminator(real: Row, fake: Row) -> float:
    """−E[log D(real)] − E[log(1 − D(fake))]; 1 − σ(x) = σ(−x)."""
    total = 0.0
    for x in real:
        total -= log_sigmoid(x) / len(real)
    for x in fake:
        total -= log_sigmoid(-x) / len(fake)
    return total


def gan_generator(fake: Row, saturating: bool) -> float:
    """−E[log D(fake)], or E[log(1 − D(fake))]."""
    total = 0.0
    for x in fake:
        total += log_sigmoid(-x) if saturating else -log_sigmoid(x)
    return total / len(fake)
