"""A place on a made-up Earth, and how it is looked at.

Everything about a place comes from random streams of its own, one for each purpose: location i of a seed is the same
whatever else is asked for. A stream is named by numbers, the last never 0, for NumPy seeds (1, 2) and (1, 2, 0) alike.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from minissl.data.scenes.clouds import draw_clouds
from minissl.data.scenes.layout import COVERS, DETAIL, RECIPES, Canvas
from minissl.data.scenes.render import BANDS, RED_GREEN_BLUE, Sun, draw_sky, local_spectra, reflectance, true_colour
from minissl.data.scenes.seasons import Climate, draw_climate, dressed, snow_cover
from minissl.data.scenes.terrain import fractal_noise

CLASSES = tuple(RECIPES)
_PART_LIMITS = (0.7, 0.8)  # the first 70% train, then 10% validation, 20% test

LABEL, MAP, PART, PICTURE, CLIMATE, SETTLEMENT, CITIES, SEASON, CLOUDS, RADAR = range(1, 11)  # purposes of streams

Sampling = Literal["uniform", "settlements"]
SETTLEMENTS = 200  # cities of a world
SPREAD = 50 / 111.2  # degrees: the 50 km of SeCo
MONOTONE = tuple(CLASSES.index(name) for name in ("forest", "heath", "shore"))


def stream(seed: int, index: int, *purpose: int) -> np.random.Generator:
    """The random numbers of location `index` for one purpose."""
    return np.random.default_rng((seed, index, *purpose))


@dataclass
class Location:
    """All of a place that stays the same from one acquisition to the next."""

    label: int  # index into CLASSES
    latitude: float  # degrees
    longitude: float  # degrees
    part: int  # index into minissl.data.dataset.PARTS
    canvas: Canvas  # what covers the ground
    relief: np.ndarray  # metres, (side, side), one value per cell of the canvas
    spectra: np.ndarray  # (covers, 2, bands)
    climate: Climate  # what its year is like


def locate(seed: int, index: int, size: int = 64, sampling: Sampling = "uniform") -> Location:
    """Location `index` of the world `seed`, `size` pixels a side. The same numbers give the same place."""
    block, place = divmod(index, len(CLASSES))  # each run of ten locations holds every class once, shuffled
    label = int(stream(seed, block, LABEL).permutation(len(CLASSES))[place])
    part = int(np.searchsorted(_PART_LIMITS, stream(seed, index, PART).random(), side="right"))
    rng = stream(seed, index, MAP)
    latitude, longitude = rng.uniform(-55, 65), rng.uniform(-180, 180)
    if sampling == "settlements":
        label, latitude, longitude = near_a_settlement(seed, index, label)
    ruggedness = np.exp(rng.uniform(np.log(1), np.log(25)))  # metres: from a plain to the foot of the mountains
    relief = ruggedness * fractal_noise(rng, DETAIL * size, 32 * DETAIL, 0.45)
    canvas = Canvas.empty(size)
    RECIPES[CLASSES[label]](canvas, rng)
    climate = draw_climate(stream(seed, index, CLIMATE), latitude, ruggedness)
    return Location(label, latitude, longitude, part, canvas, relief.astype(np.float32), local_spectra(rng), climate)


def near_a_settlement(seed: int, index: int, label: int) -> tuple[int, float, float]:
    """SeCo's sampling: label, latitude and longitude about 50 km from a city, where monotone land is rarer.

    Of forest, heath and shore every other place is exchanged for one of another class.
    (Mañas et al., 2021: Gaussians of 50 km around the 10,000 most populated cities)
    """
    rng, cities = stream(seed, index, SETTLEMENT), stream(seed, CITIES)
    city = cities.uniform((-40, -180), (62, 180), (SETTLEMENTS, 2))[rng.integers(SETTLEMENTS)]
    north, east = SPREAD * rng.standard_normal(2)
    longitude = city[1] + east / np.cos(np.radians(city[0]))  # a degree of longitude is shorter toward the poles
    if label in MONOTONE and rng.random() < 0.5:
        label = int(rng.choice([other for other in range(len(CLASSES)) if other not in MONOTONE]))
    return label, city[0] + north, (longitude + 180) % 360 - 180


def acquire(
    location: Location,
    rng: np.random.Generator,
    bands: tuple[int, ...] = tuple(range(len(BANDS))),
    sun: Sun = "orbit",
    day: int | None = None,
    clouds: np.random.Generator | None = None,
) -> np.ndarray:
    """Reflectance of a location under a sky drawn from `rng`, (size, size, bands) float32. The sun: see `draw_sky`.

    With a `day` (of the year, 0 to 364) plants and snow are as they are on that day, else on some day of the growing
    season. With `clouds`, there are some, drawn from these random numbers.
    """
    sky = draw_sky(rng, location.latitude, sun, day)
    canvas, snow = location.canvas, None
    if day is not None:
        canvas = dressed(canvas, location.climate, day)
        sky.dryness = rng.normal(0, 0.06)  # of the weather; that of the season is in the canvas already
        snow = snow_cover(canvas, location.relief, location.climate, day, rng)
    size = len(canvas.cover) // DETAIL
    veil = None if clouds is None else draw_clouds(clouds, size, sky.azimuth, sky.elevation)
    return reflectance(canvas, location.relief, location.spectra, sky, rng, bands, snow, veil)


def photograph(location: Location, rng: np.random.Generator, sun: Sun = "orbit") -> np.ndarray:
    """One true-colour picture of a location under a sky drawn from `rng`: (size, size, 3) uint8."""
    return true_colour(acquire(location, rng, RED_GREEN_BLUE, sun))


def land_cover(canvas: Canvas) -> np.ndarray:
    """What covers most of each pixel, (size, size) uint8 into COVERS; of equals the later, which are the finer ones."""
    steps = range(DETAIL)
    cells = np.stack([canvas.cover[down::DETAIL, right::DETAIL] for down in steps for right in steps])
    counts = (cells[:, None] == cells).sum(axis=1)  # (4, size, size): how many of a pixel's cells are as this one
    return ((counts * len(COVERS) + cells).max(axis=0) % len(COVERS)).astype(np.uint8)
