"""Tiles of an image, for puzzles of its parts: where they lie, and what must not give their places away.

A network that is asked where a tile lies takes the cheapest hint there is. Lines that go on from one tile into the
next: leave gaps between the tiles, and move each at random (`cut_tiles`). Light that falls off over the image: give
each tile mean 0 and deviation 1 (`normalize_tiles`). A lens that parts the colours more and more from its centre
outwards: leave one channel (`drop_channels`), or only the colours that it does not part (`project_colors`).
"""

from math import factorial

from minissl import backend
from minissl.augment.arguments import Generator, checked
from minissl.backend import Array, Backend

LENS = (-1, 2, -1)  # green against red and blue: the axis along which a simple lens parts the colours


def cut_tiles(images: Array, rng: Generator, size: int, gap: int = 0, jitter: int = 0, grid: int = 3) -> Array:
    """A grid of tiles of each image (N, H, W, C), row by row: (N, grid², size, size, C).

    Neighbours are `gap` pixels apart. The grid lies anywhere in its image; then each tile is moved by up to `jitter`
    pixels, up or down and left or right, so that the gap between two tiles varies by twice as much. Raises ValueError
    where the image is too small, and where the gap is too small for the jitter, so that tiles could overlap.

    (Doersch et al., 2015: tiles of 96 pixels, gap 48, jitter 7. Noroozi and Favaro, 2016: tiles of 64 pixels, each
    anywhere in its cell of 75, which is gap 11 and jitter 5 here)
    """
    place, images = checked("cut_tiles", images)
    xp, (N, H, W, _) = place.xp, images.shape
    if size < 1 or grid < 1 or jitter < 0 or gap < 2 * jitter:
        raise ValueError(
            "cut_tiles: expected size and grid of 1 or more, a jitter of 0 or more, and a gap of at least twice that, "
            f"got size={size}, grid={grid}, jitter={jitter}, gap={gap}"
        )
    pitch = size + gap
    extent = (grid - 1) * pitch + size + 2 * jitter
    if extent > min(H, W):
        raise ValueError(
            f"cut_tiles: {grid}x{grid} tiles of {size} pixels, {gap} apart and moved by up to {jitter}, need {extent} "
            f"pixels a side, got images of {H}x{W}; take smaller tiles, or larger images"
        )

    def pixels(side: int, index: Array) -> Array:
        """Along one side, the pixels of every tile (N, grid², size); `index` is the tile's row or column."""
        start = (rng.random((N, 1)) * (side - extent + 1)).astype(int)
        moved = (rng.random((N, grid**2)) * (2 * jitter + 1)).astype(int)
        first = place.to_device(start + moved) + pitch * index  # (N, grid²)
        return first[:, :, None] + xp.arange(size)

    order = xp.arange(grid**2)
    rows, columns = pixels(H, order // grid), pixels(W, order % grid)
    return images[xp.arange(N)[:, None, None, None], rows[:, :, :, None], columns[:, :, None, :]]


def normalize_tiles(tiles: Array, least: float = 0.2) -> Array:
    """Each tile (N, T, h, w, C), of standardised images, without its own mean colour, and with deviation 1.

    The deviation is one number for all channels, which keeps their ratios. Tiles that deviate by less than `least`
    are divided by that: calm water or a bare field would become the noise of the sensor, as large as life.
    """
    xp = checked_tiles("normalize_tiles", tiles).xp
    centred = tiles - tiles.mean(axis=(2, 3), keepdims=True)
    deviation = xp.sqrt((centred**2).mean(axis=(2, 3, 4), keepdims=True))  # (N, T, 1, 1, 1)
    return centred / xp.maximum(deviation, least)


def drop_channels(tiles: Array, rng: Generator) -> Array:
    """Of each tile (N, T, h, w, C) one channel is kept, and noise takes the place of the others.

    One channel alone does not tell how far a lens has shifted it against the others. The noise has mean 0, as tiles
    should have, and a hundredth of the deviation of what is kept (Doersch et al., 2015).
    """
    place = checked_tiles("drop_channels", tiles)
    xp, (N, T, _, _, C) = place.xp, tiles.shape
    kept = place.to_device((rng.random((N, T)) * C).astype(int))[:, :, None, None, None]
    deviation = xp.take_along_axis(tiles.std(axis=(2, 3), keepdims=True), kept, 4)  # (N, T, 1, 1, 1)
    noise = place.to_device(rng.standard_normal(tiles.shape, dtype="float32"))
    return xp.where(xp.arange(C) == kept, tiles, 0.01 * deviation * noise)


def project_colors(images: Array) -> Array:
    """Pixels (..., 3) without their part along a = (−1, 2, −1):  x B,  B = I − aᵀa / aaᵀ  (Doersch et al., 2015).

    A lens that shifts green against red and blue leaves no trace between the channels of what remains.
    """
    xp = backend.of(images).xp
    if images.shape[-1:] != (3,):
        raise ValueError(
            f"project_colors: expected red, green and blue on the last axis, got shape {images.shape}; "
            "drop_channels takes any number of channels"
        )
    a = xp.asarray(LENS, images.dtype)
    return images @ (xp.eye(3, dtype=images.dtype) - xp.outer(a, a) / (a @ a))


def permutations(count: int, rng: Generator, tiles: int = 9) -> Array:
    """`count` orders of the tiles that are hard to mistake for each other: (count, tiles) integers on the host.

    The distance of two orders (Hamming's) is the number of places that hold different tiles. Each order is that which
    is furthest from the one it is nearest to among those before it (max-min); the first and all ties are random. Of 9
    tiles, 64 orders then have distances of at least 7, and 100 of at least 6. Noroozi and Favaro (2016) take the order
    with the largest mean distance instead, which does not mind a pair that differs in two places only.

    Raises ValueError for more than 9 tiles, of which there are too many orders to go through, or more than tiles!.
    """
    if not 1 <= tiles <= 9 or not 1 <= count <= factorial(tiles):
        raise ValueError(
            f"permutations: expected 1 to 9 tiles, and a count from 1 to the number of their orders, got "
            f"tiles={tiles}, count={count}"
        )
    seen = rng.permutation(factorial(tiles))
    xp = backend.of(seen).xp  # the host's
    every = xp.zeros((0, 1), "int8")  # (tiles, tiles!): all orders, as columns
    for n in range(tiles):  # tile n may stand before, between and after those in place
        new = xp.full((1, every.shape[1]), n, "int8")
        every = xp.concatenate([xp.concatenate([every[:i], new, every[i:]]) for i in range(n + 1)], 1)
    every = xp.take(every, seen, 1)

    chosen = [0]
    nearest = xp.full(every.shape[1], tiles + 1, "int8")  # of each order, the distance to the nearest one chosen
    while len(chosen) < count:
        distance = (every != every[:, chosen[-1:]]).sum(axis=0, dtype="int8")
        nearest = xp.minimum(nearest, distance)
        chosen.append(int(nearest.argmax()))
    return every[:, chosen].T.astype(int)


def checked_tiles(name: str, tiles: Array) -> Backend:
    """The backend that holds `tiles`. Raises ValueError or TypeError unless they are floats (N, T, h, w, C)."""
    if tiles.ndim != 5 or 0 in tiles.shape:
        raise ValueError(f"{name}: expected tiles (N, T, h, w, C) with nothing empty, got shape {tiles.shape}")
    if tiles.dtype.kind != "f":
        raise TypeError(f"{name}: expected floats, got {tiles.dtype}; call to_float on the images first")
    return backend.of(tiles)
