"""MLP, CNN, attention and LSTM: that they learn, what they draw, and what their architectures can and cannot tell."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from minissl import augment, backend, evaluation, random, viz
from minissl.data import DataSet, scenes
from minissl.tensor import Tensor, no_grad
from reference import pictures, report
from reference.foundations import attention, cnn, lstm, mlp
from reference.method import Inputs
from reference.supervised import Supervised
from reference.trainer import make_optimizer

CHAPTERS: dict[str, tuple[type[Supervised], dict[str, Any], set[str]]] = {
    "mlp": (mlp.MLP, {"side": 8, "width": 32}, {"weights.png"}),
    "mlp, shuffled": (mlp.MLP, {"side": 8, "width": 32, "shuffle": True}, {"weights.png"}),
    "cnn": (cnn.CNN, {"width": 4, "depth": 3}, {"features.png"}),
    "attention": (attention.Transformer, {"width": 16, "depth": 2, "heads": 2}, {"attention.png"}),
    "lstm, seasons": (lstm.LSTM, {"hidden": 16, "dates": 8}, {"dates.png", "seasons.png"}),
    "lstm, rows": (lstm.LSTM, {"hidden": 16, "side": 8, "sequence": "rows"}, {"rows.png"}),
}


def make(name: str, **more: Any) -> tuple[Any, DataSet]:
    """A chapter with tiny settings, and 40 images or series."""
    chapter, settings, _ = CHAPTERS[name]
    config: Any = chapter.settings(scenes=40, image_size=16, batch_size=20, **settings | more)
    data = chapter.open_data(config)
    inputs = Inputs(data.channels, *augment.channel_statistics(data["images"]), data.classes)
    return report.build(chapter, config, inputs), data


@pytest.mark.parametrize("name", CHAPTERS)
def test_training_lowers_the_loss(name: str) -> None:
    method, data = make(name)
    optimizer = make_optimizer(method, method.config)
    fixed = method.views(data.arrays, random.seed(1))
    before = method.loss(fixed).item()
    for _ in range(20):
        method.training_step(fixed, optimizer)
    assert method.loss(fixed).item() < 0.95 * before
    assert not method.classifier.weight.grad  # every step ends with its gradients cleared


@pytest.mark.parametrize("name", CHAPTERS)
def test_pictures_and_figures(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "linear_probe", partial(evaluation.linear_probe, penalties=(0.1,)))  # faster
    method, data = make(name)
    report.examples(method, data, tmp_path)
    found = method.eval().measure(dict.fromkeys(("train", "validation", "test"), data), tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == CHAPTERS[name][2] | {"examples.png"}
    for file in tmp_path.iterdir():
        with Image.open(file) as picture:
            assert np.asarray(picture).std() > 1
    accuracy = 100 * (method.predict(data["images"]) == data["labels"]).mean()
    assert found["classifier, accuracy in %"] == pytest.approx(accuracy)
    assert all(0 <= value <= 100 for value in found.values())


def test_an_mlp_has_no_notion_of_place() -> None:
    """Pixels in other places, and the first weights with them: the same output. So it learns either equally well."""
    method, data = make("mlp")
    shuffled, _ = make("mlp, shuffled")
    x = method.prepare(data["images"])  # (N, 8, 8, 3)
    y = shuffled.prepare(data["images"])
    assert np.abs(x - y).max() > 1
    order = np.random.default_rng(method.config.seed).permutation(64)
    first = shuffled.encoder.parameters()[0]
    first.data = first.data.reshape(8 * 8, 3, -1)[order].reshape(first.shape)
    np.testing.assert_allclose(shuffled.encoder(Tensor(y)).data, method.encoder(Tensor(x)).data, atol=1e-5)


def test_shuffling_moves_the_pixels_of_all_images_alike_and_loses_none() -> None:
    images = np.random.default_rng(0).random((3, 4, 5, 2)).astype("float32")
    moved = mlp.shuffle_pixels(images, seed=1)
    assert (moved != images).any()
    np.testing.assert_array_equal(np.sort(moved.reshape(3, 20, 2), axis=1), np.sort(images.reshape(3, 20, 2), axis=1))
    np.testing.assert_array_equal(moved[1:], mlp.shuffle_pixels(images[1:], seed=1))


def test_a_cnn_moves_its_maps_with_the_image() -> None:
    """By 4 pixels, which two halvings make 1: away from the border the last maps are the same, one place further."""
    method, _ = make("cnn")
    method.eval()
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    with no_grad():
        still = method.encoder.features(Tensor(x), "conv3").data  # (2, 8, 8, 16)
        moved = method.encoder.features(Tensor(np.roll(x, (4, 4), axis=(1, 2))), "conv3").data
    np.testing.assert_allclose(moved[:, 3:6, 3:6], still[:, 2:5, 2:5], atol=1e-5)
    assert np.abs(moved - still).max() > 0.1


def test_the_votes_of_all_places_have_the_logit_as_their_mean() -> None:
    method, data = make("cnn")
    method.eval()
    x = Tensor(method.prepare(data["images"]))
    V, c = method.classifier.weight.data, method.classifier.bias.data
    with no_grad():
        votes = method.encoder.features(x, "conv3").data @ V  # (N, h, w, K)
        logits = method.classifier(method.encoder(x)).data
    np.testing.assert_allclose(votes.mean(axis=(1, 2)) + c, logits, atol=1e-4)


def test_patches_in_another_order_with_their_positions_give_tokens_in_that_order() -> None:
    """And the class token, which none of this moved, stays the same; without the positions it would not."""
    method, data = make("attention", patch=4)
    net = method.encoder
    order = np.random.default_rng(0).permutation(16)
    x = method.prepare(data["images"])[:4]
    patches = x.reshape(4, 4, 4, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(4, 16, 4, 4, 3)[:, order]
    moved = patches.reshape(4, 4, 4, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(4, 16, 16, 3)
    before = net.tokens(Tensor(x)).data
    elsewhere = net.tokens(Tensor(moved)).data
    assert np.abs(elsewhere[:, 0] - before[:, 0]).max() > 1e-3
    net.pos_embed.data = np.concatenate([net.pos_embed.data[:, :1], net.pos_embed.data[:, 1:][:, order]], axis=1)
    after = net.tokens(Tensor(moved)).data
    np.testing.assert_allclose(after[:, 0], before[:, 0], atol=1e-5)
    np.testing.assert_allclose(after[:, 1:], before[:, 1:][:, order], atol=1e-5)


def test_where_the_class_token_looks_is_what_it_takes() -> None:
    """The shares on patches and on itself sum to 1, and with the values they give the attention's output."""
    method, data = make("attention")
    looks = pictures.looks(method, data["images"])
    assert looks.shape == (40, 2, 2, 2) and (looks >= 0).all()
    assert (looks.sum(axis=(2, 3)) < 1).all()
    block = method.encoder.blocks[1]
    with no_grad():
        x = block.norm1(method.encoder.features(Tensor(method.prepare(data["images"])), "blocks.0"))
        A, (_, _, v) = block.attn.weights(x), block.attn.split_heads(x)
        y = block.attn.proj((A @ v).transpose(0, 2, 1, 3).reshape(x.shape))
        np.testing.assert_allclose(y.data, block.attn(x).data, atol=1e-5)
    np.testing.assert_allclose(looks, A.data[:, :, 0, 1:].reshape(40, 2, 2, 2), atol=1e-6)
    np.testing.assert_allclose(A.data.sum(axis=3), 1, atol=1e-5)


@pytest.mark.parametrize(("name", "picture"), [("cnn", "features.png"), ("attention", "attention.png")])
def test_pictures_begin_with_the_images_themselves(
    name: str, picture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(viz, "image_grid", lambda rows, *_, **__: drawn.append(rows))
    method, data = make(name)
    method.eval().measure({"test": data}, tmp_path / picture)
    first = [np.flatnonzero(data["labels"] == k)[0] for k in np.unique(data["labels"])]
    np.testing.assert_allclose(drawn[0][0], data["images"][first] / 255, atol=1e-6)
    assert all(np.ptp(tile) > 0.01 for row in drawn[0] for tile in row)


@pytest.mark.parametrize("name", ["lstm, seasons", "lstm, rows"])
def test_order_matters_to_an_lstm(name: str) -> None:
    method, data = make(name)
    x = method.prepare(data["images"])  # (N, T, D)
    forward, backward = method.encoder(Tensor(x)).data, method.encoder(Tensor(x[:, ::-1].copy())).data
    assert (np.abs(forward - backward).max(axis=1) > 1e-3).all()


@pytest.mark.parametrize("t", [0, 3, 7])
def test_a_state_depends_on_every_date_so_far_and_on_none_to_come(t: int) -> None:
    method, data = make("lstm, seasons")
    x = Tensor(method.prepare(data["images"]), requires_grad=True)
    method.encoder.recurrent(x)[:, t].sum().backward()
    assert x.grad is not None
    influence = np.abs(x.grad).max(axis=(0, 2))  # (T,)
    assert (influence[: t + 1] > 0).all()
    np.testing.assert_array_equal(influence[t + 1 :], 0)


def test_views_keep_the_order_of_dates_and_rows() -> None:
    method, data = make("lstm, seasons")
    views, labels = method.views(data.arrays, random.seed(1))
    np.testing.assert_array_equal(views, method.prepare(data["images"]))
    np.testing.assert_array_equal(labels, data["labels"])
    reader, photographs = make("lstm, rows")
    falling = np.broadcast_to(np.linspace(1, 0, 16, dtype="float32")[:, None, None], photographs["images"].shape)
    rows, _ = reader.views({"images": falling, "labels": photographs["labels"]}, random.seed(1))  # (N, 8, 24)
    assert (np.diff(rows.reshape(len(rows), 8, 8, 3).mean(axis=2), axis=1) < 0).all()


def test_a_sequence_is_the_image_row_by_row() -> None:
    method, data = make("lstm, rows", side=16)
    standardized = augment.standardize(augment.to_float(data["images"]), method.inputs.mean, method.inputs.deviation)
    rows = backend.to_host(method.prepare(data["images"]))
    np.testing.assert_allclose(rows, standardized.reshape(40, 16, 48), atol=1e-4)


def test_seasons_are_read_for_scenes_and_rows_elsewhere() -> None:
    assert lstm.Config().seasons and lstm.Config(data="series.npz", sequence="seasons").seasons
    assert not lstm.Config(data="folder").seasons and not lstm.Config(sequence="rows").seasons
    assert make("lstm, seasons")[1].classes == scenes.LAND_COVER
