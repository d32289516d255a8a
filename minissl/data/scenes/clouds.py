"""Clouds: soft-edged fractal blobs, bright in nearly every band, and their shadows on the ground.

A field of fractal noise above a threshold is cloud. What the same cloud keeps from the ground lies on the side away
from the sun, the farther the higher the cloud and the lower the sun:

    shadow(p) = cloud(p + d · s),     d = height / tan(elevation),     s the direction to the sun in the map.
"""

from dataclasses import dataclass

import numpy as np

from minissl.data.scenes.layout import PIXEL
from minissl.data.scenes.terrain import fractal_noise

# How bright a thick cloud is, band by band, over how bright it is in the visible. Water vapour above the low clouds
# takes much of B9 and nearly all of B10, so that only thin, high cirrus shows there; drops and ice dim B11 and B12.
# fmt: off
CUMULUS = np.array((1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.60, 0.02, 0.75, 0.60), dtype=np.float32)
CIRRUS = np.array((1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.85, 0.45, 0.60, 0.50), dtype=np.float32)
# fmt: on


@dataclass
class Clouds:
    """The clouds over one acquisition."""

    opacity: np.ndarray  # (size, size) 0 to 1
    light: np.ndarray  # (size, size) the share of its light that the ground still gets, in their shadow
    white: np.ndarray  # (bands,) their reflectance


def draw_clouds(rng: np.random.Generator, size: int, azimuth: float, elevation: float) -> Clouds:
    """Clouds under a sun at this azimuth and elevation (radians): cumulus with shadows, or a veil of cirrus."""
    reach = size // 2  # pixels: shadows of clouds outside the picture fall into it
    noise = fractal_noise(rng, size + 2 * reach, size / 2)
    cirrus = rng.random() < 0.25
    share, softness = rng.uniform(0.1, 0.7), (2.0 if cirrus else rng.uniform(0.3, 0.8))
    threshold = np.quantile(noise[reach : reach + size, reach : reach + size], 1 - share)
    cover = np.clip((noise - np.float32(threshold)) / np.float32(softness), 0, 1)
    cover = cover * cover * (3 - 2 * cover)  # smooth at both ends
    away = min(rng.uniform(100, 900) / np.tan(elevation) / PIXEL, reach)  # pixels from a cloud to its shadow
    right, down = round(away * np.sin(azimuth)), round(-away * np.cos(azimuth))  # toward the sun; rows go south
    thickest, white = (rng.uniform(0.2, 0.6) if cirrus else rng.uniform(0.8, 1)), rng.uniform(0.45, 0.8)
    above = cover[reach : reach + size, reach : reach + size]
    beside = cover[reach + down : reach + down + size, reach + right : reach + right + size]
    shadow = np.float32((0.3 if cirrus else 0.65) * thickest) * beside
    spectrum = np.float32(white) * (CIRRUS if cirrus else CUMULUS)
    return Clouds(np.float32(thickest) * above, 1 - shadow, spectrum)
