"""Tiles: where each lies, what normalising, dropping and projecting leave, and orders that differ much."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minissl import augment, backend
from tests import cupy_standin


def photo(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def places(*shape: int) -> np.ndarray:
    """Images (N, H, W, 3) whose pixels hold their own image, row and column."""
    return np.stack(np.indices(shape), axis=-1).astype(np.float32)


# -- cut_tiles ---------------------------------------------------------------------------------------------------------


@given(
    st.integers(1, 5), st.integers(0, 3), st.integers(0, 3), st.integers(1, 4), st.integers(0, 9), st.integers(0, 99)
)
def test_tiles_are_whole_lie_in_order_and_never_overlap(
    size: int, jitter: int, more: int, grid: int, room: int, seed: int
) -> None:
    gap = 2 * jitter + more
    side = grid * size + (grid - 1) * gap + 2 * jitter + room
    images = places(3, side + 2, side)
    tiles = augment.cut_tiles(images, np.random.default_rng(seed), size, gap, jitter, grid)
    assert tiles.shape == (3, grid**2, size, size, 3) and tiles.dtype == np.float32
    assert (tiles[..., 0] == np.arange(3)[:, None, None, None]).all()
    first = tiles[:, :, 0, 0, 1:]  # (3, grid², 2): the row and the column at which each tile starts
    np.testing.assert_array_equal(tiles[..., 1:], first[:, :, None, None] + places(size, size))

    row, column = np.divmod(np.arange(grid**2), grid)
    moved = first - (size + gap) * np.stack([row, column], axis=1)  # by the whole grid's place, and by jitter
    assert np.ptp(moved, axis=1).max() <= 2 * jitter
    assert (
        moved.min() >= 0 and moved[..., 0].max() <= room + 2 + 2 * jitter and moved[..., 1].max() <= room + 2 * jitter
    )


def test_every_place_and_every_move_is_equally_frequent() -> None:
    size, gap, jitter, room, N = 3, 4, 2, 3, 4000
    side = 3 * size + 2 * gap + 2 * jitter + room
    first = augment.cut_tiles(places(N, side, side), np.random.default_rng(0), size, gap, jitter)[:, :, 0, 0, 1:]
    moved = first - 7 * np.stack(np.divmod(np.arange(9), 3), axis=1)  # (N, 9, 2): uniform in 0..3 plus uniform in 0..4
    expected = np.convolve(np.full(4, 1 / 4), np.full(5, 1 / 5))
    for axis in (0, 1):
        np.testing.assert_allclose(np.bincount(moved[..., axis].astype(int).ravel()) / (9 * N), expected, atol=0.01)
    apart = first[:, 1, 1] - first[:, 0, 1] - size  # between two neighbours; from no gap at all to twice the gap
    assert (apart.min(), apart.max()) == (0, 2 * gap)
    assert abs(np.corrcoef(moved[:, 0, 0], moved[:, 0, 1])[0, 1]) < 0.05  # up and left are two draws


def test_a_second_sensor_is_cut_alike() -> None:
    """Images of another size and number of channels take as many random numbers, at the same places of the image."""
    one, two = np.random.default_rng(5), np.random.default_rng(5)
    augment.cut_tiles(photo(4, 20, 20, 3), one, 4, 2, 1)
    augment.cut_tiles(photo(4, 40, 30, 13), two, 8, 2, 1)
    assert one.random() == two.random()


# -- what gives a tile's place away ------------------------------------------------------------------------------------


def test_every_tile_is_normalised_by_itself() -> None:
    tiles = photo(3, 4, 5, 6, 2) * np.arange(1, 13, dtype=np.float32).reshape(3, 4, 1, 1, 1) + 7
    found = augment.normalize_tiles(tiles)
    for n, t in itertools.product(range(3), range(4)):
        centred = tiles[n, t].astype(float) - tiles[n, t].mean(axis=(0, 1), dtype=float)
        np.testing.assert_allclose(found[n, t], centred / np.sqrt((centred**2).mean()), atol=1e-4)
    assert found.dtype == np.float32 and tiles.min() > 6  # and the tiles are not written to


def test_calm_tiles_stay_calm() -> None:
    tiles = photo(2, 9, 8, 8, 3)
    tiles[1, 2] = 0.3  # constant
    tiles[1, 3] *= 0.01  # almost
    found = augment.normalize_tiles(tiles)
    assert np.abs(found[1, 2]).max() < 1e-6
    np.testing.assert_allclose(found[1, 3].std(), tiles[1, 3].std() / 0.2, rtol=0.05)
    assert found[0].std(axis=(1, 2, 3)) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("channels", [2, 3, 13])
def test_one_channel_of_each_tile_stays_and_the_others_are_noise(channels: int) -> None:
    tiles = 5 * (photo(200, 9, 8, 8, channels) - 0.5)
    found = augment.drop_channels(tiles, np.random.default_rng(1))
    kept = (found == tiles).all(axis=(2, 3))  # (N, 9, C)
    assert found.dtype == np.float32 and (kept.sum(axis=2) == 1).all()
    np.testing.assert_allclose(kept.mean(axis=(0, 1)), 1 / channels, atol=0.05)
    assert (kept[:, 0] != kept[:, 1]).any()  # tiles of one image keep different ones
    noise = found[np.broadcast_to(~kept[:, :, None, None], found.shape)]
    assert noise.std() == pytest.approx(0.01 * tiles.std(), rel=0.02) and abs(noise.mean()) < 1e-3


def lens(count: int, axis: tuple[float, float, float]) -> np.ndarray:
    """Grey images whose pixels have moved by one to the right along the colour `axis`."""
    grey = augment.gaussian_blur(photo(count, 16, 17, 1), np.random.default_rng(0), (1, 1), 1)
    return np.where(np.array(axis) > 0, grey[:, :, :-1], grey[:, :, 1:]).astype(np.float32)


def test_projection_leaves_nothing_between_green_and_magenta() -> None:
    colors = augment.project_colors(lens(2, (-1, 1, -1)))
    np.testing.assert_allclose(colors, np.broadcast_to(colors[..., :1], colors.shape), atol=1e-6)
    a = np.array([-1, 2, -1])
    rgb = photo(2, 5, 5, 3)
    np.testing.assert_allclose(augment.project_colors(rgb) @ a, 0, atol=1e-6)
    np.testing.assert_allclose(augment.project_colors(rgb), rgb - (rgb @ a)[..., None] * a / 6, atol=1e-6)


def shift_of_green(tiles: np.ndarray) -> np.ndarray:
    """By how many pixels (-1, 0, 1) green lies to the right of red, in each tile (N, T, h, w, 3): where they agree."""
    red, green = tiles[..., 1:-1, 0], [np.roll(tiles[..., 1], -s, axis=3)[..., 1:-1] for s in (-1, 0, 1)]
    differences = [np.abs(red - g).sum(axis=(2, 3)) for g in green]
    return np.argmin(differences, axis=0) - 1


def test_a_lens_tells_where_a_tile_lies_until_channels_are_dropped_or_projected() -> None:
    """Left, middle and right of an image, told by the shift between two channels alone: right in 1 of 3 by chance."""
    N = 200
    left, middle, right = (photo(N, 1, 12, 14, 1, seed=s) - 0.5 for s in range(3))
    moved = lambda tiles, s: np.concatenate([tiles, np.roll(tiles, s, axis=3), tiles], axis=4)
    tiles = np.concatenate([moved(left, -1), moved(middle, 0), moved(right, 1)], axis=1)[:, :, :, 1:-1]
    accuracy = lambda tiles: (shift_of_green(tiles) == [-1, 0, 1]).mean()
    assert accuracy(tiles) == 1
    assert accuracy(augment.normalize_tiles(tiles)) == 1  # that is against light, not against a lens
    for defended in (augment.drop_channels(tiles, np.random.default_rng(0)), augment.project_colors(tiles)):
        assert accuracy(defended) == pytest.approx(1 / 3, abs=0.08)


# -- permutations ------------------------------------------------------------------------------------------------------


def distances(orders: np.ndarray) -> np.ndarray:
    """Hamming distances of all pairs."""
    first, second = np.triu_indices(len(orders), 1)
    return (orders[first] != orders[second]).sum(axis=1)


@pytest.mark.parametrize(("count", "least"), [(64, 7), (100, 6)])
@pytest.mark.parametrize("seed", [0, 1])
def test_nine_tiles_have_orders_far_apart(count: int, least: int, seed: int) -> None:
    orders = augment.permutations(count, np.random.default_rng(seed))
    assert orders.shape == (count, 9)
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.broadcast_to(np.arange(9), (count, 9)))
    assert distances(orders).min() == least


def test_the_largest_mean_distance_leaves_pairs_that_hardly_differ() -> None:
    """The paper's choice, for comparison: a larger mean, and a pair that differs in two places."""
    rng = np.random.default_rng(0)
    every = np.array(list(itertools.permutations(range(9))), np.int8)[rng.permutation(math.factorial(9))]
    chosen, total = [0], np.zeros(len(every), int)
    for _ in range(99):
        total += (every != every[chosen[-1]]).sum(axis=1)
        total[chosen[-1]] = -1000
        chosen.append(int(total.argmax()))
    by_mean, by_least = distances(every[chosen]), distances(augment.permutations(100, rng))
    assert by_mean.mean() > by_least.mean()
    assert by_mean.min() == 2 and by_least.min() == 6


@given(st.integers(1, 5), st.data())
def test_each_order_is_the_furthest_from_those_before(tiles: int, data: Any) -> None:
    count = data.draw(st.integers(1, math.factorial(tiles)))
    orders = augment.permutations(count, np.random.default_rng(0), tiles)
    assert len(set(map(tuple, orders.tolist()))) == count
    every = np.array(list(itertools.permutations(range(tiles))))
    for k in range(1, count):
        nearest = (every[:, None] != orders[:k]).sum(axis=2).min(axis=1)
        assert (orders[:k] != orders[k]).sum(axis=1).min() == nearest.max()


def test_orders_are_the_seeds_own() -> None:
    one, again, other = (augment.permutations(20, np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    starts = {tuple(augment.permutations(1, np.random.default_rng(s), 3)[0]) for s in range(60)}
    assert len(starts) == 6


# -- backends and mistakes ---------------------------------------------------------------------------------------------


def test_a_device_equals_the_host_and_reads_nothing_back(cupy: backend.Backend) -> None:
    images = photo(4, 20, 22, 3)

    def everything(x: Any) -> Any:
        rng = np.random.default_rng(0)
        tiles = augment.cut_tiles(augment.project_colors(x), rng, 4, 3, 1)
        return augment.drop_channels(augment.normalize_tiles(tiles), rng)

    there = cupy.to_device(images)
    cupy_standin.TRANSFERS.clear()
    found = everything(there)
    assert cupy_standin.TRANSFERS == [] and found.dtype == np.float32
    np.testing.assert_allclose(cupy.to_host(found), everything(images), atol=1e-5)


MISTAKES = {
    "too small": (lambda: augment.cut_tiles(photo(1, 64, 62, 3), np.random.default_rng(0), 14, 8, 3),
                  "3x3 tiles of 14 pixels, 8 apart and moved by up to 3, need 64 pixels a side, got images of 64x62"),
    "overlap": (lambda: augment.cut_tiles(photo(1, 64, 64, 3), np.random.default_rng(0), 9, 5, 3),
                "a gap of at least twice that, got size=9, grid=3, jitter=3, gap=5"),
    "no size": (lambda: augment.cut_tiles(photo(1, 64, 64, 3), np.random.default_rng(0), 0), "cut_tiles: .* size=0"),
    "one image": (lambda: augment.cut_tiles(photo(9, 9, 3), np.random.default_rng(0), 3), r"as images\[None\]"),
    "images": (lambda: augment.normalize_tiles(photo(4, 9, 9, 3)), r"expected tiles \(N, T, h, w, C\)"),
    "integers": (lambda: augment.drop_channels(np.zeros((1, 9, 4, 4, 3), int), np.random.default_rng(0)),
                 "drop_channels: expected floats, got int64; call to_float"),
    "13 colours": (lambda: augment.project_colors(photo(2, 9, 9, 13)), r"\(2, 9, 9, 13\); drop_channels takes"),
    "16 tiles": (lambda: augment.permutations(10, np.random.default_rng(0), 16), "1 to 9 tiles, .* got tiles=16"),
    "7 of 6": (lambda: augment.permutations(7, np.random.default_rng(0), 3), "got tiles=3, count=7"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call()
