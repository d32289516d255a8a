"""sRGB to CIE Lab and back: how bright a pixel looks (L), and apart from that its colour (a, b).

    r = R / 12.92 where R ≤ 0.04045, else ((R + 0.055) / 1.055)^2.4         sRGB's gamma undone, G and B alike
    (X, Y, Z) = M (r, g, b)                                                 as parts of the white D65
    L = 116 f(Y) − 16     a = 500 (f(X) − f(Y))     b = 200 (f(Y) − f(Z))
    f(t) = ∛t where t > (6/29)³, else t / (3 (6/29)²) + 4/29

L runs from 0 (black) to 100 (white). a runs from green (−86) to red (98), b from blue (−108) to yellow (94), for the
colours that sRGB has; greys have a = b = 0. A step of 1 is about the smallest difference that an eye sees.

Any shape (..., 3), on both backends, float32 or float64. (CIE 15:2004; IEC 61966-2-1)
"""

from typing import Any

from minissl import backend
from minissl.backend import Array, get

# Rows X, Y, Z of the primaries of sRGB (IEC 61966-2-1, in the seven digits of B. Lindbloom), and what white gives.
PRIMARIES = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
RELATIVE = [[m / sum(row) for m in row] for row in PRIMARIES]  # M: white, (1, 1, 1), gives (1, 1, 1)
INVERSE = get("numpy").xp.linalg.inv(RELATIVE).tolist()
BEND = 6 / 29  # f is a line for darker colours than f = 6/29, a cube root for lighter ones


def rgb_to_lab(rgb: Array) -> Array:
    """R, G, B in [0, 1] -> L, a, b. Raises ValueError for another number of channels, TypeError for integers."""
    xp = checked("rgb_to_lab", rgb)
    linear = xp.where(rgb <= 0.04045, rgb / 12.92, ((xp.maximum(rgb, 0) + 0.055) / 1.055) ** 2.4)
    t = linear @ xp.asarray(RELATIVE, rgb.dtype).T  # (..., 3): X, Y, Z
    f = xp.where(t > BEND**3, xp.cbrt(t), t / (3 * BEND**2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return xp.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lab_to_rgb(lab: Array) -> Array:
    """L, a, b -> R, G, B; below 0 or above 1 where sRGB does not have the colour (clip it to show the nearest).

    Raises as `rgb_to_lab` does.
    """
    xp = checked("lab_to_rgb", lab)
    y = (lab[..., 0] + 16) / 116
    f = xp.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)  # (..., 3): of X, Y, Z
    t = xp.where(f > BEND, f**3, 3 * BEND**2 * (f - 4 / 29))
    linear = t @ xp.asarray(INVERSE, lab.dtype).T
    return xp.where(linear <= 0.0031308, 12.92 * linear, 1.055 * xp.maximum(linear, 0) ** (1 / 2.4) - 0.055)


def checked(name: str, colours: Array) -> Any:
    """The namespace of the backend that holds `colours`, floats (..., 3)."""
    if colours.dtype.kind != "f":
        raise TypeError(f"{name}: expected floats, got {colours.dtype}; call to_float(images) first")
    if not colours.ndim or colours.shape[-1] != 3:
        raise ValueError(
            f"{name}: expected 3 channels in the last axis, got shape {colours.shape}; "
            "choose the bands of red, green and blue, as in images[..., [3, 2, 1]] for Sentinel-2"
        )
    return backend.of(colours).xp
