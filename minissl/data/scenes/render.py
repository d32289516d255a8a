"""What a satellite sees of a map: cover to reflectance, light, air and sensor, then a true-colour picture.

Every cover mixes two spectra (lush and dry grass, clear and turbid water, tiled and metal roofs ...):

    ρ(p, λ) = (1 − s(p)) · first(λ) + s(p) · second(λ),      s the cell's state, shifted by the season if it is a plant;
    seen    = gain(λ) · T · light(p) · ρ(p, λ) + haze(λ) + noise.

Gain, haze, light and the spectra themselves differ from place to place whatever its class: colour says little. Snow
lies on the ground, where there is any, and clouds before all of it but the noise.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from minissl.data.scenes.clouds import Clouds
from minissl.data.scenes.layout import COVERS, CROP, DETAIL, GRASS, PIXEL, SHRUB, TREES, WATER, Canvas
from minissl.data.scenes.terrain import hillshade

BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
WAVELENGTHS = np.array([443, 490, 560, 665, 705, 740, 783, 842, 865, 945, 1375, 1610, 2190], dtype=np.float32)  # nm
RED_GREEN_BLUE = (3, 2, 1)

# Reflectance in the 13 bands, per cover its two spectra. B10 sees water vapour, hardly the ground.
# fmt: off
SPECTRA = {
    "water": ((.040, .040, .035, .020, .018, .015, .014, .012, .011, .010, .002, .006, .004),   # clear
              (.060, .075, .100, .075, .065, .040, .036, .025, .022, .018, .002, .010, .007)),  # turbid
    "trees": ((.018, .022, .042, .022, .065, .200, .260, .280, .300, .300, .004, .130, .060),   # leafy
              (.030, .040, .062, .062, .095, .160, .185, .200, .215, .220, .004, .180, .105)),  # bare, needles
    "shrub": ((.030, .036, .058, .050, .095, .185, .215, .235, .250, .250, .004, .190, .110),
              (.045, .055, .080, .090, .125, .165, .185, .205, .220, .225, .004, .260, .180)),
    "grass": ((.025, .032, .070, .040, .110, .300, .370, .390, .410, .410, .005, .210, .110),   # lush
              (.055, .068, .105, .125, .165, .215, .235, .260, .275, .280, .005, .310, .220)),  # dry
    "crop":  ((.022, .030, .066, .032, .100, .340, .430, .450, .470, .470, .005, .180, .085),   # full canopy
              (.075, .090, .120, .155, .180, .200, .215, .235, .250, .255, .006, .320, .270)),  # ploughed, stubble
    "soil":  ((.055, .065, .090, .115, .135, .150, .165, .185, .200, .205, .006, .270, .230),   # moist
              (.090, .110, .150, .200, .225, .240, .255, .275, .290, .295, .007, .380, .330)),  # dry
    "sand":  ((.090, .115, .150, .180, .195, .205, .215, .225, .235, .235, .007, .280, .230),   # wet
              (.150, .190, .240, .285, .305, .320, .330, .345, .355, .355, .009, .430, .390)),  # dry
    "road":  ((.065, .070, .078, .084, .088, .092, .096, .100, .104, .106, .005, .130, .125),   # asphalt
              (.130, .145, .165, .180, .188, .194, .200, .206, .212, .214, .007, .240, .225)),  # concrete
    "roof":  ((.060, .068, .085, .145, .165, .175, .185, .200, .210, .212, .006, .260, .240),   # tiles
              (.200, .220, .235, .245, .250, .255, .260, .268, .272, .272, .009, .290, .270)),  # metal
    "yard":  ((.080, .088, .100, .108, .114, .120, .126, .132, .138, .140, .006, .170, .160),
              (.140, .155, .175, .192, .200, .206, .212, .220, .226, .228, .007, .260, .245)),
}
# White in the visible, dark in B11 and B12, where ice absorbs: (B3 − B11) / (B3 + B11) > 0.4 tells it from clouds.
SNOW = np.array((.830, .850, .850, .840, .830, .820, .810, .790, .780, .600, .010, .110, .080), dtype=np.float32)
# fmt: on
_SPECTRA = np.array([SPECTRA[cover] for cover in COVERS], dtype=np.float32)  # (covers, 2, bands)
_IS_PLANT = np.isin(np.arange(len(COVERS)), (TREES, SHRUB, GRASS, CROP)).astype(np.float32)


Sun = Literal["orbit", "fixed", "random"]


@dataclass
class Sky:
    """The circumstances of one acquisition."""

    azimuth: float  # of the sun, radians clockwise from north
    elevation: float  # of the sun, radians
    dryness: float  # −½ (height of the growing season) to ½ (winter, drought): shifts the state of plants
    gain: np.ndarray  # (bands,) the atmosphere's and the instrument's colour cast
    haze: np.ndarray  # (bands,) reflectance added by scattering air, most of it in the blue
    transmission: float  # share of the ground's light that comes through
    noise: float  # deviation of the sensor's noise, as reflectance


def summer(day: np.ndarray) -> np.ndarray:
    """1 in mid July, −1 half a year from it."""
    return np.cos(2 * np.pi * (day - 195) / 365)


def sun_position(day: float, latitude: float) -> tuple[float, float]:
    """Azimuth and elevation (radians) at half past ten; below 20 degrees nobody takes pictures, and there it stays.

    The sun has the year of the plants, three weeks behind its own: in March at 50° north it stands 9° too low.
    """
    declination, hour, phi = np.radians(23.4) * summer(np.asarray(day)), np.radians(-22.5), np.radians(latitude)
    height = np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.cos(hour)
    elevation = max(float(np.arcsin(height)), np.radians(20))
    east, north = -np.sin(hour) * np.cos(declination), np.sin(declination) - height * np.sin(phi)
    return float(np.arctan2(east * np.cos(phi), north)), elevation


def draw_sky(rng: np.random.Generator, latitude: float, sun: Sun = "orbit", day: float | None = None) -> Sky:
    """The sky over a place (latitude in degrees) at half past ten, as Sentinel-2 passes, on a random or the given day.

    sun: its azimuth, as it is at that hour ("orbit"), always south-east ("fixed"), or any at all ("random").
    """
    random_day = rng.uniform(0, 365)
    day = random_day if day is None else day
    azimuth, elevation = sun_position(day, latitude)
    growth = summer(np.asarray(day)) * np.tanh(latitude / 20)  # the south is half a year late; the tropics stay green
    haze = rng.uniform(0, 0.04) * (490 / WAVELENGTHS) ** rng.uniform(0.5, 2.5)
    if sun != "orbit":
        # A generator of its own: everything else about the sky stays as it is under another sun.
        azimuth = 0.75 * np.pi if sun == "fixed" else rng.spawn(1)[0].uniform(-np.pi, np.pi)
    return Sky(
        azimuth=azimuth,
        elevation=elevation,
        dryness=float(-0.25 * growth + rng.uniform(-0.25, 0.25)),
        gain=np.exp(rng.normal(0.1, 0.18) + _spectral_tilt(rng, (), 0.15)),
        haze=haze.astype(np.float32),
        transmission=rng.uniform(0.7, 1),
        noise=float(np.exp(rng.uniform(np.log(0.001), np.log(0.004)))),
    )


def _spectral_tilt(rng: np.random.Generator, shape: tuple[int, ...], strength: float) -> np.ndarray:
    """Smooth random deviations over the bands, (*shape, bands): a slope and a bow in the logarithm of wavelength."""
    octave = np.log2(WAVELENGTHS / 560) * 2  # −0.7 at 443 nm, 0 at 560 nm, 0.5 at 665 nm
    slope, bow = rng.normal(0, strength, (2, *shape, 1))
    return (slope * octave + bow * (octave**2 - 0.25) * (np.abs(octave) < 1)).astype(np.float32)


def local_spectra(rng: np.random.Generator, strength: float = 0.25) -> np.ndarray:
    """The spectra of one place, (covers, 2, bands): its soils, species and roofs are not those of the next place."""
    brightness = rng.normal(0, strength, (len(COVERS), 2, 1)).astype(np.float32)
    return _SPECTRA * np.exp(brightness + _spectral_tilt(rng, (len(COVERS), 2), strength))


def reflectance(
    canvas: Canvas,
    relief: np.ndarray,
    spectra: np.ndarray,
    sky: Sky,
    rng: np.random.Generator,
    bands: tuple[int, ...] = tuple(range(len(BANDS))),
    snow: np.ndarray | None = None,
    clouds: Clouds | None = None,
) -> np.ndarray:
    """The reflectance at the top of the atmosphere, (size, size, bands) float32, of a map on its relief (metres).

    snow: the share of each cell that lies under it, (side, side), 0 to 1.
    """
    chosen = list(bands)
    first, second = spectra[:, 0, chosen], spectra[:, 1, chosen]
    state = np.clip(canvas.state + np.float32(sky.dryness) * _IS_PLANT[canvas.cover], 0, 1)[..., None]
    ground = (
        first.take(canvas.cover, axis=0) + (second - first).take(canvas.cover, axis=0) * state
    )  # (side, side, bands)
    if snow is not None:
        ground += snow[..., None] * (SNOW[chosen] - ground)
    light = hillshade(relief + canvas.height, PIXEL / DETAIL, sky.azimuth, sky.elevation)
    light[canvas.cover == WATER] = 1  # water is level, whatever the hills around it do
    seen = average_cells(ground * light[..., None])  # (size, size, bands)
    if clouds is not None:
        seen *= clouds.light[..., None]
    seen = seen * (sky.gain[chosen] * np.float32(sky.transmission)) + sky.haze[chosen]
    if clouds is not None:
        seen += clouds.opacity[..., None] * (clouds.white[chosen] - seen)
    return seen + np.float32(sky.noise) * rng.standard_normal(seen.shape, dtype=np.float32)


def average_cells(cells: np.ndarray) -> np.ndarray:
    """The mean over the DETAIL × DETAIL cells of each pixel: (side, side, C) to (size, size, C)."""
    steps = range(DETAIL)
    return sum(cells[down::DETAIL, right::DETAIL] for down in steps for right in steps) / np.float32(DETAIL**2)


def tone(seen: np.ndarray) -> np.ndarray:
    """Reflectance as a screen shows it, in [0, 1]: 0.3 is white, and a gamma keeps forests from being black."""
    return np.clip(seen / 0.3, 0, 1) ** (1 / 1.5)


def true_colour(seen: np.ndarray) -> np.ndarray:
    """Reflectance of bands B4, B3, B2, (..., 3), as uint8 red, green and blue."""
    return np.rint(255 * tone(seen)).astype(np.uint8)
