"""Relief: fractal noise for everything nature shapes, and how the sun lights it.

Mountains, shorelines, heath and forest stands look alike at every scale. Noise with that property is a sum of octaves,

    f(p) = Σₖ gᵏ · noise(2ᵏ p),     0 < g < 1,

each twice as fine as the one before and g times as strong: a small g gives rounded hills, a large g gives rugged ones.
"""

from functools import lru_cache

import numpy as np


def smooth_noise(rng: np.random.Generator, side: int, spacing: float) -> np.ndarray:
    """A (side, side) surface of mean 0 and deviation near 1, whose bumps lie about `spacing` cells apart.

    Normal numbers on a coarse grid, interpolated by cubic B-splines: rows @ grid @ columns, two small products.
    """
    weights = _spline_weights(side, spacing)  # (side, knots)
    knots = weights.shape[1]
    grid = rng.standard_normal((knots, knots), dtype=np.float32)
    return weights @ grid @ weights.T * 2.1  # a B-spline averages neighbouring knots; 2.1 restores the deviation


@lru_cache(maxsize=64)
def _spline_weights(side: int, spacing: float) -> np.ndarray:
    """How much each knot adds to each of `side` places; four knots surround a place."""
    knots = int(side / spacing) + 4
    place = (np.arange(side) + 0.5) / spacing
    left = place.astype(int)
    t = place - left
    weights = np.zeros((side, knots), dtype=np.float32)
    pieces = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    for step, piece in enumerate(pieces):
        weights[np.arange(side), left + step] = piece / 6
    return weights


def fractal_noise(rng: np.random.Generator, side: int, spacing: float, gain: float = 0.5) -> np.ndarray:
    """A (side, side) fractal surface of deviation near 1: the largest bumps lie about `spacing` cells apart."""
    surface, power = np.zeros((side, side), dtype=np.float32), 0.0
    strength = 1.0
    while spacing >= 2 and strength > 0.05:
        surface += strength * smooth_noise(rng, side, spacing)
        power += strength**2
        spacing, strength = spacing / 2, strength * gain
    return surface / np.float32(max(power, 1e-6) ** 0.5)


def hillshade(surface: np.ndarray, cell: float, azimuth: float, elevation: float) -> np.ndarray:
    """Light on each cell of a surface, relative to flat ground: 1 where level, above 1 on slopes that face the sun.

    `surface` holds metres, `cell` is a cell's side in metres, the angles are in radians (azimuth clockwise from north,
    which is the first row). Lambert's law, with n the surface's normal and s the direction to the sun:
        n · s / sin(elevation),     n = (−∂z/∂east, −∂z/∂north, 1) / |…|.
    """
    southward, eastward = np.gradient(surface, np.float32(cell))
    toward_sun = (eastward * np.float32(np.sin(azimuth)) - southward * np.float32(np.cos(azimuth))) / np.float32(
        np.tan(elevation)
    )
    light = (1 - toward_sun) / np.sqrt(1 + eastward**2 + southward**2)
    return np.clip(light, 0.25, 1.8)  # a shadow is still lit by the sky; a slope never shines like a mirror
