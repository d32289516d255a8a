"""Relative patch and jigsaw: what would give the answers away does so without the guard, and does not with it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minissl import augment, backend, evaluation, random, viz
from minissl.data import DataSet, scenes
from minissl.tensor import Tensor
from minissl.viz import RIGHT, WRONG
from reference.method import Inputs, Method
from reference.pretext.jigsaw import Jigsaw, shuffled
from reference.pretext.relative_patch import FIRST, PLACE, PLACES, SECOND, RelativePatch, mosaic
from reference.trainer import make_optimizer

N = 8
SMALL: dict[str, Any] = {"batch_size": N, "width": 4, "embedding": 16, "hidden": 32}
TINY = {RelativePatch: {"image_size": 32, "patch": 12}, Jigsaw: {"image_size": 32, "tile": 9, "orders": 6}}
NO_GAP = {"gap": 0.0, "jitter": 0.0}


@pytest.fixture(scope="module")
def data() -> DataSet:
    return scenes.generate(2 * N, 32)


def make(chapter: type[Method], data: DataSet, **settings: Any) -> Any:
    random.seed(0)
    config = chapter.settings(**SMALL | settings)
    return chapter(config, Inputs(data.channels, *augment.channel_statistics(data["images"]), data.classes))


def tiny(chapter: type[Method], data: DataSet, **settings: Any) -> Any:
    return make(chapter, data, **TINY[chapter] | settings)


def cut(method: Any, data: DataSet) -> np.ndarray:
    return method.cut(method.raw({"images": data["images"]}), np.random.default_rng(0))


# -- lines that go on over a border ------------------------------------------------------------------------------------

SIDES = [PLACES.index(side) for side in ("above", "left", "right", "below")]


def by_border(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The side on which each second patch continues the first (N, h, w, C): where the lines of pixels that would touch
    differ least.
    """
    touching = [
        (first[:, 0], second[:, -1]),
        (first[:, :, 0], second[:, :, -1]),
        (first[:, :, -1], second[:, :, 0]),
        (first[:, -1], second[:, 0]),
    ]
    return np.array(SIDES)[np.argmin([np.abs(a - b).mean(axis=(1, 2)) for a, b in touching], axis=0)]


def test_borders_give_the_place_away_until_there_are_gap_and_jitter() -> None:
    """Of four sides; on 300 scenes a standard error of 1 point."""
    data = scenes.generate(300, 64)
    found = {}
    for name, settings in {"touching": NO_GAP, "guarded": {}}.items():
        patches = cut(make(RelativePatch, data, **settings), data)
        questions = [q for q in range(16) if PLACE[q] in SIDES]
        answers = [by_border(patches[:, FIRST[q]], patches[:, SECOND[q]]) == PLACE[q] for q in questions]
        found[name] = np.mean(answers)
    assert found["touching"] > 0.8
    assert found["guarded"] < 0.35


def test_borders_give_the_order_away_until_there_are_gap_and_jitter(tmp_path: Path) -> None:
    data = scenes.generate(150, 64)
    found = {}
    for name, settings in {"touching": NO_GAP, "guarded": {}}.items():
        method = make(Jigsaw, data, **settings)
        found[name] = method.eval().measure({"test": data}, tmp_path)["orders told right by the borders of tiles"]
    assert found["touching"] > 0.75
    assert found["guarded"] < 0.4


def test_jigsaw_has_a_random_gap_on_every_border(data: DataSet) -> None:
    """Pixels that hold their own column: how far the first column of a tile is from the last of the one before."""
    method = tiny(Jigsaw, data, tile=8, gap=0.25, jitter=0.125)
    images = np.broadcast_to(np.arange(32, dtype=np.float32)[:, None], (200, 32, 32, 1))
    tiles = method.cut(images, np.random.default_rng(0))
    gaps = tiles[:, [1, 2, 4, 5, 7, 8], 0, 0, 0] - tiles[:, [0, 1, 3, 4, 6, 7], 0, -1, 0] - 1
    assert set(gaps.ravel()) == {0, 1, 2, 3, 4}
    assert (gaps.std(axis=0) > 0.5).all()


# -- light that falls off over the image -------------------------------------------------------------------------------


def lit(count: int, side: int, seed: int = 0) -> DataSet:
    """Noise under light that grows to the right, and thrice as much to the bottom; by equal factors over equal ways, so
    that all that a tile has of it is its mean and its deviation.
    """
    noise = np.random.default_rng(seed).random((count, side, side, 3), dtype=np.float32)
    down, right = np.mgrid[:side, :side].astype(np.float32)[..., None] / side
    return DataSet({"images": 0.25 * np.exp(0.3 * right + 0.9 * down) * (0.6 + 0.4 * noise)})


def by_rank(values: np.ndarray) -> np.ndarray:
    """The place of each of nine tiles, where `values` (N, 9) grow from the first to the last."""
    unsure = np.random.default_rng(0).normal(0, 1e-3, values.shape)  # equal ones must not be in order by themselves
    return (values + unsure).argsort(axis=1).argsort(axis=1)


def test_mean_and_deviation_give_the_order_away_until_tiles_are_normalised() -> None:
    images = lit(200, 64)
    for normalize, expected in ((False, 1), (True, 1 / 9)):
        method = make(Jigsaw, images, normalize=normalize)
        tiles = method.guarded(cut(method, images))
        for values in (tiles.mean(axis=(2, 3, 4)), tiles.std(axis=(2, 3, 4))):
            accuracy = (by_rank(values) == np.arange(9)).mean()
            assert accuracy == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("chapter", [RelativePatch, Jigsaw])
def test_a_network_takes_that_hint_and_cannot_when_tiles_are_normalised(chapter: type[Method], tmp_path: Path) -> None:
    found = {}
    for normalize in (False, True):
        method = tiny(chapter, lit(N, 32), normalize=normalize, turns=False, learning_rate=0.05)
        optimizer, rng = make_optimizer(method, method.config), np.random.default_rng(1)
        for step in range(80):  # never the same image again, or it would be learned by heart
            views = method.views({"images": lit(N, 32, seed=step)["images"]}, rng)
            method.training_step(views, optimizer)
        found[normalize], *_ = method.eval().measure({"test": lit(100, 32, seed=99)}, tmp_path).values()
    assert found[False] > 0.9
    assert found[True] < 0.25


# -- a lens that parts colours -----------------------------------------------------------------------------------------


def through_a_lens(count: int) -> DataSet:
    """Grey noise whose green has moved by one pixel away from the middle, to the left and to the right."""
    grey = np.random.default_rng(0).random((count, 64, 66, 1), dtype=np.float32)
    green = np.concatenate([grey[:, :, 2:34], grey[:, :, 32:64]], axis=2)
    return DataSet({"images": np.concatenate([grey[:, :, 1:-1], green, grey[:, :, 1:-1]], axis=3)})


def by_shift(patches: np.ndarray) -> np.ndarray:
    """Whether a patch (N, T, h, w, 3) lies on the right: whether its green does, against its red."""
    red, green = patches[..., 1:-1, 0], patches[..., 1]
    to_left, to_right = (np.abs(red - g).sum(axis=(2, 3)) for g in (green[..., :-2], green[..., 2:]))
    return to_right < to_left


@pytest.mark.parametrize(("colors", "expected"), [("keep", 1), ("drop", 0.5), ("project", 0.5)])
def test_a_lens_gives_the_side_away_until_channels_are_dropped_or_projected(colors: str, expected: float) -> None:
    images = through_a_lens(200)
    method = make(RelativePatch, images, colors=colors)
    patches = method.guarded(cut(method, images), np.random.default_rng(1))
    assert (by_shift(patches) == [False, True, False, True]).mean() == pytest.approx(expected, abs=0.06)


# -- questions and answers ---------------------------------------------------------------------------------------------


def test_the_second_patch_lies_where_the_answer_says(data: DataSet) -> None:
    """Pixels that hold their own row and column, and the eight places from their names."""
    method = tiny(RelativePatch, data)
    down, right = np.mgrid[:32, :32].astype(np.float32)
    start = method.cut(np.stack([down, right, right], axis=2)[None], np.random.default_rng(0))[0, :, 0, 0, :2]  # (4, 2)
    for first, second, place in zip(FIRST, SECOND, PLACE, strict=True):
        steps = np.rint((start[second] - start[first]) / 18)  # of a patch and a gap
        name = {-1: "upper ", 0: "", 1: "lower "}[steps[0]] + {-1: "left", 0: "", 1: "right"}[steps[1]]
        assert PLACES[place] == {"upper ": "above", "lower ": "below"}.get(name, name)
    assert np.bincount(PLACE).tolist() == [2] * 8  # no place is the better guess
    asked = set(zip(FIRST, SECOND, PLACE.tolist(), strict=True))
    assert all((second, first, 7 - place) in asked for first, second, place in asked)  # both ways round


def test_orders_are_far_apart_and_in_the_checkpoint(data: DataSet) -> None:
    method = make(Jigsaw, data)
    orders = method.orders.data
    first, second = np.triu_indices(len(orders), 1)
    assert (orders[first] != orders[second]).sum(axis=1).min() >= 7
    random.seed(1)
    other = Jigsaw(method.config, method.inputs)
    assert (other.orders.data != orders).any()
    other.load_state_dict(method.state_dict())
    np.testing.assert_array_equal(other.orders.data, orders)


def test_shuffled_lays_tile_order_i_at_place_i() -> None:
    tiles = np.random.default_rng(0).random((2, 9, 3)).astype(np.float32)
    order = np.array([[np.random.default_rng(n + p).permutation(9) for p in range(4)] for n in range(2)])  # (2, 4, 9)
    for found in (shuffled(tiles, order), shuffled(Tensor(tiles), order).data):
        assert found.shape == (2, 4, 9, 3)
        for n in range(2):
            for p in range(4):
                np.testing.assert_array_equal(found[n, p], tiles[n][order[n, p]])


@pytest.mark.parametrize("chapter", [RelativePatch, Jigsaw])
def test_the_tower_sees_each_tile_alone(chapter: type[Method], data: DataSet) -> None:
    """Its features have no derivative by any other tile (but in training, where BatchNorm shares statistics)."""
    method = tiny(chapter, data).eval()
    [tiles, *_] = method.views({"images": data["images"][:2]}, random.seed(1))
    x = Tensor(tiles, requires_grad=True)
    N, T, h, w, C = x.shape
    z = method.embed(method.encoder.features(x.reshape(N * T, h, w, C), "layer4")).reshape(N, T, -1)
    z[0, 1].sum().backward()
    assert np.abs(x.grad[0, 1]).max() > 0
    x.grad[0, 1] = 0
    assert not x.grad.any()


def test_shuffling_tiles_is_shuffling_their_features(data: DataSet) -> None:
    """So the loss of an image's P puzzles, from one pass of its tiles, is that of the puzzles themselves."""
    method = tiny(Jigsaw, data).eval()
    tiles, y = method.views({"images": data["images"][:4]}, random.seed(1))
    losses = []
    for n in range(4):
        for p in range(method.config.puzzles):
            puzzle = tiles[n][method.orders.data[y[n, p]]]
            logits = method.order(method(Tensor(puzzle[None]))).data[0].astype(float)
            losses.append(np.log(np.exp(logits).sum()) - logits[y[n, p]])
    assert method.loss((tiles, y)).item() == pytest.approx(np.mean(losses), rel=1e-4)


@pytest.mark.parametrize(("chapter", "answers"), [(RelativePatch, 8), (Jigsaw, 6)])
def test_guessing_is_the_level_in_the_curve(
    chapter: type[Method], answers: int, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = tiny(chapter, data)
    monkeypatch.setattr(method, "compare", lambda z: Tensor(np.ones((len(z), answers), np.float32)))
    [guessing] = method.references.values()
    loss = method.loss(method.views({"images": data["images"][:N]}, random.seed(1))).item()
    assert loss == pytest.approx(guessing) and guessing == math.log(answers)


# -- both chapters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chapter", [RelativePatch, Jigsaw])
def test_a_step_draws_from_its_own_generator(chapter: type[Method], data: DataSet) -> None:
    method, batch = tiny(chapter, data), {"images": data["images"][:N]}
    one, again, other = (method.views(batch, random.seed(s)) for s in (1, 1, 2))
    for a, b, c in zip(one, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()


@pytest.mark.parametrize("channels", [1, 3, 13])
@pytest.mark.parametrize(("chapter", "picture"), [(RelativePatch, "places.png"), (Jigsaw, "solved.png")])
def test_pictures_and_figures(chapter: type[Method], picture: str, channels: int, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (N, 32, 32, channels), np.uint8)
    labels = {"labels": np.arange(N) % 2} if channels == 3 else {}
    data = DataSet({"images": images, **labels}, ("wood", "field") if labels else ())
    method = tiny(chapter, data)
    shown = method.shown(method.views({"images": images}, random.seed(1)))
    assert shown and all(np.isfinite(row).all() and len(row) == N for row in shown.values())
    measured = method.eval().measure({"test": data}, tmp_path)
    assert all(0 <= value <= 1 for value in measured.values())
    assert [file.name for file in tmp_path.iterdir()] == [picture]
    features = evaluation.extract(method.encoder, images, method.prepare)
    assert features.shape == (N, method.encoder.out_features)


@pytest.mark.parametrize("right", [True, False])
def test_tiles_are_drawn_where_the_answer_puts_them(
    right: bool, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, drawn = tiny(Jigsaw, data).eval(), []
    monkeypatch.setattr(viz, "image_grid", lambda rows, *titles, **more: drawn.extend(rows))
    y = np.arange(10) % 6
    monkeypatch.setattr(Jigsaw, "solve", lambda self, z, rng: (y[: len(z)], (y if right else 5 - y)[: len(z)]))
    method.draw(data, np.ones(len(data), bool), Path("nowhere"))

    images, puzzles, solved = map(np.stack, drawn)
    tiles = method.cut(images, random.seed(method.config.seed))
    in_place = np.stack([mosaic(list(nine), [RIGHT] * 9) for nine in tiles])
    assert (puzzles != solved).any()
    if right:
        np.testing.assert_array_equal(solved, in_place)
    else:
        frames = solved.reshape(-1, 3, 13, 3, 13, 3)[:, :, 1, :, 1]  # (n, 3, 3, colour): a pixel of each tile's frame
        assert (np.isclose(frames, WRONG).all(axis=3).sum(axis=(1, 2)) >= 7).all()


@pytest.mark.parametrize("chapter", [RelativePatch, Jigsaw])
def test_the_same_step_on_both_backends(
    chapter: type[Method], cupy: backend.Backend, data: DataSet, tmp_path: Path
) -> None:
    found = []
    for place in ("numpy", "cupy"):
        with backend.use(place):
            method = tiny(chapter, data, learning_rate=1e-3)
            views = method.views({"images": data["images"][:N]}, random.seed(1))
            logged = method.training_step(views, make_optimizer(method, method.config))
            found.append([*logged.values(), *method.eval().measure({"test": data}, tmp_path).values()])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4)


@pytest.mark.parametrize(
    ("chapter", "settings", "message"),
    [
        (RelativePatch, {"patch": 30}, "cut_tiles: 2x2 tiles of 30 pixels, 15 apart .*, got images of 32x32"),
        (RelativePatch, {"gap": 0.1, "jitter": 0.1}, "a gap of at least twice that"),
        (Jigsaw, {"tile": 12}, "cut_tiles: 3x3 tiles of 12 pixels, .*, got images of 32x32; take smaller tiles"),
    ],
)
def test_tiles_that_do_not_fit_are_named(
    chapter: type[Method], settings: dict[str, Any], message: str, data: DataSet
) -> None:
    method = tiny(chapter, data, **settings)
    with pytest.raises(ValueError, match=message):
        method.views({"images": data["images"][:N]}, random.seed(1))
