"""Sentinel-like scenes, made up on the spot: the data that every chapter can run on without a download.

A location grows in three steps, and is looked at in two ways:

    map        what covers the ground: fields, streets, meanders ...      `layout` (shapes from `shapes`)
    relief     fractal hills that the sun lights from one side            `terrain`
    year       phenology and snow on a day, by latitude and height        `seasons`
    optical    Sentinel-2: spectra, light, haze, clouds, true colour      `render`, `clouds`
    radar      Sentinel-1: backscatter in VV and VH, speckle              `radar`

`place` joins them for one location; `world` makes a data set of many in memory, `writing` in files of any size.

The ten classes follow EuroSAT. They differ in structure (rows of trees or open fields, one bank or two, small roofs or
large) while colour, brightness, haze, season and contrast are drawn independently of the class, so that a histogram of
colours knows little and an encoder has to learn shapes. `python -m minissl.data.scenes` draws examples of all.

Location i of a seed is always the same place, however many are asked for and whatever of them; its part (train,
validation, test) too.
"""

from minissl.data.scenes.layout import COVERS
from minissl.data.scenes.pixels import pixel_series
from minissl.data.scenes.place import CLASSES, Location, Sampling, acquire, land_cover, locate, photograph
from minissl.data.scenes.radar import POLARISATIONS
from minissl.data.scenes.render import BANDS, Sun
from minissl.data.scenes.seasons import LAND_COVER
from minissl.data.scenes.world import generate
from minissl.data.scenes.writing import write

__all__ = [
    "BANDS",
    "CLASSES",
    "COVERS",
    "LAND_COVER",
    "POLARISATIONS",
    "Location",
    "Sampling",
    "Sun",
    "acquire",
    "generate",
    "land_cover",
    "locate",
    "photograph",
    "pixel_series",
    "write",
]
