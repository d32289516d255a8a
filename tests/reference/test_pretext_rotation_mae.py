"""Rotation: turns that leave no trace, and the sun that does. MAE: what its loss counts and what it paints."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minissl import augment, backend, evaluation, random, viz
from minissl.data import DataSet, scenes
from minissl.models.mae import patchify
from minissl.tensor import Tensor
from reference.method import Inputs, Method
from reference.pretext import mae, rotation
from reference.pretext.mae import MAE
from reference.pretext.rotation import Rotation, all_turns
from reference.trainer import make_optimizer

N = 16
SMALL: dict[type[Method], dict[str, Any]] = {
    Rotation: {"width": 4},
    MAE: {"patch": 4, "width": 16, "depth": 2, "heads": 2, "decoder_width": 8},
}


@pytest.fixture(scope="module")
def data() -> DataSet:
    return scenes.generate(N, 16)


def noise(channels: int) -> DataSet:
    return DataSet({"images": np.random.default_rng(0).integers(0, 256, (N, 16, 16, channels), np.uint8)})


def make(chapter: type[Method], pictures: DataSet, **settings: Any) -> Any:
    random.seed(0)
    config = chapter.settings(**{"image_size": 16, "batch_size": N} | SMALL[chapter] | settings)
    inputs = Inputs(pictures.channels, *augment.channel_statistics(pictures["images"]), pictures.classes)
    return chapter(config, inputs)


def first_views(method: Method, data: DataSet) -> tuple[Any, ...]:
    return method.views({"images": data["images"][:N]}, random.seed(1))


# -- rotation ---------------------------------------------------------------------------------------------------------


def test_turns_move_pixels_and_change_none() -> None:
    numbers = np.arange(2 * 5 * 5 * 3).reshape(2, 5, 5, 3)
    x, r = all_turns(numbers)
    assert r.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    np.testing.assert_array_equal(x[:2], numbers)
    for before, after in zip(x[:-2], x[2:], strict=True):  # each a quarter further, counter-clockwise
        for i in range(5):
            for j in range(5):
                np.testing.assert_array_equal(after[4 - j, i], before[i, j])


def careless_turns(images: np.ndarray) -> np.ndarray:
    """Turns about the pixel (H/2, W/2), which lies half a pixel beside the middle: a row or column remains unfilled."""
    H = images.shape[1]
    i, j = np.meshgrid(np.arange(H), np.arange(H), indexing="ij")
    turned = []
    for y, x in ((i, j), (j, H - i), (H - i, H - j), (H - j, i)):
        inside = ((y < H) & (x < H))[..., None]
        turned.append(np.where(inside, images[:, y.clip(0, H - 1), x.clip(0, H - 1)], 0))
    return np.concatenate(turned)


def read_border(turned: np.ndarray) -> np.ndarray:
    """The turn, from nothing but whether the first row and the first column are empty."""
    row, column = turned[:, 0, 1:].any(axis=(1, 2)), turned[:, 1:, 0].any(axis=(1, 2))
    return np.where(row, np.where(column, 0, 3), np.where(column, 1, 2))


def test_a_border_that_is_not_filled_would_solve_the_task(data: DataSet) -> None:
    images = data["images"].astype("float32") + 1
    x, r = all_turns(images)
    assert (read_border(careless_turns(images)) == r).all()
    assert (read_border(x) == r).mean() == 0.25


def light_axis(images: np.ndarray) -> np.ndarray:
    """(N,): whether brightness changes more from north-west to south-east than from north-east to south-west."""
    brightness = images.mean(axis=-1, dtype="float32")
    eastward = brightness[:, 1:-1, 2:] - brightness[:, 1:-1, :-2]
    southward = brightness[:, 2:, 1:-1] - brightness[:, :-2, 1:-1]
    return (eastward * southward).mean(axis=(1, 2)) > 0


@pytest.mark.parametrize(("sun", "low", "high"), [("fixed", 0.68, 1.0), ("random", 0.4, 0.6)])
def test_the_sun_gives_the_turn_away(sun: scenes.Sun, low: float, high: float) -> None:
    """One number of an image tells, under a fixed sun, turns by 0 and 180 from those by 90 and 270 degrees."""
    x, r = all_turns(scenes.generate(200, 32, sun=sun)["images"])
    assert low < (light_axis(x) == (r % 2 == 0)).mean() < high


def test_the_chapter_opens_scenes_under_the_sun_that_is_asked_for() -> None:
    found = Rotation.open_data(rotation.Config(scenes=10, image_size=16, sun="random"))
    np.testing.assert_array_equal(found["images"], scenes.generate(10, 16, sun="random")["images"])
    with pytest.raises(ValueError, match="--sun random: only generated scenes have a sun to choose, 'eurosat' has its"):
        rotation.Config(data="eurosat", sun="random")


def test_images_with_an_up_are_learned() -> None:
    """Noise under a bright sky: a few steps, and most turns of other such images are told; chance gives 0.25."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 100, (2 * N, 16, 16, 1), np.uint8)
    images[:, :6] += 100
    method = make(Rotation, DataSet({"images": images}), crop=1.0)
    optimizer = make_optimizer(method, method.config)
    for step in range(30):
        method.training_step(method.views({"images": images[:N]}, random.seed(step)), optimizer)
    assert rotation.accuracy(method.eval().answers(images[N:])) > 0.8


def test_scenes_are_measured_under_every_sun(tmp_path: Path) -> None:
    method = make(Rotation, scenes.generate(N, 16), scenes=40).eval()
    test = Rotation.open_data(method.config).part("test")
    measured = method.measure({"test": test}, tmp_path)
    assert list(measured) == [f"turns told right, sun {sun}" for sun in ("orbit", "fixed", "random")]
    assert measured["turns told right, sun fixed"] == rotation.accuracy(method.answers(test["images"]))


def test_the_frames_bar_is_on_the_side_of_the_answer() -> None:
    image = np.full((8, 8, 1), 0.5)
    for answer in range(4):
        frame = np.rot90(rotation.framed(np.rot90(image, 1), answer, 1), -answer)  # turned back: the bar is on top
        np.testing.assert_array_equal(frame[3:-3, 3:-3], np.broadcast_to(image, (8, 8, 3)))
        np.testing.assert_array_equal(frame[0, 3], viz.RIGHT if answer == 1 else viz.WRONG)
        assert (frame[-1] == 1).all() and (frame[:, 0] == 1).all() and (frame[:, -1] == 1).all()


def test_squares_are_cut_out_as_they_are() -> None:
    images = np.arange(300 * 6 * 6).reshape(300, 6, 6, 1)
    squares = rotation.random_squares(images, 0.5, np.random.default_rng(0))
    top, left = np.divmod(squares[:, 0, 0, 0] - images[:, 0, 0, 0], 6)
    assert {*top} == {*left} == {0, 1, 2, 3}
    for n in range(300):
        np.testing.assert_array_equal(squares[n], images[n, top[n] : top[n] + 3, left[n] : left[n] + 3])
    np.testing.assert_array_equal(rotation.random_squares(images, 1.0, np.random.default_rng(0)), images)


@pytest.mark.parametrize(("width", "part"), [(6, 0.5), (4, 0.0), (4, 1.5)])
def test_images_and_squares_that_do_not_go_together_are_named(width: int, part: float) -> None:
    with pytest.raises(ValueError, match=r"rotation: expected square images and --crop from 0 to 1, got \(2, 4, "):
        rotation.random_squares(np.ones((2, 4, width, 3)), part, np.random.default_rng(0))


# -- MAE --------------------------------------------------------------------------------------------------------------


def prediction(method: MAE, values: np.ndarray) -> None:
    """Make the decoder predict these values, whatever it is given."""
    method.mae.decode = lambda tokens, restore: Tensor(values)  # type: ignore[method-assign]


def test_the_loss_counts_hidden_patches_of_the_normalised_image(data: DataSet) -> None:
    method = make(MAE, data)
    x, _, _, mask = views = first_views(method, data)
    t = patchify(x, 4).data.astype("float64")  # (N, 16, 48)
    p = np.random.default_rng(0).normal(size=t.shape)
    prediction(method, p)
    errors = []
    for n, l in np.argwhere(mask == 1):
        variance = ((t[n, l] - t[n, l].mean()) ** 2).sum() / (t.shape[2] - 1)
        errors.append(((p[n, l] - (t[n, l] - t[n, l].mean()) / (variance + 1e-6) ** 0.5) ** 2).mean())
    assert len(errors) == N * 12
    assert method.loss(views).item() == pytest.approx(np.mean(errors), rel=1e-5)

    prediction(method, np.where(mask[..., None] == 0, 99.0, p))
    assert method.loss(views).item() == pytest.approx(np.mean(errors), rel=1e-5)


def test_one_colour_a_patch_gives_the_reference(data: DataSet) -> None:
    method = make(MAE, data, crop=1.0)
    prediction(method, np.zeros((N, 16, 48)))
    assert [method.loss(first_views(method, data)).item()] == pytest.approx(list(method.references.values()), rel=1e-3)


def test_the_exact_prediction_is_painted_as_the_image_and_others_only_where_hidden(data: DataSet) -> None:
    method = make(MAE, data)
    x = method.prepare(data["images"])
    _, _, mask = method.masks(N, 0.75, random.seed(0))
    t = patchify(x, 4)
    exact = mae.paste(mae.normalize_patches(t), t, mask)
    np.testing.assert_allclose(exact.data, t.data, atol=1e-5)
    flat = mae.paste(Tensor(np.zeros(t.shape)), t, mask).data
    np.testing.assert_allclose(flat[mask == 1].std(axis=1), 0, atol=1e-6)
    np.testing.assert_array_equal(flat[mask == 0], t.data[mask == 0])


def test_what_is_shown_is_what_the_encoder_sees(data: DataSet) -> None:
    method = make(MAE, data, crop=1.0, turns=False)
    views = first_views(method, data)
    [shown] = method.shown(views).values()
    hidden = np.isnan(shown)
    assert hidden.mean() == 0.75
    np.testing.assert_allclose(shown[~hidden], (data["images"] / 255)[~hidden], atol=1e-6)
    np.testing.assert_array_equal(patchify(hidden.astype(float), 4).data.all(axis=-1), views[-1] == 1)


def test_the_same_masks_measure_a_network_again_and_a_higher_ratio_hides_more(data: DataSet) -> None:
    method = make(MAE, data)
    assert method.error(data["images"], 0.5) == method.error(data["images"], 0.5)
    less, more = (method.painted(data["images"], ratio)[0] for ratio in (0.5, 0.9))
    assert np.isnan(less).mean() == 0.5 and np.isnan(more).mean() == 14 / 16
    assert np.isnan(more[np.isnan(less)]).all()


def test_adamw_forgets_as_mae_has_it(data: DataSet) -> None:
    method = make(MAE, data)
    assert make_optimizer(method, method.config).betas == (0.9, 0.95)  # type: ignore[attr-defined]


def test_mae_learns(data: DataSet) -> None:
    method = make(MAE, data, learning_rate=5e-3)
    optimizer, views = make_optimizer(method, method.config), first_views(method, data)
    values = [method.training_step(views, optimizer)["loss"] for _ in range(40)]
    assert values[-1] < 0.8 * values[0]


# -- both -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 13])
@pytest.mark.parametrize("chapter", [Rotation, MAE])
def test_a_step_and_pictures_on_any_number_of_channels(chapter: type[Method], channels: int, tmp_path: Path) -> None:
    data = noise(channels)
    method = make(chapter, data, data="noise.npz")
    views = first_views(method, data)
    logged = method.training_step(views, make_optimizer(method, method.config))
    assert 0 < logged["loss"] < 5
    side = 8 if chapter is Rotation else 16
    assert all(shown.shape == (N, side, side, 1 if channels < 3 else 3) for shown in method.shown(views).values())
    measured = method.eval().measure({"test": data}, tmp_path)
    assert measured and all(np.isfinite(value) for value in measured.values())
    drawn = {Rotation: {"turns.png"}, MAE: {"painted.png", "attention.png"}}
    assert {file.name for file in tmp_path.iterdir()} == drawn[chapter]
    features = evaluation.extract(method.encoder, data["images"], method.prepare)
    assert features.shape == (N, method.encoder.out_features)


@pytest.mark.parametrize("chapter", [Rotation, MAE])
def test_the_same_step_on_both_backends(
    chapter: type[Method], cupy: backend.Backend, data: DataSet, tmp_path: Path
) -> None:
    found = []
    for place in ("numpy", "cupy"):
        with backend.use(place):
            method = make(chapter, data, learning_rate=1e-3, scenes=40)
            logged = method.training_step(first_views(method, data), make_optimizer(method, method.config))
            measured = method.eval().measure({"test": data}, tmp_path)
            found.append([*logged.values(), *measured.values()])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4)
