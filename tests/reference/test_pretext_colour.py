"""Colorization and split-brain: nobody sees what they have to say, rare colours count, and means are grey."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minissl import augment, backend, checkpoint, evaluation, models, nn, random
from minissl.data import DataSet, scenes
from minissl.models.cross_channel import StandardizedLab
from minissl.optim import Adam, Optimizer
from minissl.tensor import Tensor
from reference.__main__ import main
from reference.method import Inputs, Method
from reference.pretext import colorization, split_brain
from reference.pretext.colorization import Colorization
from reference.pretext.split_brain import SplitBrain
from reference.trainer import Interrupted, make_optimizer, train

N = 16


def make(chapter: type[Method], images: np.ndarray, **settings: Any) -> Any:
    random.seed(0)
    config = chapter.settings(**{"image_size": 16, "width": 4, "batch_size": N} | settings)
    return chapter(config, Inputs(images.shape[-1], *augment.channel_statistics(images), ()))


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    return scenes.generate(2 * N, 16)["images"]


@pytest.fixture(scope="module")
def s2() -> np.ndarray:
    return scenes.generate(2 * N, 16, bands="s2")["images"]


def in_colours(ab: Any, seed: int = 0) -> np.ndarray:
    """Images of one colour each, on a lightness of noise that does not tell which: (n, 16, 16, 3) in [0, 1]."""
    L = np.random.default_rng(seed).uniform(50, 60, (len(ab), 16, 16, 1))
    lab = np.concatenate([L, np.broadcast_to(np.array(ab)[:, None, None], (len(ab), 16, 16, 2))], axis=-1)
    return augment.lab_to_rgb(lab).astype(np.float32)


def learned(method: Any, ab: Any, steps: int = 20) -> np.ndarray:
    """What the method's forward, trained on images in these colours, gives for new ones: (N, h·w, ...)."""
    optimizer = Adam(method.parameters(), 0.01)
    for step in range(steps):
        method.training_step(method.views({"images": in_colours(ab, step)}, random.seed(1, step)), optimizer)
    given = method.forward(Tensor(method.prepare(in_colours(ab, steps)))).data  # (N, h, w, ...)
    return given.reshape(len(ab), -1, given.shape[-1])


# -- colorization -----------------------------------------------------------------------------------------------------


def test_the_encoder_of_colorization_does_not_see_colour() -> None:
    images, other = in_colours([(-20, 20)] * N), in_colours([(15, 5)] * N)
    method = make(Colorization, np.concatenate([images, other]))
    features = lambda x: evaluation.extract(method.encoder, x, method.prepare)
    assert np.abs(images - other).max() > 0.1
    np.testing.assert_allclose(features(other), features(images), atol=1e-4)
    assert np.abs(features(in_colours([(-20, 20)] * N, seed=1)) - features(images)).max() > 0.01

    method.encoder.space = nn.Identity()  # the same exactly, and for every stage
    s = Tensor(np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32"), requires_grad=True)
    assert method.encoder.stages == tuple(name for name, _ in method.encoder.run(s))
    sum(output.sum() for _, output in method.encoder.run(s)).backward()
    assert (s.grad[..., 1:] == 0).all() and np.abs(s.grad[..., :1]).max() > 0  # type: ignore[index]


def test_an_encoder_that_sees_colour_copies_it() -> None:
    """Two colours as likely at any lightness: blind, half of the answers are right; seeing, all are."""
    colours, right = [(-30, 30), (30, 30)] * (N // 2), {}
    for seeing in (False, True):
        method = make(Colorization, in_colours(colours))
        if seeing:
            method.encoder.backbones = nn.ModuleList([models.resnet18(4, 3, "halving")])
            method.encoder.channels = (slice(0, 3),)
        a = learned(method, colours)[..., 0]  # of the mode
        right[seeing] = np.mean(np.sign(a) == [[-1], [1]] * (N // 2))
    assert right[True] == 1
    assert 0.25 < right[False] < 0.75


def test_means_are_greyer_than_modes() -> None:
    """Of an opposite pair of colours the mean is grey, and of the same network the mode is not."""
    colours = [(-30, 30), (30, -30)] * (N // 2)
    ab = learned(make(Colorization, in_colours(colours)), colours).reshape(-1, 3, 2)
    mode, annealed, mean = np.linalg.norm(ab, axis=-1).mean(axis=0) / np.hypot(30, 30)
    assert mode == pytest.approx(1, abs=0.1)
    assert mean < 0.5 * mode
    assert mean < annealed < mode


def test_without_rebalancing_the_rare_colour_is_lost() -> None:
    """One image of eight is vivid, and lightness does not tell which."""
    colours, chroma = [*[(0, 0)] * 7, (-40, 40)] * (N // 8), {}
    for uniform in (0.5, 1.0):
        method = make(Colorization, in_colours(colours), uniform=uniform)
        mean = learned(method, colours)[..., -2:]  # at T = 1
        chroma[uniform] = np.linalg.norm(mean, axis=-1).mean() / np.hypot(40, 40)
    assert chroma[1.0] == pytest.approx(1 / 8, abs=0.1)  # the mean by frequency
    assert chroma[0.5] == pytest.approx(1 / 2, abs=0.2)  # as if both colours were as common


def test_colours_are_counted_as_they_are_seen(rgb: np.ndarray) -> None:
    method = make(Colorization, rgb)
    Q = len(method.bins)
    np.testing.assert_allclose(method.weights(), 1, rtol=1e-5)  # nothing is known yet
    optimizer, total = make_optimizer(method, method.config), np.full(Q, 1e-3 / Q)
    for step in range(3):
        _, Z = views = method.views({"images": rgb[:N]}, random.seed(step))
        method.loss(views)  # a look alone does not count
        method.training_step(views, optimizer)
        total += Z.reshape(-1, Q).mean(axis=0)
    np.testing.assert_allclose(method.seen.data, total, atol=1e-5)
    p, w = total / total.sum(), method.weights()
    assert p @ w == pytest.approx(1, abs=1e-4)
    assert w[p.argmax()] == w.min() < 0.5 and w[p.argmin()] == w.max() > 2
    np.testing.assert_allclose(make(Colorization, rgb, uniform=1.0).weights(), 1, rtol=1e-5)


def test_an_interrupted_run_counts_the_same_colours(rgb: np.ndarray, tmp_path: Path) -> None:
    data = DataSet({"images": rgb})
    (tmp_path / "whole").mkdir()
    whole = make(Colorization, rgb, epochs=2)
    train(whole, data, whole.config, tmp_path / "whole")

    class Stopped(Colorization):
        steps = 0

        def training_step(self, views: tuple[Any, ...], optimizer: Optimizer) -> dict[str, float]:
            self.steps += 1
            if self.steps == 4:
                raise Interrupted
            return super().training_step(views, optimizer)

    with pytest.raises(Interrupted):
        train(make(Stopped, rgb, epochs=2), data, whole.config, tmp_path)
    train(make(Colorization, rgb, epochs=2), data, whole.config, tmp_path)
    expected = checkpoint.load(tmp_path / "whole" / "checkpoint.safetensors")[0]
    found = checkpoint.load(tmp_path / "checkpoint.safetensors")[0]
    assert "method.seen" in expected and expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_figures_of_a_network_that_always_says_grey(rgb: np.ndarray, tmp_path: Path) -> None:
    method = make(Colorization, rgb).eval()
    method.seen.data = method.seen.data + 0  # untrained: all weights are 1
    method.decoder.predict.weight.data = method.decoder.predict.weight.data * 0
    method.decoder.predict.bias.data = np.float32(100 * (method.bins.data == 0).all(axis=1))
    figures = method.measure({"test": DataSet({"images": rgb})}, tmp_path)
    errors = [value for name, value in figures.items() if name.startswith("colour error")]
    assert errors[0] == pytest.approx(errors[2], rel=1e-4) and errors[1] == pytest.approx(errors[2], rel=1e-4)
    assert figures["right bins"] == pytest.approx(figures["right bins, rebalanced"], abs=1e-5)
    assert all(value == pytest.approx(0, abs=1e-3) for name, value in figures.items() if "spread" in name)
    assert 0 < figures["right bins"] <= figures["right bins, if it always said the commonest"]


def test_painting_the_true_colours_gives_the_image_back(rgb: np.ndarray) -> None:
    images = augment.to_float(rgb)
    lab = augment.rgb_to_lab(images)
    np.testing.assert_allclose(colorization.painted(lab[..., :1], lab[..., 1:]), images, atol=1e-4)
    grey = colorization.painted(lab[..., :1], 0 * lab[..., 1:])
    np.testing.assert_allclose(grey, grey[..., :1].repeat(3, axis=-1), atol=1e-4)


# -- split-brain ------------------------------------------------------------------------------------------------------

SPLITS = {"lab": (slice(0, 1), slice(1, 3)), "spectral": (slice(0, 4), slice(4, 13))}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("training", [True, False])
def test_neither_half_sees_the_other(split: str, training: bool, rgb: np.ndarray, s2: np.ndarray) -> None:
    method = make(SplitBrain, rgb if split == "lab" else s2, split=split).train(training)
    method.encoder.space = nn.Identity()
    C = 3 if split == "lab" else 13
    x = np.random.default_rng(0).normal(size=(4, 16, 16, C)).astype("float32")
    for i, (own, other) in enumerate((SPLITS[split], SPLITS[split][::-1])):
        s = Tensor(x, requires_grad=True)
        h = method.encoder(s)  # (N, out_features): the first half's, then the second's
        assert h.shape == (4, 8 * method.config.width) == (4, method.encoder.out_features)
        D = h.shape[1] // 2
        (h[:, i * D : (i + 1) * D] ** 2).sum().backward()
        assert (s.grad[..., other] == 0).all() and np.abs(s.grad[..., own]).max() > 0  # type: ignore[index]

        s = Tensor(x, requires_grad=True)
        prediction = method.predictions(s)[i]
        assert prediction.shape == (4, 4, 4, (other.stop - other.start) * method.config.classes)
        (prediction**2).sum().backward()
        assert (s.grad[..., other] == 0).all() and np.abs(s.grad[..., own]).max() > 0  # type: ignore[index]


def test_a_network_that_sees_what_it_predicts_copies_it() -> None:
    """Colours that lightness does not tell: only a network that sees them can say them."""
    colours, found = np.random.default_rng(0).uniform(-20, 20, (N, 2)), {}
    for seeing in (False, True):
        method = make(SplitBrain, in_colours(colours))
        if seeing:
            resnets = nn.ModuleList(models.resnet18(2, 3, "halving") for _ in range(2))
            method.encoder.backbones = resnets
            method.encoder.groups = lambda s, resnets=resnets: [resnet.run(s) for resnet in resnets]
        ab = 10 * learned(method, colours)[..., 1:].mean(axis=1)  # (N, 2), the mean of an image
        found[seeing] = split_brain.explained(ab, colours)
    assert found[True] > 0.5
    assert found[False] < 0.2


def test_the_loss_is_the_sum_of_both_squared_errors(s2: np.ndarray) -> None:
    method = make(SplitBrain, s2, split="spectral", loss="squared", turns=False)
    (x,) = views = method.views({"images": s2[:N]}, random.seed(0))
    pooled = x.reshape(N, 4, 4, 4, 4, 13).mean(axis=(2, 4))
    errors = (method.forward(Tensor(x)).data - pooled) ** 2
    assert method.loss(views).item() == pytest.approx(errors[..., :4].mean() + errors[..., 4:].mean(), rel=1e-4)


def test_the_loss_is_the_sum_of_both_cross_entropies(s2: np.ndarray) -> None:
    method = make(SplitBrain, s2, split="spectral", classes=5, turns=False)
    (x,) = views = method.views({"images": s2[:N]}, random.seed(0))
    pooled = x.reshape(N, 4, 4, 4, 4, 13).mean(axis=(2, 4)).clip(-3, 3)
    expected = 0.0
    for logits, channels in zip(method.predictions(Tensor(x)), (slice(4, 13), slice(0, 4)), strict=True):
        X = pooled[..., channels]
        p = np.exp(logits.data.reshape(*X.shape, 5))
        p /= p.sum(axis=-1, keepdims=True)
        low = np.minimum((X + 3) // 1.5, 3).astype(int)  # of the levels -3, -1.5, 0, 1.5, 3 the one below
        high_share = (X + 3) / 1.5 - low
        log_p = [np.log(np.take_along_axis(p, level[..., None], axis=-1))[..., 0] for level in (low, low + 1)]
        expected -= ((1 - high_share) * log_p[0] + high_share * log_p[1]).mean()
        values = (p * np.array([-3, -1.5, 0, 1.5, 3])).sum(axis=-1)
        np.testing.assert_allclose(method.values(logits).data, values, atol=1e-4)
    assert method.loss(views).item() == pytest.approx(expected, rel=1e-4)


def test_a_value_is_the_mean_of_its_two_levels() -> None:
    x = np.random.default_rng(0).uniform(-3, 3, (50, 2)).astype(np.float32)
    levels = np.linspace(-3, 3, 7, dtype=np.float32)
    shares = split_brain.soft_levels(x, levels)
    assert (shares >= 0).all() and ((shares > 0).sum(axis=-1) <= 2).all()
    np.testing.assert_allclose(shares.sum(axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(shares @ levels, x, atol=1e-5)
    np.testing.assert_array_equal(split_brain.soft_levels(np.array([-9], "float32"), levels), [[1, 0, 0, 0, 0, 0, 0]])


def test_explained_is_1_for_the_truth_and_0_for_the_mean() -> None:
    true = np.random.default_rng(0).normal(3, 2, (50, 4))
    assert split_brain.explained(true, true) == 1
    assert split_brain.explained(np.broadcast_to(true.mean(axis=0), true.shape), true) == pytest.approx(0, abs=1e-9)


# -- what they share --------------------------------------------------------------------------------------------------


def test_networks_get_l_a_and_b_about_standardised(rgb: np.ndarray) -> None:
    images = augment.to_float(rgb)
    space = StandardizedLab(*augment.channel_statistics(images))
    x = augment.standardize(images, space.mean, space.deviation)
    lab = space(Tensor(x)).data
    np.testing.assert_allclose(lab * [20, 10, 10] + [50, 0, 0], augment.rgb_to_lab(images), atol=1e-3)
    assert lab.dtype == np.float32 and space(Tensor(x.astype("float64"))).dtype == np.float64
    with pytest.raises(ValueError, match="no gradient flows back to RGB"):
        space(Tensor(x, requires_grad=True))


@pytest.mark.parametrize(("side", "stem"), [(16, "halving"), (22, "imagenet"), (24, "cifar")])
def test_any_size_and_stem(side: int, stem: Any) -> None:
    images = np.random.default_rng(0).random((4, side, side, 3), dtype=np.float32)
    for chapter in (Colorization, SplitBrain):
        method = make(chapter, images, stem=stem)
        given = method.forward(Tensor(method.prepare(images)))
        assert given.shape[:3] == (4, side // 4, side // 4)
        assert np.isfinite(method.loss(method.views({"images": images}, random.seed(0))).item())


# -- both -------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_split_is_refused_with_a_remedy(rgb: np.ndarray, s2: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"colorization: expected RGB .* got 13 .*; choose the bands of red, green"):
        make(Colorization, s2)
    with pytest.raises(ValueError, match=r"--split lab: expected RGB .* got 13 .* run split_brain --split spectral"):
        make(SplitBrain, s2)
    with pytest.raises(ValueError, match=r"13 bands, B1 to B12, got 3 channels; for RGB run it with --split lab"):
        make(SplitBrain, rgb, split="spectral")
    for settings in ({"width": 5}, {"classes": 1}):
        with pytest.raises(ValueError, match="an even --width, for two halves, and at least 2 --classes, got"):
            make(SplitBrain, rgb, **settings)


PICTURES = {"curve.png", "examples.png", "embedding.png"}


@pytest.mark.parametrize(
    ("line", "picture"),
    [
        ("colorization", "colours.png"),
        ("split_brain", "predictions.png"),
        ("split_brain --split spectral", "predictions.png"),
    ],
)
def test_a_run(line: str, picture: str, tmp_path: Path) -> None:
    settings = "--scenes 60 --image-size 16 --epochs 1 --batch-size 16 --width 4 --workers 0"
    main([*line.split(), *settings.split(), "--out", str(tmp_path)])
    assert {file.name for file in tmp_path.glob("*.png")} == PICTURES | {picture}
    results = json.loads((tmp_path / "results.json").read_text())
    assert all(np.isfinite(value) for value in results["measured"].values())
    assert set(results["probes"]["linear"]) == {"pretrained", "random", "pixels", "supervised"}


@pytest.mark.parametrize("split", [None, *SPLITS])
def test_a_step_on_cupy_equals_numpy(split: str | None, cupy: backend.Backend) -> None:
    losses = []
    images = np.random.default_rng(0).random((4, 16, 16, 13 if split == "spectral" else 3), dtype=np.float32)
    for place in ("numpy", "cupy"):
        with backend.use(place):
            method = make(SplitBrain, images, split=split) if split else make(Colorization, images)
            optimizer = make_optimizer(method, method.config)
            views = method.views({"images": images}, random.seed(1))
            losses.append([method.training_step(views, optimizer)["loss"] for _ in range(2)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
