"""Sentinel-like scenes, made up on the spot: the data that every chapter can run on without a download.

A location grows in three steps, each a file of its own:

    map        what covers the ground: fields, streets, meanders ...      `layout` (shapes from `shapes`)
    relief     fractal hills that the sun lights from one side            `terrain`
    picture    spectra, season, light, haze, noise, true colour           `render`

The ten classes follow EuroSAT. They differ in structure (rows of trees or open fields, one bank or two, small roofs or
large) while colour, brightness, haze, season and contrast are drawn independently of the class, so that a histogram of
colours knows little and an encoder has to learn shapes. `python -m minissl.data.scenes` draws examples of all.

Location i of a seed is always the same place, however many are asked for; its part (train, validation, test) too.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from minissl.backend import get
from minissl.data.dataset import DataSet
from minissl.data.scenes.layout import COVERS, DETAIL, RECIPES, Canvas
from minissl.data.scenes.render import BANDS, RED_GREEN_BLUE, Sun, draw_sky, local_spectra, reflectance, true_colour
from minissl.data.scenes.seasons import LAND_COVER, pixel_series
from minissl.data.scenes.terrain import fractal_noise

__all__ = [
    "BANDS",
    "CLASSES",
    "COVERS",
    "LAND_COVER",
    "Location",
    "Sun",
    "acquire",
    "generate",
    "land_cover",
    "locate",
    "photograph",
    "pixel_series",
]

CLASSES = tuple(RECIPES)
SMALLEST = 16  # pixels: below this no river bends and no street meets another
_PART_LIMITS = (0.7, 0.8)  # the first 70% train, then 10% validation, 20% test

# Independent random streams of one location. None may be 0: NumPy seeds (1, 2) and (1, 2, 0) alike.
_LABEL, _MAP, _PART, _PICTURE = 1, 2, 3, 4


@dataclass
class Location:
    """A place on a made-up Earth, all that stays the same from one acquisition to the next."""

    label: int  # index into CLASSES
    latitude: float  # degrees
    longitude: float  # degrees
    part: int  # index into minissl.data.dataset.PARTS
    canvas: Canvas  # what covers the ground
    relief: np.ndarray  # metres, (side, side), one value per cell of the canvas
    spectra: np.ndarray  # (covers, 2, bands)


def locate(seed: int, index: int, size: int = 64) -> Location:
    """Location `index` of the world `seed`, `size` pixels a side. The same three numbers give the same place."""
    block, place = divmod(index, len(CLASSES))  # each run of ten locations holds every class once, shuffled
    label = int(_stream(seed, block, _LABEL).permutation(len(CLASSES))[place])
    part = int(np.searchsorted(_PART_LIMITS, _stream(seed, index, _PART).random(), side="right"))
    rng = _stream(seed, index, _MAP)
    latitude, longitude = rng.uniform(-55, 65), rng.uniform(-180, 180)
    ruggedness = np.exp(rng.uniform(np.log(1), np.log(25)))  # metres: from a plain to the foot of the mountains
    relief = ruggedness * fractal_noise(rng, DETAIL * size, 32 * DETAIL, 0.45)
    canvas = Canvas.empty(size)
    RECIPES[CLASSES[label]](canvas, rng)
    return Location(label, latitude, longitude, part, canvas, relief.astype(np.float32), local_spectra(rng))


def acquire(
    location: Location, rng: np.random.Generator, bands: tuple[int, ...] = tuple(range(len(BANDS))), sun: Sun = "orbit"
) -> np.ndarray:
    """Reflectance of a location under a sky drawn from `rng`, (size, size, bands) float32. The sun: see `draw_sky`."""
    sky = draw_sky(rng, location.latitude, sun)
    return reflectance(location.canvas, location.relief, location.spectra, sky, rng, bands)


def photograph(location: Location, rng: np.random.Generator, sun: Sun = "orbit") -> np.ndarray:
    """One true-colour picture of a location under a sky drawn from `rng`: (size, size, 3) uint8."""
    return true_colour(acquire(location, rng, RED_GREEN_BLUE, sun))


def land_cover(canvas: Canvas) -> np.ndarray:
    """What covers most of each pixel, (size, size) uint8 into COVERS; of equals the later, which are the finer ones."""
    size = len(canvas.cover) // DETAIL
    cells = canvas.cover.reshape(size, DETAIL, size, DETAIL).swapaxes(1, 2).reshape(size, size, DETAIL**2)
    counts = (cells[..., None] == np.arange(len(COVERS), dtype=np.uint8)).sum(axis=2)  # (size, size, covers)
    return (len(COVERS) - 1 - counts[..., ::-1].argmax(axis=-1)).astype(np.uint8)


def generate(
    count: int, size: int = 64, seed: int = 0, bands: Literal["rgb", "s2"] = "rgb", sun: Sun = "orbit"
) -> DataSet:
    """The first `count` locations of the world `seed`, as a data set.

    images    (N, size, size, 3)  uint8   true colour, 10 m a pixel
              (N, size, size, 13) float32 with bands="s2": reflectance in all of BANDS, clipped to [0, 1]
    masks     (N, size, size)     uint8   what covers the ground, index into COVERS
    labels    (N,)                int64   index into CLASSES
    location  (N, 2)              float32 latitude and longitude, degrees
    part      (N,)                uint8   0 train, 1 validation, 2 test: about 70, 10 and 20%, by location

    sun: where it stands, see `draw_sky`; nothing else changes with it. Raises ValueError for a count below 1, a size
    below 16, a negative seed or other bands.
    """
    if count < 1:
        raise ValueError(f"scenes.generate: count must be at least 1, got {count}; ask for some locations, e.g. 3000")
    if size < SMALLEST:
        raise ValueError(f"scenes.generate: size must be at least {SMALLEST} pixels, got {size}; 64 is the usual one")
    if bands not in ("rgb", "s2"):
        raise ValueError(f"scenes.generate: bands must be 'rgb' or 's2', got {bands!r}")
    if seed < 0:
        raise ValueError(f"scenes.generate: seed must not be negative, got {seed}; use 0 or any positive integer")
    arrays: dict[str, np.ndarray] = {
        "images": np.empty((count, size, size, 3), np.uint8)
        if bands == "rgb"
        else np.empty((count, size, size, len(BANDS)), np.float32),
        "masks": np.empty((count, size, size), dtype=np.uint8),
        "labels": np.empty(count, dtype=np.int64),
        "location": np.empty((count, 2), dtype=np.float32),
        "part": np.empty(count, dtype=np.uint8),
    }
    with get("numpy").training_run():  # thousands of tiny matrix products: waking BLAS threads costs more than they do
        for index in range(count):
            location = locate(seed, index, size)
            rng = _stream(seed, index, _PICTURE)
            arrays["images"][index] = (
                photograph(location, rng, sun) if bands == "rgb" else acquire(location, rng, sun=sun).clip(0, 1)
            )
            arrays["masks"][index] = land_cover(location.canvas)
            arrays["labels"][index] = location.label
            arrays["location"][index] = location.latitude, location.longitude
            arrays["part"][index] = location.part
    return DataSet(arrays, CLASSES, "scenes")


def _stream(seed: int, index: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng((seed, index, purpose))
