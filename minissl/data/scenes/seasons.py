"""The year: how plants, ground and snow change with the day, by what grows there and where on Earth it is.

    state(day)           0 to 1, from a cover's first spectrum (lush, leafy) to its second (dry, bare), by land cover
    temperature(day)     27 − 0.007·φ² + 0.24·|φ|·summer(day) − 6.5·height/1000 °C at latitude φ (degrees)
    snow                 where it freezes, give or take the weather; in patches, and the colder the fuller

Every field has its own crop and its own onset of spring, every place its own woods, lateness and drought. Latitude
shortens the growing season toward the poles and lets broadleaf woods of the tropics keep their leaves. The temperature
is a rough fit to the means by latitude over land: 27 °C on the equator, at 50 degrees −3 °C in winter and 21 in summer.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from minissl.data.scenes.layout import COVERS, CROP, DETAIL, GRASS, ROAD, ROOF, SHRUB, TREES, WATER, YARD, Canvas
from minissl.data.scenes.render import summer
from minissl.data.scenes.terrain import fractal_noise


def between(day: np.ndarray, start: float, end: float, width: float = 9.0) -> np.ndarray:
    """0 before the day `start`, 1 after it, and 0 again after `end`, each change taking some 4 widths (days)."""
    return 1 / (1 + np.exp(-np.clip((day - start) / width, -50, 50))) / (1 + np.exp((day - end) / width))


# Land cover -> the covers of which one is chosen, and the state of plants and ground by day, 0 being midwinter.
YEARS: dict[str, tuple[tuple[str, ...], Callable[[np.ndarray], np.ndarray]]] = {
    "winter crop": (("crop",), lambda day: 1 - between(day, 90, 185) - 0.3 * between(day, 310, 400)),
    "summer crop": (("crop",), lambda day: 1 - between(day, 165, 260)),
    "grassland": (("grass",), lambda day: 0.45 - 0.35 * summer(day)),
    "broadleaf forest": (("trees",), lambda day: 1 - 0.9 * between(day, 120, 290)),
    "conifer forest": (("trees",), lambda day: 0.6 - 0.1 * summer(day)),
    "water": (("water",), lambda day: 0.4 - 0.2 * summer(day)),
    "bare soil": (("soil", "sand"), lambda day: 0.5 + 0.4 * summer(day)),
    "built-up": (("road", "roof", "yard"), lambda day: np.full_like(day, 0.5)),
}
LAND_COVER = tuple(YEARS)
WINTER_CROP, GRASSLAND, BROADLEAF, CONIFER = (
    LAND_COVER.index(name) for name in ("winter crop", "grassland", "broadleaf forest", "conifer forest")
)

_KINDS = {cover: kind for kind, (covers, _) in enumerate(YEARS.values()) for cover in covers}
_KIND = np.array([_KINDS.get(cover, CONIFER) for cover in COVERS], dtype=np.uint8)  # heath is evergreen, too
_OWN = np.where(np.isin(np.arange(len(COVERS)), (TREES, SHRUB, GRASS, CROP)), np.float32(0.6), np.float32(1))
# How much of each cover a deep snow hides: it falls through a canopy, and streets are cleared.
_HIDDEN = np.ones(len(COVERS), dtype=np.float32)
_HIDDEN[[WATER, TREES, SHRUB, ROAD, ROOF, YARD]] = 0, 0.35, 0.7, 0.2, 0.9, 0.5


@dataclass
class Climate:
    """What a place's year is like."""

    latitude: float  # degrees
    altitude: float  # metres
    late: float  # days by which its spring is late
    conifers: float  # share of its forest stands
    winter_crops: float  # share of its fields that are sown in autumn
    drought: float  # how far grass dries out at the end of the summer


def draw_climate(rng: np.random.Generator, latitude: float, ruggedness: float) -> Climate:
    """The climate of a place; rugged places (metres of relief) lie higher, and the far north has conifers."""
    north = np.clip((abs(latitude) - 45) / 30, -0.3, 0.6)
    dry = np.exp(-(((abs(latitude) - 38) / 14) ** 2))  # driest about the latitude of the Mediterranean
    return Climate(
        latitude=latitude,
        altitude=ruggedness * rng.uniform(5, 60),
        late=rng.normal(0, 8),
        conifers=float(np.clip(rng.uniform(-0.3, 1.3) + north, 0, 1)),
        winter_crops=rng.uniform(0.25, 0.75),
        drought=rng.uniform(0.2, 0.7) * dry,
    )


def own_day(climate: Climate, day: float | np.ndarray) -> np.ndarray:
    """A calendar day in the place's own year: 0 is midwinter, and the growing season is shorter toward the poles."""
    south = 182.5 if climate.latitude < 0 else 0.0
    from_summer = (day + south - climate.late - 195 + 182.5) % 365 - 182.5
    return 195 + from_summer * np.clip(1 + 0.015 * (abs(climate.latitude) - 45), 0.7, 1.3)


def temperature(climate: Climate, day: float, height: np.ndarray | float = 0.0) -> np.ndarray:
    """Celsius on a calendar day, `height` metres above the place's altitude."""
    phi = abs(climate.latitude)
    warmth = summer(np.asarray(day + (182.5 if climate.latitude < 0 else 0.0)))
    return 27 - 0.007 * phi**2 + 0.24 * phi * warmth - 0.0065 * (climate.altitude + height)


def dressed(canvas: Canvas, climate: Climate, day: float) -> Canvas:
    """The map as it stands on a calendar day: each cell's state follows its land cover through the year."""
    kind = _KIND[canvas.cover]
    kind[(canvas.cover == CROP) & (canvas.plot < climate.winter_crops)] = WINTER_CROP
    kind[(canvas.cover == TREES) & (canvas.plot >= climate.conifers)] = BROADLEAF
    days = own_day(climate, day - 30 * (canvas.plot * 7 % 1 - 0.5))  # a field's or stand's own lateness
    # 0.6 of a plant's own state and 0.7 of its year: no season hides the borders of fields and the texture of woods.
    state = 0.5 + _OWN[canvas.cover] * (canvas.state - 0.5)
    for k in np.unique(kind):
        where = kind == k
        year = YEARS[LAND_COVER[k]][1](days[where])
        if k == BROADLEAF:
            year = year * np.tanh(abs(climate.latitude) / 20)  # the tropics keep their leaves
        elif k == GRASSLAND:
            year = year + climate.drought * between(days[where], 205, 275)
        state[where] += (0.7 if k <= CONIFER else 1.0) * (year - 0.5)
    return replace(canvas, state=np.clip(state, 0, 1))


def snow_cover(
    canvas: Canvas, relief: np.ndarray, climate: Climate, day: float, rng: np.random.Generator
) -> np.ndarray | None:
    """The share of each cell under snow, (side, side); None where it is too warm for any. Lakes freeze below −8 °C."""
    warmth = temperature(climate, day, relief) + rng.uniform(-3, 3)  # the weather of these weeks
    if warmth.min() >= 0:
        return None
    drifts = fractal_noise(rng, len(relief), 8 * DETAIL) + 2 * (canvas.plot * 5 % 1 - 0.5)  # and field by field
    depth = np.clip(-warmth / 6 * (1 + 0.5 * drifts), 0, 1).astype(np.float32)
    ice = (canvas.cover == WATER) & (warmth < -8)
    return depth * np.where(ice, np.float32(0.9), _HIDDEN[canvas.cover])
