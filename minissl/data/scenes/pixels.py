"""One pixel through a year: what covers the ground, told by how its spectrum changes.

Maize and wheat are the same green on their best day, and a broadleaf wood in winter looks much like a conifer one: it
is WHEN a place is green that tells what grows there. Each place has its own onset of spring, soils and species, part of
its pixel belongs to a neighbour, and each date has its own light, haze and clouds, so that no single date suffices.

    state(day)     0 to 1, from a cover's first spectrum (lush, leafy) to its second (dry, bare): `seasons.YEARS`
    ground(day)    (1 − state)·first + state·second, a share of it from the neighbour
    seen(day)      gain · transmission · ground + haze, and through a cloud of opacity o: (1 − o)·seen + o·white
"""

import numpy as np

from minissl.data.dataset import DataSet
from minissl.data.scenes.layout import COVERS
from minissl.data.scenes.render import BANDS, draw_sky, local_spectra
from minissl.data.scenes.seasons import LAND_COVER, YEARS

CLOUDY = 0.3  # of all dates
_SERIES = 11  # the random stream of a place, apart from those of `scenes.generate`


def pixel_series(count: int, dates: int = 24, seed: int = 0) -> DataSet:
    """A year of `count` places of the world `seed`, as a data set; place i is the same however many are asked for.

    images    (N, dates, 1, 13) float32  reflectance in 13 bands, in [0, 1], date by date from midwinter of the place
    labels    (N,)              int64    index into LAND_COVER
    location  (N, 2)            float32  latitude and longitude, degrees
    part      (N,)              uint8    0 train, 1 validation, 2 test: about 70, 10 and 20%

    Dates are evenly spaced but for some days. Raises ValueError for fewer than one place or date, or a negative seed.
    """
    if min(count, dates) < 1 or seed < 0:
        raise ValueError(
            f"pixel_series: expected a place and a date at least, and a seed of 0 or more, "
            f"got {count} places, {dates} dates and seed {seed}"
        )
    arrays: dict[str, np.ndarray] = {
        "images": np.empty((count, dates, 1, len(BANDS)), np.float32),
        "labels": np.empty(count, np.int64),
        "location": np.empty((count, 2), np.float32),
        "part": np.empty(count, np.uint8),
    }
    for i in range(count):
        rng = np.random.default_rng((seed, i, _SERIES))
        label, neighbour = rng.integers(len(LAND_COVER), size=2)
        arrays["labels"][i] = label
        arrays["part"][i] = np.searchsorted((0.7, 0.8), rng.random(), side="right")
        arrays["location"][i] = latitude, _ = rng.uniform(-55, 65), rng.uniform(-180, 180)
        day = (np.arange(dates) + 0.5 + rng.uniform(-0.3, 0.3, dates)) * 365 / dates
        spring = rng.normal(0, 25)  # days by which the place's year is late
        spectra, share = local_spectra(rng), rng.uniform(0, 0.35)
        ground = (1 - share) * surface(LAND_COVER[label], day - spring, spectra, rng)
        ground += share * surface(LAND_COVER[neighbour], day - spring, spectra, rng)
        arrays["images"][i, :, 0] = np.clip([look(row, latitude, rng) for row in ground], 0, 1)
    return DataSet(arrays, LAND_COVER, "pixel series")


def surface(land_cover: str, day: np.ndarray, spectra: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Reflectance of the ground, (dates, bands), on these days (dates,)."""
    covers, state = YEARS[land_cover]
    first, second = spectra[COVERS.index(covers[rng.integers(len(covers))])]  # (bands,) each
    drier = rng.uniform(-0.2, 0.2) + rng.normal(0, 0.05, len(day))  # this place, and the weather before each date
    s = np.clip(state(day) + drier, 0, 1)[:, None]
    return first + (second - first) * s


def look(ground: np.ndarray, latitude: float, rng: np.random.Generator) -> np.ndarray:
    """What the satellite sees of the ground (bands,) at one date, perhaps through a cloud."""
    sky = draw_sky(rng, latitude)
    seen = ground * sky.gain * sky.transmission + sky.haze + sky.noise * rng.standard_normal(len(ground))
    opacity = rng.uniform(0.2, 1) if rng.random() < CLOUDY else 0.0
    return (1 - opacity) * seen + opacity * rng.uniform(0.35, 0.75)
