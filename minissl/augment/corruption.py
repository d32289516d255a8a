"""Noise that destroys part of an input: what a denoising autoencoder learns to undo."""

from typing import Literal

from minissl import backend
from minissl.augment.arguments import Generator
from minissl.backend import Array

Noise = Literal["gaussian", "masking", "salt_and_pepper"]


def corrupt(images: Array, rng: Generator, kind: Noise, amount: float) -> Array:
    """x̃, a corrupted copy of x (N, ...), floats in any unit: each number is hit by itself, at every place and channel.

    gaussian           x̃ = x + amount·s·n, n ~ N(0, 1); s is the batch's deviation. Every number moves, x̃ has no bounds
    masking            x̃ = 0 for a part `amount` of the numbers: black, or the mean where x is standardised
    salt_and_pepper    x̃ = the batch's lowest or highest value, by a fair coin, for a part `amount` of the numbers

    All are relative to the batch, so that an amount means the same for images and for the codes of a deeper layer.
    Draws as many random numbers as x has. Raises TypeError for integers, ValueError for another kind or an amount that
    is negative, or above 1 where it is a part.

    (Vincent et al., 2010, "Stacked Denoising Autoencoders", section 3.3; there s = 1, and the bounds are 0 and 1)
    """
    place = backend.of(images)
    if images.dtype.kind != "f":
        raise TypeError(f"corrupt: expected floats, got {images.dtype}; call to_float(images) first")
    if kind not in ("gaussian", "masking", "salt_and_pepper"):
        raise ValueError(f"corrupt: expected kind gaussian, masking or salt_and_pepper, got {kind!r}")
    if not 0 <= amount <= (float("inf") if kind == "gaussian" else 1):
        bound = "of 0 or more" if kind == "gaussian" else "between 0 and 1, the part of the numbers that is hit"
        raise ValueError(f"corrupt: {kind} noise expects an amount {bound}, got {amount}")

    if kind == "gaussian":
        n = place.to_device(rng.standard_normal(images.shape, dtype="float32"))
        return images + amount * images.std() * n
    u = place.to_device(rng.random(images.shape, dtype="float32"))  # uniform: u < amount for a part `amount`
    if kind == "masking":
        return images * (u >= amount)
    extreme = place.xp.where(u < amount / 2, images.min(), images.max())
    return place.xp.where(u < amount, extreme, images)
