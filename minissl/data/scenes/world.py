"""A world of places, as a data set.

What is asked for (bands, seasons, radar ...) is written down once, in `World`; it says which arrays there are and fills
them place by place, in memory for `generate` and in files for `write`: the numbers are the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from minissl.backend import get
from minissl.data.dataset import DataSet, allocate
from minissl.data.scenes.layout import COVERS
from minissl.data.scenes.place import (
    CLASSES,
    CLOUDS,
    PICTURE,
    RADAR,
    SEASON,
    Location,
    Sampling,
    acquire,
    land_cover,
    locate,
    stream,
)
from minissl.data.scenes.radar import POLARISATIONS, backscatter
from minissl.data.scenes.render import BANDS, RED_GREEN_BLUE, Sun, true_colour

SMALLEST = 16  # pixels: below this no river bends and no street meets another
TAGGED = 0.05  # of a scene: with 64 pixels a side 2 ha, more than a farm or a pond, less than a village or a river


@dataclass(frozen=True)
class World:
    """What `generate` is asked for, but the number of places."""

    size: int = 64
    seed: int = 0
    bands: Literal["rgb", "s2"] = "rgb"
    sun: Sun = "orbit"
    seasons: int = 0
    sar: bool = False
    clouds: float = 0.0
    sampling: Sampling = "uniform"

    def __post_init__(self) -> None:
        def need(fine: bool, what: str, remedy: str) -> None:
            if not fine:
                raise ValueError(f"scenes: {what}; {remedy}")

        need(self.size >= SMALLEST, f"size must be at least {SMALLEST} pixels, got {self.size}", "64 is the usual one")
        need(self.seed >= 0, f"seed must not be negative, got {self.seed}", "use 0 or any positive integer")
        need(self.seasons >= 0, f"seasons must not be negative, got {self.seasons}", "use 0 for none, 4 for SeCo")
        need(0 <= self.clouds <= 1, f"clouds must be a share from 0 to 1, got {self.clouds}", "use 0 for clear skies")
        for name, options in (("bands", ("rgb", "s2")), ("sun", get_args(Sun)), ("sampling", get_args(Sampling))):
            value = getattr(self, name)
            need(value in options, f"{name} {value!r} is not known", f"choose one of {', '.join(map(repr, options))}")

    def arrays(self, count: int) -> dict[str, tuple[tuple[int, ...], type]]:
        """Shape and type of each array of a data set of so many places."""
        if count < 1:
            raise ValueError(f"scenes: count must be at least 1, got {count}; ask for some locations, e.g. 3000")
        sides = (count, self.size, self.size)
        channels, kind = (3, np.uint8) if self.bands == "rgb" else (len(BANDS), np.float32)
        arrays: dict[str, tuple[tuple[int, ...], type]] = {
            "images": ((*sides, channels), kind),
            "masks": (sides, np.uint8),
            "labels": ((count,), np.int64),
            "multi_labels": ((count, len(COVERS)), np.uint8),
            "location": ((count, 2), np.float32),
            "part": ((count,), np.uint8),
        }
        if self.seasons:
            arrays["seasons"] = ((count, self.seasons, self.size, self.size, channels), kind)
            arrays["days"] = ((count, self.seasons), np.int16)
        if self.sar:
            arrays["sar"] = ((*sides, len(POLARISATIONS)), np.float32)
        return arrays

    def fill(self, arrays: Mapping[str, np.ndarray], start: int, stop: int) -> None:
        """Make the places from `start` to before `stop` into these rows of the arrays."""
        with get("numpy").training_run():  # thousands of tiny matrix products: waking BLAS threads costs more than they
            for i in range(start, stop):
                place = locate(self.seed, i, self.size, self.sampling)
                mask = land_cover(place.canvas)
                arrays["images"][i] = self.look(
                    place, stream(self.seed, i, PICTURE), None, stream(self.seed, i, CLOUDS)
                )
                arrays["masks"][i] = mask
                arrays["labels"][i] = place.label
                arrays["multi_labels"][i] = np.bincount(mask.ravel(), minlength=len(COVERS)) >= TAGGED * mask.size
                arrays["location"][i] = place.latitude, place.longitude
                arrays["part"][i] = place.part
                for t in range(self.seasons):
                    rng = stream(self.seed, i, SEASON, t + 1)
                    arrays["days"][i, t] = day = int((t + rng.random()) * 365 / self.seasons)
                    arrays["seasons"][i, t] = self.look(place, rng, day, stream(self.seed, i, CLOUDS, t + 1))
                if self.sar:
                    arrays["sar"][i] = backscatter(place.canvas, place.relief, stream(self.seed, i, RADAR))

    def look(
        self, place: Location, rng: np.random.Generator, day: int | None, weather: np.random.Generator
    ) -> np.ndarray:
        """A picture of a place as it is stored; it is cloudy if the first of the weather's random numbers says so."""
        clouds = weather if weather.random() < self.clouds else None
        if self.bands == "rgb":
            return true_colour(acquire(place, rng, RED_GREEN_BLUE, self.sun, day, clouds))
        return acquire(place, rng, sun=self.sun, day=day, clouds=clouds).clip(0, 1)

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """What classes, tags and bands of the data set are called."""
        return {"classes": CLASSES, "tags": COVERS, "bands": BANDS if self.bands == "s2" else ()}


def generate(
    count: int,
    size: int = 64,
    seed: int = 0,
    bands: Literal["rgb", "s2"] = "rgb",
    sun: Sun = "orbit",
    seasons: int = 0,
    sar: bool = False,
    clouds: float = 0.0,
    sampling: Sampling = "uniform",
) -> DataSet:
    """The first `count` locations of the world `seed`, as a data set.

    images        (N, size, size, 3)   uint8    true colour, 10 m a pixel
                  (N, size, size, 13)  float32  with bands="s2": reflectance in all of BANDS, clipped to [0, 1]
    masks         (N, size, size)      uint8    what covers the ground, index into COVERS
    labels        (N,)                 int64    index into CLASSES
    multi_labels  (N, 10)              uint8    1 for each of COVERS that fills 5% of the mask or more
    location      (N, 2)               float32  latitude and longitude, degrees
    part          (N,)                 uint8    0 train, 1 validation, 2 test: about 70, 10 and 20%, by location
    seasons       (N, T, ...)                   with seasons=T: as images, on T days, one in each T-th of the year
    days          (N, T)               int16    their days of the year, 0 to 364
    sar           (N, size, size, 2)   float32  with sar=True: backscatter in VV and VH, dB; see `radar`

    sun: where it stands, see `draw_sky`. clouds: the share of the images and seasons that have some. Nothing else
    changes with either. sampling: places "uniform" over the Earth, or near "settlements" as in SeCo, where classes are
    not balanced; see `place.near_a_settlement`. An array above 2 GiB is mapped onto a temporary file. Raises ValueError
    for a count below 1, a size below 16 and other values that make no sense.
    """
    world = World(size, seed, bands, sun, seasons, sar, clouds, sampling)
    arrays = {name: allocate(shape, np.dtype(kind)) for name, (shape, kind) in world.arrays(count).items()}
    world.fill(arrays, 0, count)
    return DataSet(arrays, name="scenes", **world.names)
