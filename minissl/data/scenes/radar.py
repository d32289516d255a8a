"""What Sentinel-1 sees of a map: C-band backscatter in VV and VH, in decibels, with speckle.

    σ(p)    = terrain(p) · 10^(dB(cover, state) / 10)     averaged over the cells of a pixel, plus the noise floor
    seen    = 10 log₁₀( (σ + noise) · g ),     g ~ Gamma(L) / L: mean 1, variance 1/L, L = 4.4 looks

A radar lights the ground from its own side, by day and by night and through clouds. Calm water mirrors the pulse away
and is dark, wind roughens it; walls and streets throw it back by double bounce, most in VV; a canopy scatters it within
its volume, which turns the polarisation and makes VH strong; bare soil is the brighter the moister and rougher it is.

The levels are typical C-band values at 38 degrees of incidence, rounded, as reviews of Sentinel-1 over land give them;
where there is enough of a cover, they agree within about 2 dB with means over patches of TerraMesh and BigEarthNet
(trees −7 to −10 in VV and −13 to −15 in VH, fields −9 to −12 and −16 to −18, water under wind −16 and −22). 4.4 is the
equivalent number of looks of an IW GRD product. ESA specifies the instrument's noise floor as −22 dB or better; over
most of the swath it is −25 to −28 dB.

Left out: the resolution of 20 m, by which speckle in neighbouring pixels of 10 m is alike, and shadows and layover.
"""

import numpy as np

from minissl.data.scenes.layout import COVERS, CROP, DETAIL, GRASS, PIXEL, SAND, SOIL, WATER, Canvas
from minissl.data.scenes.render import average_cells
from minissl.data.scenes.terrain import hillshade

POLARISATIONS = ("VV", "VH")
LOOKS = 4.4

# Backscatter of each cover in its two states (as in `render.SPECTRA`): (VV, VH) and (VV, VH), dB.
BACKSCATTER = {
    "water": ((-20.5, -28.5), (-14.0, -22.5)),  # calm, windy: the wind of the day is its state
    "trees": ((-8.5, -13.5), (-9.5, -15.0)),  # leafy; bare, needles
    "shrub": ((-10.5, -16.5), (-12.5, -19.0)),
    "grass": ((-12.0, -18.0), (-14.5, -21.5)),  # lush, dry
    "crop": ((-9.5, -15.5), (-12.5, -20.5)),  # full canopy; ploughed, stubble
    "soil": ((-10.5, -18.5), (-15.5, -24.0)),  # moist, dry
    "sand": ((-16.0, -24.0), (-20.5, -28.0)),
    "road": ((-16.5, -24.0), (-17.5, -25.0)),
    "roof": ((-4.0, -12.0), (-1.0, -9.5)),  # houses, halls
    "yard": ((-10.0, -17.5), (-12.5, -20.0)),
}
_BACKSCATTER = np.array([BACKSCATTER[cover] for cover in COVERS], dtype=np.float32)  # (covers, 2, 2)
_MOIST = np.isin(np.arange(len(COVERS)), (GRASS, CROP, SOIL, SAND)).astype(np.float32)  # covers that rain changes
_PLOUGHED = np.isin(np.arange(len(COVERS)), (CROP, SOIL)).astype(np.float32)


def backscatter(canvas: Canvas, relief: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One acquisition of a map on its relief (metres): VV and VH in dB, (size, size, 2) float32."""
    incidence = rng.uniform(np.radians(30), np.radians(45))
    sensor = np.radians(rng.choice((260, 100)))  # where it stands: ascending passes look east, descending ones west
    wind, dryness, floor = rng.random(), rng.uniform(-0.3, 0.3), rng.uniform(-28, -25)
    here = rng.normal(0, 1, (len(COVERS), 1, 1)) + rng.normal(0, 0.4, (len(COVERS), 1, 2))  # dB: this place's own

    first, second = np.moveaxis(_BACKSCATTER + here.astype(np.float32), 1, 0)  # (covers, 2) each
    state = np.clip(canvas.state + np.float32(dryness) * _MOIST[canvas.cover], 0, 1)
    state[canvas.cover == WATER] = wind
    decibels = first[canvas.cover] + (second - first)[canvas.cover] * state[..., None]  # (side, side, 2)
    roughness = 4 * (canvas.plot * 11 % 1 - 0.5) * state * _PLOUGHED[canvas.cover]  # dB, field by field
    power = 10 ** ((decibels + roughness[..., None]) / 10)

    slopes = terrain(relief, sensor, incidence)
    slopes[canvas.cover == WATER] = 1
    level = np.float32((np.cos(incidence) / np.cos(np.radians(38))) ** 2)  # the steeper it looks down, the brighter
    seen = average_cells(power * (level * slopes)[..., None]) + np.float32(10 ** (floor / 10))  # (size, size, 2)
    return 10 * np.log10(seen * (rng.standard_gamma(LOOKS, seen.shape, dtype=np.float32) / np.float32(LOOKS)))


def terrain(relief: np.ndarray, sensor: float, incidence: float) -> np.ndarray:
    """How much brighter each cell is than flat ground: slopes that face the sensor (azimuth, radians) shine.

    At the local incidence θₗ a cell returns as cos θₗ does, and the more of it lies within a pixel, 1 / sin θₗ:
        (cos θₗ / cos θ) · (sin θ / sin θₗ).
    """
    light = hillshade(relief, PIXEL / DETAIL, sensor, np.pi / 2 - incidence)  # cos θₗ / cos θ
    cosine = np.minimum(light * np.float32(np.cos(incidence)), 0.98)
    return light * np.float32(np.sin(incidence)) / np.sqrt(1 - cosine**2)
