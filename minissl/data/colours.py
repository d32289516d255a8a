"""Colours for what has none: radar, bands beyond the visible, NDVI and land cover."""

import numpy as np

# Of VV, VH and VV - VH in dB: from black to full
DECIBELS = np.array([[-20, 0], [-26, -8], [2, 14]])
# Of land cover by its name, as maps have it
LAND = {
    "water": "#2b5fc0",
    "trees": "#1c6b2a",
    "shrub": "#8f8a3c",
    "grass": "#8fd05a",
    "crop": "#e8c33c",
    "soil": "#9a6a3f",
    "sand": "#f3e6b0",
    "road": "#444444",
    "roof": "#c8372d",
    "yard": "#b9a3c8",
}
# Of other classes by their number. Tol 2021, "Introduction to colour schemes": muted, ordered to suit the classes of
# SEN12MS, and two of bright.
HEX = "117733 999933 ddcc77 44aa99 88ccee cc6677 882255 dddddd aa4499 332288 4477aa ee6677"
NUMBERED = np.frombuffer(bytes.fromhex(HEX), np.uint8).reshape(-1, 3)
# NDVI and its colour: of water, bare soil, sparse, green and lush ground
RAMP = {-0.2: "0a3a8c", 0.05: "a6805a", 0.3: "f2ebb3", 0.55: "73b340", 0.9: "004d0d"}


def stretched(image: np.ndarray) -> np.ndarray:
    """From each band's 2nd percentile, 0; what the band of widest range has at its 98th is 1 in all."""
    low, high = np.nanpercentile(image, (2, 98), axis=(0, 1))
    return ((image - low) / max((high - low).max(), 1e-6)).clip(0, 1) ** 0.7


def radar(sar: np.ndarray) -> np.ndarray:
    """VV, VH and their difference as red, green and blue: (..., H, W, 2) in dB to (..., H, W, 3) in [0, 1].

    Power is averaged over 3x3 pixels against speckle. Water is blue, plants and rough ground green, houses yellow.
    """
    around = [(0, 0)] * (sar.ndim - 3) + [(1, 1), (1, 1), (0, 0)]
    padded = np.pad(10 ** (sar.astype(np.float64) / 10), around, "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(-3, -2))  # (..., H, W, 2, 3, 3)
    vv, vh = np.moveaxis(10 * np.log10(windows.mean(axis=(-1, -2))), -1, 0)
    low, high = DECIBELS.T
    return ((np.stack([vv, vh, vv - vh], axis=-1) - low) / (high - low)).clip(0, 1)


def ndvi_colours(ndvi: np.ndarray) -> np.ndarray:
    """NDVI (...) as colours (..., 3) between those of RAMP, from 0 to 1."""
    colours = np.array([list(bytes.fromhex(colour)) for colour in RAMP.values()]) / 255
    return np.stack([np.interp(ndvi, list(RAMP), colours[:, c]) for c in range(3)], axis=-1)


def land_colours(names: tuple[str, ...]) -> np.ndarray:
    """A colour for each class of land cover, (K, 3) uint8: by its name in LAND, else by its number."""
    own = {name: np.frombuffer(bytes.fromhex(colour[1:]), np.uint8) for name, colour in LAND.items()}
    return np.stack([own.get(name, NUMBERED[k % len(NUMBERED)]) for k, name in enumerate(names)])


def cover_colours(cover: np.ndarray) -> np.ndarray:
    """Class numbers as colours (..., 3) uint8; 255, no class, is black."""
    return np.where(cover[..., None] == 255, 0, NUMBERED[cover % len(NUMBERED)]).astype(np.uint8)
