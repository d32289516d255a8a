"""The map of a location: what covers the ground, where, and how high it stands.

A scene class is a recipe that paints a canvas. The countryside comes first, whatever the class: a river or a motorway
crosses fields, forest or heath alike, and most places hold a little of something else (a grove, a farm track, a pond).
So it is the SHAPE of what was painted that tells the class, and the covers alone do not.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minissl.data.scenes.shapes import distance_to_curve, irregular_cells, parcels_in_rows, turn
from minissl.data.scenes.terrain import fractal_noise, smooth_noise

COVERS = ("water", "trees", "shrub", "grass", "crop", "soil", "sand", "road", "roof", "yard")
WATER, TREES, SHRUB, GRASS, CROP, SOIL, SAND, ROAD, ROOF, YARD = range(len(COVERS))
PIXEL = 10.0  # metres
DETAIL = 2  # map cells per pixel side: roofs and roads are narrower than a pixel of 10 m, and mix with what is beside

Cells = np.ndarray | float  # a number for each cell, or one for all


@dataclass
class Canvas:
    """A map of (side, side) cells, side = DETAIL · size, painted layer over layer."""

    x: np.ndarray  # pixels of 10 m from the centre, growing eastward
    y: np.ndarray  # the same, growing southward
    cover: np.ndarray  # index into COVERS, uint8
    state: np.ndarray  # 0 to 1: from a cover's first spectrum to its second (lush to dry, clear to turbid ...)
    height: np.ndarray  # metres above the ground: canopies and roofs
    plot: np.ndarray  # 0 to 1, a number drawn per field or forest stand: what grows there, and how early

    @classmethod
    def empty(cls, size: int) -> "Canvas":
        """Bare grassland of `size` pixels a side."""
        side = DETAIL * size
        place = ((np.arange(side, dtype=np.float32) + 0.5) / DETAIL - size / 2).astype(np.float32)
        y, x = np.meshgrid(place, place, indexing="ij")
        cover = np.full((side, side), GRASS, dtype=np.uint8)
        return cls(x, y, cover, np.full_like(x, 0.5), np.zeros_like(x), np.full_like(x, 0.5))

    def paint(self, where: np.ndarray, cover: int, state: Cells = 0.5, height: Cells = 0.0, plot: Cells = 0.5) -> None:
        """Cover the cells `where`."""
        np.copyto(self.cover, cover, where=where)
        np.copyto(self.state, state, where=where, casting="same_kind")
        np.copyto(self.height, height, where=where, casting="same_kind")
        np.copyto(self.plot, plot, where=where, casting="same_kind")

    def noise(self, rng: np.random.Generator, spacing: float, gain: float = 0.5) -> np.ndarray:
        """Fractal noise whose largest bumps lie about `spacing` pixels apart."""
        return fractal_noise(rng, len(self.x), round(spacing * DETAIL), gain)

    def fine_noise(self, rng: np.random.Generator, spacing: float) -> np.ndarray:
        """Noise of one scale, in pixels."""
        return smooth_noise(rng, len(self.x), max(1.0, round(spacing * DETAIL)))

    def warped(self, rng: np.random.Generator, strength: float, spacing: float) -> tuple[np.ndarray, np.ndarray]:
        """The coordinates, pushed about by up to some `strength` pixels: straight lines drawn on them wander."""
        side = len(self.x)
        push = [smooth_noise(rng, side, round(spacing * DETAIL)) for _ in range(2)]
        return self.x + np.float32(strength) * push[0], self.y + np.float32(strength) * push[1]


def crops(canvas: Canvas, rng: np.random.Generator, where: np.ndarray) -> None:
    """Annual crops: large rectangular fields, each at its own stage between green and ploughed."""
    along, across = turn(*canvas.warped(rng, rng.uniform(0, 1), 24), rng.uniform(0, np.pi))
    width = rng.uniform(6, 16)
    number, border = parcels_in_rows(rng, along, across, width * rng.uniform(1.2, 3), width)
    contrast = rng.uniform(0.5, 1)
    stage = np.clip(0.5 + contrast * (number - 0.5) + 0.04 * canvas.fine_noise(rng, 2), 0, 1)
    canvas.paint(where, CROP, stage, plot=number)
    if rng.random() < 0.5:
        canvas.paint(where & (border < rng.uniform(0.25, 0.5)), GRASS, rng.uniform(0.2, 0.8))


def orchard(canvas: Canvas, rng: np.random.Generator, where: np.ndarray) -> None:
    """Permanent crops: plots of trees or vines in rows, each plot with its own direction."""
    along, across = turn(canvas.x, canvas.y, rng.uniform(0, np.pi))
    width = rng.uniform(12, 22)
    number, border = parcels_in_rows(rng, along, across, width * rng.uniform(1, 1.8), width)
    wave = 2 * np.pi / rng.uniform(3, 5)
    direction = np.where(number < 0.5, 0, np.pi / 2).astype(np.float32) + np.float32(0.6) * (number * 7 % 1 - 0.5)
    step_across = np.cos(direction) * across - np.sin(direction) * along
    rows = np.cos(np.float32(wave) * step_across)
    if rng.random() < 0.5:  # single crowns rather than closed rows
        step_along = np.cos(direction) * along + np.sin(direction) * across
        rows = rows + np.float32(0.7) * np.cos(np.float32(wave) * step_along)
    ground = GRASS if rng.random() < 0.5 else SOIL
    canvas.paint(where, ground, np.clip(0.5 + 0.5 * (number * 3 % 1 - 0.5), 0, 1))
    crowns = where & (rows + 0.25 * canvas.fine_noise(rng, 1.5) > rng.uniform(-0.1, 0.3)) & (border > 0.6)
    canvas.paint(crowns, TREES, rng.uniform(0.2, 0.7), 3.0)


def pasture(canvas: Canvas, rng: np.random.Generator, where: np.ndarray) -> None:
    """Pasture: irregular meadows, much alike, behind hedges that have gaps."""
    number, border = irregular_cells(rng, *canvas.warped(rng, 1.5, 10), rng.uniform(8, 17))
    contrast = rng.uniform(0.15, 0.5)
    state = np.clip(0.5 + contrast * (number - 0.5) + 0.06 * canvas.noise(rng, 6), 0, 1)
    canvas.paint(where, GRASS, state, plot=number)
    hedge = (border < rng.uniform(0.4, 0.7)) & (canvas.fine_noise(rng, 4) > rng.uniform(-1, 0.5))
    canvas.paint(where & hedge, TREES, rng.uniform(0.2, 0.8), 6.0)


def forest(canvas: Canvas, rng: np.random.Generator, where: np.ndarray) -> None:
    """Forest: a closed, rough canopy of stands that differ little, sometimes with clearings."""
    number, _ = irregular_cells(rng, *canvas.warped(rng, 2, 8), rng.uniform(9, 20))
    canopy = canvas.fine_noise(rng, rng.uniform(0.8, 1.6))
    state = 0.5 + rng.uniform(0.1, 0.6) * (number - 0.5) + 0.12 * canopy
    canvas.paint(where, TREES, np.clip(state, 0, 1), 14 + rng.uniform(0.8, 2.5) * canopy, number)
    if rng.random() < 0.5:
        canvas.paint(where & (canvas.noise(rng, 12) > rng.uniform(1.2, 1.8)), GRASS, rng.uniform(0.2, 0.8))


def heath(canvas: Canvas, rng: np.random.Generator, where: np.ndarray) -> None:
    """Heath and herbaceous land: patches of shrub, grass and bare ground that nobody drew a border around."""
    patch = canvas.noise(rng, rng.uniform(5, 12), rng.uniform(0.55, 0.8))
    canvas.paint(where, GRASS, np.clip(0.5 + 0.2 * patch, 0, 1))
    canvas.paint(where & (patch > rng.uniform(-0.5, 0.5)), SHRUB, np.clip(0.5 - 0.2 * patch, 0, 1), 1.0)
    canvas.paint(where & (patch < rng.uniform(-2, -0.8)), SOIL, 0.5)
    canvas.paint(where & (canvas.fine_noise(rng, 2) > 1.9), TREES, 0.5, 5.0)


COUNTRYSIDE = (crops, orchard, pasture, forest, heath)


def countryside(canvas: Canvas, rng: np.random.Generator) -> None:
    """Open land of two kinds in patches, to carry what a class is about: a river passes through both."""
    everywhere = np.ones(canvas.cover.shape, dtype=bool)
    first, second = rng.choice(len(COUNTRYSIDE), 2, replace=False, p=(0.34, 0.04, 0.25, 0.25, 0.12))
    COUNTRYSIDE[first](canvas, rng, everywhere)
    COUNTRYSIDE[second](canvas, rng, canvas.noise(rng, 22) > rng.uniform(-0.5, 0.5))


def river(canvas: Canvas, rng: np.random.Generator) -> None:
    """A river: two banks, meanders, a width that changes; sometimes a second arm."""
    x, y = canvas.warped(rng, 1.0, 8)
    lining, state = (TREES if rng.random() < 0.6 else SAND), rng.uniform(0, 1)
    for arm in range(rng.choice((1, 2), p=(0.65, 0.35))):
        distance = np.abs(distance_to_curve(rng, x, y, rng.uniform(3, 9), rng.uniform(34, 60), rng.uniform(-11, 11)))
        half = rng.uniform(2.2, 5.5) / (1 + arm) * (1 + 0.12 * canvas.fine_noise(rng, 12))
        bank = half + rng.uniform(0.3, 2) * np.maximum(0, canvas.fine_noise(rng, 4))
        canvas.paint((distance < bank) & (canvas.cover != WATER), lining, 0.4, 6.0 if lining == TREES else 0.0)
        canvas.paint(distance < half, WATER, state)


def shore(canvas: Canvas, rng: np.random.Generator) -> None:
    """A lake or sea shore: one ragged line, open water on one side of it."""
    distance = distance_to_curve(rng, canvas.x, canvas.y, rng.uniform(2, 9), rng.uniform(40, 90), rng.uniform(-14, 14))
    distance = distance + rng.uniform(0.5, 3) * canvas.noise(rng, rng.uniform(10, 22))
    depth = np.clip(rng.uniform(0, 1) + 0.5 * np.exp(np.minimum(distance, 0) / 8), 0, 1)  # turbid by the shore
    if rng.random() < 0.6:
        canvas.paint(distance < rng.uniform(0.4, 2.5), SAND, 0.5)
    canvas.paint(distance < 0, WATER, depth)


def highway(canvas: Canvas, rng: np.random.Generator) -> None:
    """Motorways: two carriageways that keep their width and hardly bend, in a cleared strip; often a crossing."""
    verge, asphalt = (GRASS if rng.random() < 0.6 else TREES), rng.uniform(0, 1)
    half, median = rng.uniform(1.8, 2.8), rng.uniform(0.4, 0.7)
    if rng.random() < 0.6:
        minor_road(canvas, rng, asphalt)
    for _ in range(rng.choice((1, 2), p=(0.5, 0.5))):
        distance = np.abs(distance_to_curve(rng, canvas.x, canvas.y, rng.uniform(0, 3), 90, rng.uniform(-12, 12)))
        canvas.paint(distance < half + rng.uniform(0.5, 1.8), verge, rng.uniform(0.2, 0.8))
        canvas.paint((distance < half) & (distance > median), ROAD, asphalt)


def residential(canvas: Canvas, rng: np.random.Generator) -> None:
    """A residential quarter: a close mesh of streets, small roofs in gardens."""
    town = canvas.noise(rng, 24) > rng.uniform(-2.5, -0.6)
    along, across = turn(*canvas.warped(rng, rng.uniform(0, 2.5), 20), rng.uniform(0, np.pi))
    width = rng.uniform(6, 10)
    _, street = parcels_in_rows(rng, along, across, width * rng.uniform(1.2, 2.5), width, 0.2)
    number, wall = parcels_in_rows(rng, along, across, rng.uniform(1.7, 2.8), rng.uniform(1.7, 2.4), 0.2)
    canvas.paint(town, GRASS, np.clip(0.5 + 0.2 * canvas.fine_noise(rng, 1.5), 0, 1))
    canvas.paint(town & (canvas.fine_noise(rng, 1.5) > rng.uniform(0.4, 1.5)), TREES, 0.4, 5.0)
    roofs = town & (wall > rng.uniform(0.3, 0.5)) & (number < rng.uniform(0.6, 0.95))
    canvas.paint(roofs, ROOF, np.clip(rng.uniform(0, 1) + 0.8 * (number - 0.5), 0, 1), 5.0)
    canvas.paint(town & (street < rng.uniform(0.5, 0.85)), ROAD, rng.uniform(0, 1))


def industrial(canvas: Canvas, rng: np.random.Generator) -> None:
    """An industrial estate: halls as large as fields, paved yards, wide roads."""
    estate = canvas.noise(rng, 30) > rng.uniform(-2.5, -0.8)
    along, across = turn(canvas.x, canvas.y, rng.uniform(0, np.pi))
    width = rng.uniform(13, 22)
    plot, street = parcels_in_rows(rng, along, across, width * rng.uniform(1.2, 2), width, 0.25)
    number, wall = parcels_in_rows(rng, along, across, rng.uniform(7, 14), rng.uniform(5, 9), 0.4)
    canvas.paint(estate, YARD, plot)
    canvas.paint(estate & (plot < 0.25), GRASS, 0.5)
    halls = estate & (wall > rng.uniform(0.6, 1.2)) & (number < rng.uniform(0.6, 0.9)) & (street > 1.5)
    canvas.paint(halls, ROOF, number * 5 % 1, 9.0)
    canvas.paint(estate & (street < rng.uniform(0.5, 0.9)), ROAD, rng.uniform(0, 1))


def minor_road(canvas: Canvas, rng: np.random.Generator, asphalt: float) -> None:
    """A country road, narrower than a pixel or little more."""
    distance = distance_to_curve(rng, canvas.x, canvas.y, rng.uniform(0, 4), rng.uniform(40, 80), rng.uniform(-20, 20))
    canvas.paint(np.abs(distance) < rng.uniform(0.3, 0.6), ROAD, asphalt)


def surroundings(canvas: Canvas, rng: np.random.Generator) -> None:
    """What any place may hold beside what names it: another kind of land, a road, a farm, a pond."""
    if rng.random() < 0.5:
        patch = canvas.noise(rng, 28) > rng.uniform(0.8, 1.8)
        COUNTRYSIDE[rng.integers(len(COUNTRYSIDE))](canvas, rng, patch)
    if rng.random() < 0.4:
        minor_road(canvas, rng, rng.uniform(0, 1))
    if rng.random() < 0.3:
        number, wall = parcels_in_rows(rng, canvas.x, canvas.y, 2.5, 2.5)
        farm_x, farm_y = rng.uniform(0.8 * canvas.x.min(), 0.8 * canvas.x.max(), 2).astype(np.float32)
        near = np.hypot(canvas.x - farm_x, canvas.y - farm_y) < 4
        canvas.paint(near & (wall > 0.4) & (number < 0.6), ROOF, number, 5.0)
    if rng.random() < 0.3:
        canvas.paint(canvas.noise(rng, 14) > rng.uniform(2.2, 3), WATER, rng.uniform(0, 1))


def _over_countryside(feature: Callable[[Canvas, np.random.Generator], None]) -> Callable:
    def recipe(canvas: Canvas, rng: np.random.Generator) -> None:
        countryside(canvas, rng)
        surroundings(canvas, rng)
        feature(canvas, rng)

    return recipe


def _all_over(land: Callable[[Canvas, np.random.Generator, np.ndarray], None]) -> Callable:
    def recipe(canvas: Canvas, rng: np.random.Generator) -> None:
        land(canvas, rng, np.ones(canvas.cover.shape, dtype=bool))
        surroundings(canvas, rng)

    return recipe


RECIPES: dict[str, Callable[[Canvas, np.random.Generator], None]] = {
    "annual crops": _all_over(crops),
    "permanent crops": _all_over(orchard),
    "pasture": _all_over(pasture),
    "forest": _all_over(forest),
    "heath": _all_over(heath),
    "river": _over_countryside(river),
    "shore": _over_countryside(shore),
    "highway": _over_countryside(highway),
    "residential": _over_countryside(residential),
    "industrial": _over_countryside(industrial),
}
