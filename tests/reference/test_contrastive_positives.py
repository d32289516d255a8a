"""Positives: each kind keeps its anchor's identity and changes the rest; what learns first, learns by itself."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from minissl import augment, backend, losses, nn, ops, random
from minissl.data import DataSet, scenes
from minissl.optim import Optimizer
from minissl.tensor import Tensor
from reference import makers
from reference.contrastive import positives
from reference.contrastive.positives import Config, Kind, Positives
from reference.makers import ConditionalGAN
from reference.method import Method, build
from tests.contrastive_chapters import N, batch_of, changed, make, noise_images, step, tiny_data, weights, with_channels

KINDS = get_args(Kind)


def made(kind: Kind, data: DataSet | None = None, /, **settings: Any) -> Any:
    return make("positives", data, positives=kind, **settings)


# -- every kind -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 13])
@pytest.mark.parametrize("kind", KINDS)
def test_a_positive_has_the_anchors_shape_and_is_another_image(kind: Kind, channels: int) -> None:
    images = with_channels(tiny_data(), channels)
    method, batch = made(kind, images), batch_of(images)
    anchor, positive = method.pair(kind, batch, random.seed(1))
    for x in (anchor, positive):
        assert x.shape == (N, 16, 16, channels) and x.dtype == np.float32
        assert x.min() >= -1e-5 and x.max() <= 1 + 1e-5
    assert np.abs(anchor - positive).reshape(N, -1).max(axis=1).min() > 0.02
    again, other = (method.pair(kind, batch, random.seed(seed)) for seed in (1, 2))
    np.testing.assert_array_equal(np.stack(again), np.stack([anchor, positive]))
    assert np.abs(other[1] - positive).max() > 0.1 * np.ptp(positive)
    assert np.isfinite(step(method, data=images)["loss"])


def test_the_network_sees_what_pair_makes_standardised() -> None:
    method, batch = made("overlap"), batch_of()
    views = method.views(batch, random.seed(1))
    for view, image in zip(views, method.pair("overlap", batch, random.seed(1)), strict=True):
        np.testing.assert_allclose(view, method.standardize(image))
    assert list(method.shown(views)) == ["anchor", "positive"]


# -- overlap ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 3, 8, 12, 16])
def test_windows_lie_in_the_image_and_share_half_of_each_side(length: int) -> None:
    starts = makers.windows(np.random.default_rng(0), 1000, length, 16)
    assert starts.shape == (2, 1000)
    assert starts.min() == 0 and starts.max() == 16 - length
    apart = np.abs(starts[0] - starts[1])
    assert apart.max() == min(length // 2, 16 - length)


def test_overlapping_windows_are_parts_of_the_image() -> None:
    """An image whose two channels are the coordinates: windows are read from it. No colour changes."""
    place = (np.arange(16, dtype=np.float32) + 0.5) / 16
    image = np.stack(np.meshgrid(place, place, indexing="ij"), axis=-1)
    pair = makers.overlap(np.repeat(image[None], 200, axis=0), np.random.default_rng(0), 0.25)
    boxes = []
    for x in pair:
        inner = x[:, 1:-1, 1:-1]  # at the border of a window the interpolation has half its pixels
        np.testing.assert_allclose(np.diff(inner[..., 0], axis=1), 1 / 32, atol=1e-5)
        boxes.append(x.mean(axis=(1, 2)) * 16 - 4)  # centre minus half of 8 pixels: top and left
    apart = np.abs(boxes[0] - boxes[1])
    assert apart.max() == pytest.approx(4, abs=1e-3)
    assert (apart.max(axis=1) > 0.5).mean() > 0.8


# -- season -----------------------------------------------------------------------------------------------------------


def test_only_season_asks_scenes_for_two_days_and_they_are_of_one_place() -> None:
    whole, plain = (Positives.open_data(made(kind).config) for kind in ("season", "augmentation"))
    assert "seasons" not in plain and whole["seasons"].shape[1] == 2
    np.testing.assert_array_equal(whole["images"], plain["images"])
    one, other = np.moveaxis(scenes.generate(60, 32, seasons=2)["seasons"], 1, 0)
    assert (np.abs(one.astype(float) - other).mean(axis=(1, 2, 3)) > 1).all()  # another day
    edges = [np.abs(np.diff(x.mean(axis=3), axis=1)).reshape(60, -1) for x in (one, other)]
    same, others = (np.corrcoef(edges[0], np.roll(edges[1], k, axis=0))[:60, 60:].diagonal() for k in (0, 1))
    assert (same > others).mean() > 0.8  # but the same lines on the ground


def test_season_pairs_two_different_days() -> None:
    days = np.array([51, 102, 204], np.uint8)[:, None, None, None]
    batch = {"images": np.zeros((N, 16, 16, 3), np.uint8), "seasons": np.broadcast_to(days, (N, 3, 16, 16, 3))}
    pairs = zip(*made("season").pair("season", batch, random.seed(0)), strict=True)
    seen = {tuple(round(float(x.mean()), 3) for x in pair) for pair in pairs}
    assert seen <= {(a, b) for a in (0.2, 0.4, 0.8) for b in (0.2, 0.4, 0.8) if a != b} and len(seen) > 2


def test_season_asks_for_what_is_missing(tmp_path: Path) -> None:
    np.save(tmp_path / "once.npy", noise_images(3, 2 * N))
    config = made("season", data=str(tmp_path / "once.npy")).config
    with pytest.raises(ValueError, match=r"--positives season: expected an array 'seasons' .* at least 2 dates"):
        Positives.open_data(config)
    seasons = noise_images(3, 4 * N).reshape(2 * N, 2, 16, 16, 3)
    np.savez(tmp_path / "two.npz", images=seasons[:, 0], seasons=seasons)
    config = replace(config, data=str(tmp_path / "two.npz"))
    np.testing.assert_array_equal(Positives.open_data(config)["seasons"], seasons)


# -- mixtures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_mixture_is_mostly_the_anchor(kind: Kind) -> None:
    """Without augmentation image n is all n; then a mixture says how much of it is its own: half or more."""
    channels = np.eye(N, dtype=np.float32)[:, None, None, :] * np.ones((1, 16, 16, 1), np.float32)
    still = {"crop": 1.0, "jitter": 0.0, "grey": 0.0, "blur": 0.0, "turns": False, "flip": False}
    method = made(kind, DataSet({"images": noise_images(N)}), **still)
    own = []
    for seed in range(20):
        anchor, mixed = method.pair(kind, {"images": channels}, random.seed(seed))
        np.testing.assert_allclose(anchor, channels, atol=1e-5)
        shares = mixed.mean(axis=(1, 2))  # (N, N): how much of image k is in mixture n
        np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
        assert ((shares > 1e-3).sum(axis=1) <= 2).all()
        own.append(shares.diagonal())
    assert np.min(own) >= 0.5 - 1e-5 and np.min(own) < 0.7


def test_mixtures_are_of_another_view_of_the_anchor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(makers, "mixup", lambda x, *_, **__: (x, None, None))
    method, batch = made("mixup"), batch_of()
    anchor, positive = method.pair("mixup", batch, random.seed(0))
    assert np.abs(anchor - positive).reshape(N, -1).max(axis=1).min() > 0.02


# -- policies ---------------------------------------------------------------------------------------------------------


def test_a_policy_is_known_by_its_number() -> None:
    first, again, other = (made("policy", policy=k).recipe("policy") for k in (1, 1, 2))
    assert first == again != other


def test_policies_leave_images_upright() -> None:
    """The judge looks for turns: the crop and flip before a policy must not turn, so that only the policy can."""
    down = np.linspace(0, 1, 16, dtype=np.float32)[None, :, None, None] * np.ones((N, 1, 16, 3), np.float32)
    idle = [[("identity", 1.0, 0), ("identity", 1.0, 0)]]
    for seed in range(5):
        for x in makers.policy(down, np.random.default_rng(seed), Config(), idle):
            assert (np.diff(x.mean(axis=(2, 3)), axis=1) > 0).all()  # dark above, bright below


def test_the_policy_that_tells_most_turns_is_kept(tmp_path: Path, monkeypatch: Any) -> None:
    tried: list[tuple[int, np.ndarray]] = []
    data = Positives.open_data(made("selfaugment").config).part("train")

    def told(method: Any, images: np.ndarray) -> float:
        assert method.config.positives == "policy" and method.config.epochs == 1
        np.testing.assert_array_equal(images, data["images"])
        tried.append((method.config.policy, method.state_dict()["encoder.conv1.weight"].copy()))
        return {1: 0.3, 2: 0.6, 3: 0.5}[method.config.policy]

    monkeypatch.setattr(makers, "turns_told", told)
    method = made("selfaugment", candidates=3)
    start = method.state_dict()["encoder.conv1.weight"].copy()
    assert "positive, before its maker has learned" in method.shown(method.views(batch_of(), random.seed(0)))
    method.before_training(data, tmp_path)
    assert [number for number, _ in tried] == [1, 2, 3]
    assert method.recipe("selfaugment") == made("policy", policy=2).recipe("policy")
    assert all(np.abs(found - start).max() > 0 for _, found in tried)  # each was trained
    np.testing.assert_array_equal(method.state_dict()["encoder.conv1.weight"], start)  # and this run has not begun
    method.before_training(data, tmp_path)
    assert len(tried) == 3
    monkeypatch.setattr(positives.simclr.SimCLR, "measure", lambda *_: {})
    figures = method.eval().measure({"test": data}, tmp_path)
    assert [figures[f"turns told, policy {k}"] for k in (1, 2, 3)] == [0.3, 0.6, 0.5]
    kept = json.loads((tmp_path / "policy.json").read_text())
    assert kept == json.loads(json.dumps(made("policy", policy=2).recipe("policy")))


def test_turns_are_told_from_features_that_know_them() -> None:
    """Images bright on top: raw pixels tell the turn, their mean does not. No label is asked for."""
    images = np.random.default_rng(0).integers(0, 100, (40, 8, 8, 1), np.uint8)
    images[:, :3] += 100

    class Looks(Method):
        def __init__(self, encoder: Any) -> None:
            self.encoder = encoder

        def prepare(self, images: Any) -> Any:
            return augment.to_float(images)

    class Pixels(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(len(x), -1)

    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean(axis=(1, 2))

    assert makers.turns_told(Looks(Pixels()), images) == 1.0
    assert makers.turns_told(Looks(Mean()), images) < 0.6


# -- generated --------------------------------------------------------------------------------------------------------


class StillOptimizer(Optimizer):
    """Keeps the gradients of a step, and moves nothing."""

    def step(self) -> None:
        self.gradients: list[Any] = [None if p.grad is None else p.grad.copy() for p, _ in self._parameters()]


def painter_and_discriminator(**settings: Any) -> Any:
    method = made("generated", **settings)
    return build(ConditionalGAN, method.config, method.inputs)


def test_no_gradient_crosses_between_painter_and_discriminator() -> None:
    gan = painter_and_discriminator()
    v, x, z, noise = views = gan.views(batch_of(), random.seed(1))
    optimizer = StillOptimizer(gan.parameters(), 0.0)
    logged = gan.training_step(views, optimizer)
    found = dict(zip((name for name, _ in gan.named_parameters()), optimizer.gradients, strict=True))
    assert all(p.requires_grad for p in gan.parameters())
    n1, n2, n3 = gan.sigma * noise

    def D(second: Any) -> Tensor:
        return gan.D(ops.concatenate([Tensor(v), second], axis=3))

    y = gan.painter(Tensor(v), Tensor(z))
    d_loss = losses.gan_discriminator(D(Tensor(x + n1)), D(Tensor(y.data) + n2))
    d_loss.backward()
    assert all(p.grad is None for p in gan.painter.parameters())
    for name, parameter in gan.D.named_parameters():
        np.testing.assert_array_equal(found[f"D.{name}"], parameter.grad)
    assert logged["d_loss"] == pytest.approx(d_loss.item())

    with makers.frozen(gan.D):
        gan.zero_grad()
        losses.gan_generator(D(y + n3)).backward()
    assert all(p.grad is None for p in gan.D.parameters())
    for name, parameter in gan.painter.named_parameters():
        np.testing.assert_array_equal(found[f"painter.{name}"], parameter.grad)
        assert np.abs(parameter.grad).max() > 0 or name.endswith("bias")


def test_pairs_lie_pixel_on_pixel_in_two_colours() -> None:
    """Without colours nothing is left that differs: no pair can be told from another by its crop."""
    batch = batch_of()
    for strength, same in ((0.0, True), (0.4, False)):
        colours = {"jitter": strength, "grey": 0.0, "blur": 0.0}
        gan = painter_and_discriminator(**colours)
        v, x, *_ = gan.views(batch, random.seed(1))
        assert np.allclose(v, x, atol=1e-4) == same
        assert np.abs(v - gan.standardize(gan.raw(batch))).max() > 0.1
        assert v.min() >= -1 - 1e-5 and v.max() <= 1 + 1e-5


def test_what_is_painted_depends_on_view_and_noise_and_is_a_constant() -> None:
    method = made("generated")
    views = method.raw(batch_of())
    before = weights(method.train().painter)
    painted = lambda views, seed: method.painter.positives(views, np.random.default_rng(seed)) - views
    y = painted(views, 0)
    np.testing.assert_allclose(y, 0, atol=0.01)  # before it has learned it hardly changes a view
    assert np.abs(y - painted(views, 1)).max() > 0.1 * np.ptp(y)
    assert np.abs(y - painted(1 - views, 0)).max() > 0.1 * np.ptp(y)
    alone = painted(views[:1], 0)
    np.testing.assert_allclose(alone, y[:1], atol=0.01 * np.ptp(y))  # an image does not depend on its batch
    assert all(not p.requires_grad for p in method.painter.parameters())
    step(method)
    assert not changed(before, weights(method.painter))


def test_the_painter_learns_before_the_encoder_and_goes_on_where_it_was(tmp_path: Path) -> None:
    method, data = made("generated"), DataSet({"images": tiny_data()["images"]})
    before = weights(method)
    assert not method.ready.data
    method.before_training(data, tmp_path)
    assert method.ready.data
    again = made("generated")  # of a run killed before the encoder's first checkpoint
    lines = (tmp_path / "painter_metrics.jsonl").read_text()
    again.before_training(data, tmp_path)
    assert (tmp_path / "painter_metrics.jsonl").read_text() == lines  # "seconds", too: nothing was trained again
    assert not changed(weights(again), weights(method))
    moved = changed(before, weights(method))
    assert {"painter.G.decoder.fc.weight", "painter.E.fc.weight", "ready"} <= moved
    assert all(name.startswith("painter.") or name == "ready" for name in moved)


# -- figures and pictures ---------------------------------------------------------------------------------------------


def test_own_nearest_counts_positives_that_look_most_like_their_anchor() -> None:
    anchors = np.linspace(0, 1, 5, dtype=np.float32)[:, None, None, None] * np.ones((1, 16, 16, 1), np.float32)
    assert makers.own_nearest(anchors, anchors + 0.05) == 1.0
    assert makers.own_nearest(anchors, anchors[[1, 0, 2, 3, 4]]) == pytest.approx(0.6)


@pytest.mark.parametrize(("kind", "source"), [("augmentation", "scenes"), ("generated", "elsewhere")])
def test_the_picture_shows_every_kind_that_needs_no_training(
    kind: Kind, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(positives.simclr.SimCLR, "measure", lambda *_: {})
    monkeypatch.setattr(positives.viz, "image_grid", lambda grid, path, titles, **_: drawn.append((path, titles, grid)))
    method = made(kind, data=source)
    figures = method.eval().measure({"test": DataSet({"images": tiny_data()["images"]})}, tmp_path)
    assert 0 <= figures["own anchor nearest, in 8x8 pixels"] <= 1
    [(titles, grid)] = [(titles, grid) for path, titles, grid in drawn if path.name == "positives.png"]
    season = ["season"] if source == "scenes" else []
    own = ["generated"] if kind == "generated" else []
    expected = ["augmentation", "overlap", *season, "mixup", "cutmix", "policy", *own]
    assert titles == ["image", *(title for kind in expected for title in (f"{kind}: anchor", "positive"))]
    assert all(len(row) == 8 for row in grid)


def test_overlap_of_whole_images_is_refused() -> None:
    with pytest.raises(ValueError, match="--positives overlap: with --crop 1 both windows are the whole image"):
        Config(positives="overlap", crop=1.0)


def test_views_on_cupy_equal_numpys(cupy: backend.Backend) -> None:
    batch = batch_of()
    for kind in KINDS:
        views = {}
        for place in ("numpy", "cupy"):
            with backend.use(place):
                method = made(kind)
                views[place] = [backend.to_host(view) for view in method.views(batch, random.seed(1))]
        for here, there in zip(views["numpy"], views["cupy"], strict=True):
            np.testing.assert_allclose(there, here, atol=2e-4, err_msg=kind)
