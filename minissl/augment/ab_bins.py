"""Colours as classes: a grid over the plane of a and b, soft targets on it, and back to one colour.

Of one grey pixel several colours are plausible, and a network that must name one number says their mean, which is grey.
As a choice among Q bins the answer can say "green or brown", and its mode or a sharpened mean is a colour again.

(Zhang et al., 2016, "Colorful Image Colorization"; their grid has Q = 313 bins, this one 261: see `gamut_bins`)
"""

from minissl import backend
from minissl.augment.lab import rgb_to_lab
from minissl.backend import Array, get


def gamut_bins(step: float = 10.0) -> Array:
    """The centres (Q, 2) of the squares of a grid over (a, b) into which some colour of sRGB falls, in float32.

    Centres lie at multiples of `step`, so that grey is one. Q = 261 at step 10, tried on the 65³ colours of an even
    grid in RGB; all 256³ give the same. On the current backend, and the same on both: computed on the host.
    """
    xp = get("numpy").xp
    level = xp.linspace(0, 1, 65)
    cube = xp.stack(xp.meshgrid(level, level, level), axis=-1).reshape(-1, 3)
    # Any (a, b) that occurs is there once at its darkest and once at its brightest, on the surface of the cube.
    surface = cube[(cube.min(axis=1) == 0) | (cube.max(axis=1) == 1)]
    squares = xp.rint(rgb_to_lab(surface)[:, 1:] / step)
    return backend.to_device((xp.unique(squares, axis=0) * step).astype("float32"))


def soft_encode(ab: Array, bins: Array, neighbours: int = 5, sigma: float = 5.0) -> Array:
    """Colours ab (..., 2) -> Z (..., Q): e^{−d²/2σ²} for the nearest bins, 0 for the others, summing to 1.

    d is the distance to a bin (Q, 2). Raises ValueError for other shapes or fewer bins than neighbours.
    """
    xp = backend.of(ab).xp
    if ab.shape[-1:] != (2,) or bins.ndim != 2 or bins.shape[1] != 2 or not 1 <= neighbours <= len(bins):
        raise ValueError(
            f"soft_encode: expected colours (..., 2) and at least {neighbours} bins (Q, 2), "
            f"got {ab.shape} and {bins.shape}"
        )
    points, bins = ab.reshape(-1, 2), bins.astype(ab.dtype)
    order = (bins**2).sum(axis=1) / 2 - points @ bins.T  # (P, Q): d²/2 without |ab|²/2, which all bins have in common
    nearest = xp.argpartition(order, neighbours - 1, axis=1)[:, :neighbours]  # (P, neighbours)
    d2 = ((points[:, None] - bins[nearest]) ** 2).sum(axis=2)
    weights = xp.exp((d2.min(axis=1, keepdims=True) - d2) / (2 * sigma**2))  # the nearest has 1: never 0 / 0
    Z = xp.zeros_like(order)
    xp.put_along_axis(Z, nearest, weights / weights.sum(axis=1, keepdims=True), axis=1)
    return Z.reshape(*ab.shape[:-1], len(bins))


def rebalancing_weights(p: Array, uniform: float = 0.5) -> Array:
    """w ∝ ((1 − λ) p̃ + λ/Q)⁻¹ with Σ p̃ w = 1: rare colours count more, and the average pixel counts 1.

    p (Q,): how common each bin is, smoothed, and not all 0; it is divided by its sum. λ: `uniform`; at 1 all weights
    are 1, at 0 a colour that never occurs would weigh infinitely. Raises ValueError for λ outside 0 (excluded) to 1.
    """
    if not 0 < uniform <= 1:
        raise ValueError(f"rebalancing_weights: expected uniform above 0 and up to 1, got {uniform}")
    p = p / p.sum()
    w = 1 / ((1 - uniform) * p + uniform / len(p))
    return w / (p * w).sum()


def annealed_mean(logits: Array, bins: Array, temperature: float = 0.38) -> Array:
    """Σ_q softmax(logits/T)_q bins_q: (..., Q) and (Q, 2) -> colours (..., 2).

    T = 1 is the mean of the predicted distribution, smooth and greyish; T → 0 its mode, vivid and patchy, and at 0
    exactly that. Raises ValueError for a negative T.
    """
    if not temperature >= 0:
        raise ValueError(f"annealed_mean: expected a temperature of at least 0, got {temperature}")
    bins = bins.astype(logits.dtype)
    if temperature == 0:
        return bins[logits.argmax(axis=-1)]
    exponent = (logits - logits.max(axis=-1, keepdims=True)) / temperature
    p = backend.of(logits).xp.exp(exponent)
    return (p / p.sum(axis=-1, keepdims=True)) @ bins
