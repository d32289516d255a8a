"""Geometry people and rivers leave on the ground: parcels in rows, irregular cells, and curves across a scene.

Every shape answers two questions for each place at once: which parcel is this (a number in [0, 1), drawn per parcel),
and how far is it to the nearest border. Fields, hedges, streets, houses and river banks are all read off these two.
All lengths are in pixels of 10 m.
"""

import numpy as np


def turn(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """The coordinates along and across a direction `angle` (radians)."""
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cosine * x + sine * y, cosine * y - sine * x


def parcels_in_rows(
    rng: np.random.Generator, along: np.ndarray, across: np.ndarray, length: float, width: float, vary: float = 0.4
) -> tuple[np.ndarray, np.ndarray]:
    """Rectangles laid in rows, like fields, city blocks and roofs: (parcel number, distance to its border).

    Rows differ in width, and parcels of one row in length from those of the next, by up to the fraction `vary`.
    """
    reach = float(max(np.abs(along).max(), np.abs(across).max())) + width
    rows = int(2 * reach / (width * (1 - vary))) + 2
    borders = np.cumsum(width * rng.uniform(1 - vary, 1 + vary, rows), dtype=np.float32) - reach - width
    row = np.clip(np.searchsorted(borders, across.ravel()).reshape(across.shape), 1, rows - 1)
    lengths = (length * rng.uniform(1 - vary, 1 + vary, rows)).astype(np.float32)
    shift = rng.uniform(0, 1, rows).astype(np.float32) + np.float32(reach / (length * (1 - vary)) + 1)
    place = along / lengths[row] + shift[row]
    column = place.astype(np.int32)
    number = rng.random((rows, int(column.max()) + 1), dtype=np.float32)[row, column]
    fraction = place - column
    to_ends = np.minimum(fraction, 1 - fraction) * lengths[row]
    to_sides = np.minimum(across - borders[row - 1], borders[row] - across)
    return number, np.minimum(to_ends, to_sides)


def irregular_cells(
    rng: np.random.Generator, x: np.ndarray, y: np.ndarray, spacing: float
) -> tuple[np.ndarray, np.ndarray]:
    """Voronoi cells of scattered points, like pastures and forest stands: (cell number, distance to its border).

    One point falls at random in every square of side `spacing`, so the nearest is found among nine squares.
    """
    column_place, row_place = (x - x.min()) / spacing + 1, (y - y.min()) / spacing + 1
    columns, rows = int(column_place.max()) + 2, int(row_place.max()) + 2
    home = row_place.astype(np.int32) * columns + column_place.astype(np.int32)  # the square a place lies in
    point_x, point_y, numbers = rng.random((3, rows * columns), dtype=np.float32)
    point_x += np.tile(np.arange(columns, dtype=np.float32), rows)
    point_y += np.repeat(np.arange(rows, dtype=np.float32), columns)
    nearest = np.full(x.shape, np.inf, dtype=np.float32)  # squared distance
    second, owner = nearest.copy(), home.copy()
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            neighbour = home + np.int32(down * columns + right)
            distance = (point_x.take(neighbour) - column_place) ** 2 + (point_y.take(neighbour) - row_place) ** 2
            second = np.minimum(second, np.maximum(nearest, distance))
            np.copyto(owner, neighbour, where=distance < nearest)
            nearest = np.minimum(nearest, distance)
    return numbers[owner], (np.sqrt(second) - np.sqrt(nearest)) * np.float32(spacing / 2)


def distance_to_curve(
    rng: np.random.Generator, x: np.ndarray, y: np.ndarray, bend: float, wavelength: float, offset: float
) -> np.ndarray:
    """Signed distance to a winding line through the scene in a random direction, passing `offset` from its centre.

    The line is c(u) = offset + Σ bendₖ · sin(2πu/λₖ + φₖ), and v − c the distance measured across it; divided by
    √(1 + c′²) it is the distance to the tangent, so that a river keeps its width in a bend.
    """
    along, across = turn(x, y, rng.uniform(0, 2 * np.pi))
    centre, slope = np.full_like(along, offset), np.zeros_like(along)
    for strength, scale in ((0.8, 1.0), (0.2, 0.5)):
        phase = rng.uniform(0, 2 * np.pi)
        wave = 2 * np.pi / (wavelength * scale * rng.uniform(0.8, 1.25))
        centre += np.float32(bend * strength) * np.sin(np.float32(wave) * along + np.float32(phase))
        slope += np.float32(bend * strength * wave) * np.cos(np.float32(wave) * along + np.float32(phase))
    return (across - centre) / np.sqrt(1 + slope**2)
