"""Positives: each kind keeps its anchor's identity and changes the rest; what learns first, learns by itself."""

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from minissl import augment, backend, checkpoint, losses, nn, ops, random
from minissl.data import DataSet, scenes
from minissl.optim import Optimizer
from minissl.tensor import Tensor
from reference import makers
from reference.contrastive import positives
from reference.contrastive.positives import Config, Kind, Positives
from reference.makers import ConditionalGAN
from reference.method import Inputs, Method, build
from reference.trainer import Interrupted, make_optimizer, train

N = 8
KINDS = get_args(Kind)
SMALL: dict[str, Any] = {
    **{"scenes": 30, "image_size": 16, "width": 4, "embedding": 8, "batch_size": N, "workers": 0},
    **{"candidates": 2, "search_epochs": 1, "gan_epochs": 1, "epochs": 2},
}


@pytest.fixture(scope="module")
def data() -> DataSet:
    """What a run on scenes learns from, on two days."""
    return Positives.open_data(Config(**SMALL, positives="season")).part("train")


@pytest.fixture(autouse=True)
def small_gan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(positives.GAN_SETTINGS, "batch_size", N)


def make(images: DataSet, chapter: type[Positives] = Positives, **settings: Any) -> Any:
    config = Config(**SMALL | settings)
    return build(
        chapter, config, Inputs(images.channels, *augment.channel_statistics(images["images"]), images.classes)
    )


def noise(channels: int, count: int = 2 * N) -> DataSet:
    images = np.random.default_rng(0).integers(0, 256, (2, count, 16, 16, channels), np.uint8)
    return DataSet({"images": images[0], "other_season": images[1]})


# -- every kind -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 13])
@pytest.mark.parametrize("kind", KINDS)
def test_a_positive_has_the_anchors_shape_and_is_another_image(kind: Kind, channels: int) -> None:
    images = noise(channels)
    method = make(images, positives=kind)
    batch = positives.first(images, N)
    anchor, positive = method.pair(kind, batch, random.seed(1))
    for x in (anchor, positive):
        assert x.shape == (N, 16, 16, channels) and x.dtype == np.float32
        assert x.min() >= -1e-5 and x.max() <= 1 + 1e-5
    assert np.abs(anchor - positive).reshape(N, -1).max(axis=1).min() > 0.02
    again, other = (method.pair(kind, batch, random.seed(seed)) for seed in (1, 2))
    np.testing.assert_array_equal(np.stack(again), np.stack([anchor, positive]))
    assert np.abs(other[1] - positive).max() > 0.1 * np.ptp(positive)
    logged = method.training_step(method.views(batch, random.seed(1)), make_optimizer(method, method.config))
    assert np.isfinite(logged["loss"])


def test_the_network_sees_what_pair_makes_standardised(data: DataSet) -> None:
    method, batch = make(data, positives="overlap"), positives.first(data, N)
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


def test_the_other_season_is_the_same_place(data: DataSet) -> None:
    whole = Positives.open_data(Config(**SMALL, positives="season"))
    plain = Positives.open_data(Config(**SMALL))
    assert "other_season" not in plain
    np.testing.assert_array_equal(whole["images"], plain["images"])
    one, other = (scenes.generate(60, 32)["images"], makers.other_season(60, 32, 0))
    assert one.shape == other.shape and other.dtype == np.uint8
    np.testing.assert_array_equal(other[:5], makers.other_season(5, 32, 0))
    assert (np.abs(one.astype(float) - other).mean(axis=(1, 2, 3)) > 1).all()  # another day
    edges = [np.abs(np.diff(x.mean(axis=3), axis=1)).reshape(60, -1) for x in (one, other)]
    same, others = (np.corrcoef(edges[0], np.roll(edges[1], k, axis=0))[:60, 60:].diagonal() for k in (0, 1))
    assert (same > others).mean() > 0.8  # but the same lines on the ground


def test_season_pairs_the_two_days(data: DataSet) -> None:
    shape = data["images"][:N].shape
    batch = {"images": np.full(shape, 51, np.uint8), "other_season": np.full(shape, 204, np.uint8)}
    anchor, positive = make(data, positives="season").pair("season", batch, random.seed(0))
    np.testing.assert_allclose(anchor, 0.2, atol=1e-5)  # and no colour is changed
    np.testing.assert_allclose(positive, 0.8, atol=1e-5)


def test_season_asks_for_what_is_missing(tmp_path: Path) -> None:
    for folder in ("water", "land"):
        (tmp_path / folder).mkdir()
        for i in range(4):
            Image.new("RGB", (16, 16), (i, 0, 0)).save(tmp_path / folder / f"{i}.png")
    config = Config(**SMALL | {"data": str(tmp_path)}, positives="season")
    with pytest.raises(ValueError, match=r"--positives season: .*once; expected a stack with an array 'other_season'"):
        Positives.open_data(config)
    np.savez(tmp_path / "two.npz", images=noise(3)["images"], other_season=noise(3)["other_season"])
    config = Config(**SMALL | {"data": str(tmp_path / "two.npz")}, positives="season")
    np.testing.assert_array_equal(Positives.open_data(config)["other_season"], noise(3)["other_season"])


# -- mixtures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_mixture_is_mostly_the_anchor(kind: Kind, data: DataSet) -> None:
    """Without augmentation image n is all n; then a mixture says how much of it is its own: half or more."""
    channels = np.eye(N, dtype=np.float32)[:, None, None, :] * np.ones((1, 16, 16, 1), np.float32)
    still = {"crop": 1.0, "jitter": 0.0, "grey": 0.0, "blur": 0.0, "turns": False, "flip": False}
    method = make(noise(N), positives=kind, **still)
    own = []
    for seed in range(20):
        anchor, mixed = method.pair(kind, {"images": channels}, random.seed(seed))
        np.testing.assert_allclose(anchor, channels, atol=1e-5)
        shares = mixed.mean(axis=(1, 2))  # (N, N): how much of image k is in mixture n
        np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
        assert ((shares > 1e-3).sum(axis=1) <= 2).all()
        own.append(shares.diagonal())
    assert np.min(own) >= 0.5 - 1e-5 and np.min(own) < 0.7


def test_mixtures_are_of_another_view_of_the_anchor(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(makers, "mixup", lambda x, *_, **__: (x, None, None))
    method, batch = make(data), positives.first(data, N)
    anchor, positive = method.pair("mixup", batch, random.seed(0))
    assert np.abs(anchor - positive).reshape(N, -1).max(axis=1).min() > 0.02


# -- policies ---------------------------------------------------------------------------------------------------------


def test_a_policy_is_known_by_its_number(data: DataSet) -> None:
    first, again, other = (make(data, positives="policy", policy=k).recipe("policy") for k in (1, 1, 2))
    assert first == again != other


def test_policies_leave_images_upright(data: DataSet) -> None:
    """The judge looks for turns: the crop and flip before a policy must not turn, so that only the policy can."""
    down = np.linspace(0, 1, 16, dtype=np.float32)[None, :, None, None] * np.ones((N, 1, 16, 3), np.float32)
    idle = [[("identity", 1.0, 0), ("identity", 1.0, 0)]]
    for seed in range(5):
        for x in makers.policy(down, np.random.default_rng(seed), Config(), idle):
            assert (np.diff(x.mean(axis=(2, 3)), axis=1) > 0).all()  # dark above, bright below


def test_the_policy_that_tells_most_turns_is_kept(data: DataSet, tmp_path: Path, monkeypatch: Any) -> None:
    tried: list[tuple[int, np.ndarray]] = []

    def told(method: Any, images: np.ndarray) -> float:
        assert method.config.positives == "policy" and method.config.epochs == 1
        np.testing.assert_array_equal(images, data["images"])
        tried.append((method.config.policy, method.state_dict()["encoder.conv1.weight"].copy()))
        return {1: 0.3, 2: 0.6, 3: 0.5}[method.config.policy]

    monkeypatch.setattr(makers, "turns_told", told)
    method = make(data, positives="selfaugment", candidates=3)
    start = method.state_dict()["encoder.conv1.weight"].copy()
    assert "positive, before its maker has learned" in method.shown(
        method.views(positives.first(data, N), random.seed(0))
    )
    method.start_epoch(0)
    assert [number for number, _ in tried] == [1, 2, 3]
    assert method.recipe("selfaugment") == make(data, policy=2).recipe("policy")
    assert all(np.abs(weights - start).max() > 0 for _, weights in tried)  # each was trained
    np.testing.assert_array_equal(method.state_dict()["encoder.conv1.weight"], start)  # and this run has not begun
    method.start_epoch(1)
    assert len(tried) == 3
    monkeypatch.setattr(positives.simclr.SimCLR, "measure", lambda *_: {})
    figures = method.eval().measure({"test": data}, tmp_path)
    assert [figures[f"turns told, policy {k}"] for k in (1, 2, 3)] == [0.3, 0.6, 0.5]
    kept = json.loads((tmp_path / "policy.json").read_text())
    assert kept == json.loads(json.dumps(make(data, policy=2).recipe("policy")))


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


def test_no_gradient_crosses_between_painter_and_discriminator(data: DataSet) -> None:
    gan: Any = build(ConditionalGAN, Config(**SMALL), make(data).inputs)
    v, x, z, noise = views = gan.views(positives.first(data, N), random.seed(1))
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


def test_pairs_lie_pixel_on_pixel_in_two_colours(data: DataSet) -> None:
    """Without colours nothing is left that differs: no pair can be told from another by its crop."""
    inputs, batch = make(data).inputs, positives.first(data, N)
    for strength, same in ((0.0, True), (0.4, False)):
        colours = {"jitter": strength, "grey": 0.0, "blur": 0.0}
        gan: Any = build(ConditionalGAN, Config(**SMALL | colours), inputs)
        v, x, *_ = gan.views(batch, random.seed(1))
        assert np.allclose(v, x, atol=1e-4) == same
        assert np.abs(v - gan.standardize(gan.raw(batch))).max() > 0.1
        assert v.min() >= -1 - 1e-5 and v.max() <= 1 + 1e-5


def test_what_is_painted_depends_on_view_and_noise_and_is_a_constant(data: DataSet) -> None:
    method = make(data, positives="generated")
    views = method.raw(positives.first(data, N))
    before = {name: array.copy() for name, array in method.state_dict().items()}
    method.train()
    painted = lambda views, seed: method.painter.positives(views, np.random.default_rng(seed)) - views
    y = painted(views, 0)
    np.testing.assert_allclose(y, 0, atol=0.01)  # before it has learned it hardly changes a view
    assert np.abs(y - painted(views, 1)).max() > 0.1 * np.ptp(y)
    assert np.abs(y - painted(1 - views, 0)).max() > 0.1 * np.ptp(y)
    alone = painted(views[:1], 0)
    np.testing.assert_allclose(alone, y[:1], atol=0.01 * np.ptp(y))  # an image does not depend on its batch
    assert all(not p.requires_grad for p in method.painter.parameters())
    method.training_step(method.views(positives.first(data, N), random.seed(0)), make_optimizer(method, method.config))
    for name, array in method.state_dict().items():
        if name.startswith("painter."):
            np.testing.assert_array_equal(array, before[name])


def test_the_painter_learns_before_the_encoder(data: DataSet) -> None:
    method = make(data, positives="generated")
    before = {name: array.copy() for name, array in method.state_dict().items()}
    assert not method.ready.data
    method.start_epoch(0)
    assert method.ready.data
    moved = {name for name, array in method.state_dict().items() if not np.array_equal(array, before[name])}
    assert {"painter.G.decoder.fc.weight", "painter.E.fc.weight", "ready"} <= moved
    assert all(name.startswith("painter.") or name == "ready" for name in moved)


@pytest.mark.parametrize(("kind", "step"), [("generated", 1), ("generated", 2), ("generated", 4), ("selfaugment", 2)])
def test_an_interrupted_run_ends_with_the_same_bits(kind: Kind, step: int, data: DataSet, tmp_path: Path) -> None:
    """Stopped before its first step, in the middle of epoch 1, and in epoch 2: the painter is that of before."""
    whole = make(data, positives=kind)
    (tmp_path / "whole").mkdir()
    train(whole, data, whole.config, tmp_path / "whole")

    class Stopped(Positives):
        steps = 0

        def training_step(self, views: tuple[Any, ...], optimizer: Optimizer) -> dict[str, float]:
            if self.config.positives == kind:  # not a candidate
                self.steps += 1
                if self.steps == step:
                    raise Interrupted
            return super().training_step(views, optimizer)

    with pytest.raises(Interrupted):
        train(make(data, Stopped, positives=kind), data, whole.config, tmp_path)
    resumed = make(data, positives=kind)
    train(resumed, data, whole.config, tmp_path)
    expected = checkpoint.load(tmp_path / "whole" / "checkpoint.safetensors")[0]
    found = checkpoint.load(tmp_path / "checkpoint.safetensors")[0]
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


# -- figures and pictures ---------------------------------------------------------------------------------------------


def test_own_nearest_counts_positives_that_look_most_like_their_anchor() -> None:
    anchors = np.linspace(0, 1, 5, dtype=np.float32)[:, None, None, None] * np.ones((1, 16, 16, 1), np.float32)
    assert makers.own_nearest(anchors, anchors + 0.05) == 1.0
    assert makers.own_nearest(anchors, anchors[[1, 0, 2, 3, 4]]) == pytest.approx(0.6)


@pytest.mark.parametrize(("kind", "source"), [("augmentation", "scenes"), ("generated", "elsewhere")])
def test_the_picture_shows_every_kind_that_needs_no_training(
    kind: Kind, source: str, data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(positives.simclr.SimCLR, "measure", lambda *_: {})
    monkeypatch.setattr(positives.viz, "image_grid", lambda grid, path, titles, **_: drawn.append((path, titles, grid)))
    method = make(data, positives=kind, **{"data": source})
    test = DataSet({"images": data["images"]})
    figures = method.eval().measure({"test": test}, tmp_path)
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


def test_a_step_on_cupy_equals_numpy(cupy: backend.Backend, data: DataSet) -> None:
    batch = positives.first(data, N)
    for kind in KINDS:
        views = {}
        for place in ("numpy", "cupy"):
            with backend.use(place):
                method = make(data, positives=kind)
                views[place] = [backend.to_host(view) for view in method.views(batch, random.seed(1))]
        for here, there in zip(views["numpy"], views["cupy"], strict=True):
            np.testing.assert_allclose(there, here, atol=2e-4, err_msg=kind)
