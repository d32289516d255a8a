"""Autoencoders: that they learn, what an over-wide one copies and a denoising one cannot, and phases layer by layer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minissl import augment, nn, random
from minissl.data import DataSet, scenes
from minissl.tensor import Tensor
from reference.foundations import autoencoder
from reference.foundations.autoencoder import Autoencoder
from reference.foundations.denoising import Denoising
from reference.method import Inputs, Method
from reference.report import reduced
from reference.trainer import make_optimizer, train
from reference.transfer import fine_tune

SIDE = 8
D = SIDE * SIDE * 3
TINY = {"side": SIDE, "width": 12, "batch_size": 16, "workers": 0}


@pytest.fixture(scope="module")
def data() -> DataSet:
    found = scenes.generate(60, 16)
    found.arrays["images"] = reduced(found["images"], SIDE)
    return found


def make(data: DataSet, chapter: Any, **settings: Any) -> Any:
    random.seed(0)
    config = chapter.settings(**TINY | settings)
    return chapter(config, Inputs(3, *augment.channel_statistics(data["images"]), data.classes))


def parts(data: DataSet) -> dict[str, DataSet]:
    return {part: data.part(part) for part in ("train", "validation", "test")}


def set_weights(layer: nn.Linear, W: np.ndarray) -> None:
    layer.weight.data = W.astype(np.float32)
    assert layer.bias is not None
    layer.bias.data = np.zeros(W.shape[1], np.float32)


def steps(method: Method, data: DataSet, count: int) -> list[float]:
    """The loss of each of `count` steps, on ever new noise."""
    optimizer = make_optimizer(method, method.config)
    batch = {"images": data["images"][:32]}
    return [method.training_step(method.views(batch, random.seed(1, i)), optimizer)["loss"] for i in range(count)]


# The plain autoencoder


@pytest.mark.parametrize("kind", ["linear", "dense", "conv"])
def test_the_error_falls(kind: Any, data: DataSet) -> None:
    losses = steps(make(data, Autoencoder, kind=kind, latent=16, width=32, learning_rate=3e-3), data, 30)
    assert losses[0] > 0.8 and losses[-1] < 0.6 * losses[0], losses[::10]


def test_data_are_reduced_when_they_are_opened() -> None:
    for chapter in (Autoencoder, Denoising):
        opened = chapter.open_data(chapter.settings(scenes=12, image_size=16, **TINY))
        images = opened["images"]
        assert images.shape == (12, SIDE, SIDE, 3) and images.dtype == np.float32
        expected = augment.resize(augment.to_float(scenes.generate(12, 16)["images"]), SIDE)
        np.testing.assert_allclose(images, expected, atol=1e-6)
        assert images.min() >= 0 and images.max() <= 1


def test_an_over_wide_linear_autoencoder_can_be_the_identity(data: DataSet) -> None:
    method = make(data, Autoencoder, kind="linear", latent=D + 20)
    identity = np.eye(D, D + 20)
    set_weights(method.encoder[1][0], identity)
    set_weights(method.decoder[0], identity.T)
    assert method.loss(method.views({"images": data["images"]}, random.seed(0))).item() == 0


def test_unexplained_variance_and_principal_components() -> None:
    x = np.random.default_rng(0).normal(3, 1, (200, 5)) * [8, 4, 1, 1, 1]
    assert autoencoder.unexplained(x, x) == 0
    assert autoencoder.unexplained(x, x.mean(axis=0)) == pytest.approx(1)
    lost = [autoencoder.unexplained(x, autoencoder.principal(x, x, count)) for count in (1, 2, 5)]
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T))[::-1]
    np.testing.assert_allclose(lost, [1 - eigenvalues[:n].sum() / eigenvalues.sum() for n in (1, 2, 5)], atol=1e-9)


def test_what_the_autoencoder_measures(data: DataSet, tmp_path: Path) -> None:
    method = make(data, Autoencoder, kind="linear", latent=D)
    set_weights(method.encoder[1][0], np.eye(D))
    set_weights(method.decoder[0], np.eye(D))
    figures = method.eval().measure(parts(data), tmp_path)
    assert [figure.split(",")[0] for figure in figures] == ["unexplained variance"] * 3
    assert figures["unexplained variance, test images"] < 1e-9  # a copy loses nothing
    assert figures["unexplained variance, white noise"] < 1e-9
    assert (tmp_path / "reconstructions.png").exists()


# The denoising autoencoder


def identity_layer(data: DataSet, **settings: Any) -> Denoising:
    """x = relu(x) − relu(−x): a layer of 2D units that copies."""
    method = make(data, Denoising, layers=1, **settings | {"width": 2 * D})
    W = np.concatenate([np.eye(D), -np.eye(D)], axis=1)  # (D, 2D)
    set_weights(method.encoder.encoders[0], W)
    set_weights(method.encoder.decoders[0], W.T)
    return method


@pytest.mark.parametrize(("noise", "amount"), [("gaussian", 0.5), ("masking", 0.5), ("salt_and_pepper", 0.2)])
def test_a_copy_keeps_all_of_the_noise(noise: Any, amount: float, data: DataSet, tmp_path: Path) -> None:
    batch = {"images": data["images"]}
    plain = identity_layer(data, amount=0.0)
    assert plain.loss(plain.views(batch, random.seed(0))).item() == 0
    method = identity_layer(data, noise=noise, amount=amount)
    corrupted, x = method.views(batch, random.seed(0))
    left = ((corrupted.reshape(x.shape) - x) ** 2).mean() / x.var()
    assert left > 0.2
    assert method.loss((corrupted, x)).item() == pytest.approx(left, rel=1e-5)
    figures = method.denoise(data["images"], tmp_path)
    assert figures.pop("unexplained variance, clean images") == 0
    assert list(figures.values()) == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("noise", ["gaussian", "masking", "salt_and_pepper"])
def test_the_target_is_never_corrupted_and_a_constant(noise: Any, layer: int, data: DataSet) -> None:
    method = make(data, Denoising, layers=2, epochs=2, noise=noise)
    method.start_epoch(layer - 1)
    corrupted, h = method.views({"images": data["images"]}, random.seed(0))
    x = method.prepare(data["images"])
    expected = x.reshape(len(x), -1) if layer == 1 else method.encoder.encode(Tensor(x), 1).data
    np.testing.assert_array_equal(h, expected)
    assert (corrupted.reshape(h.shape) != h).mean() > 0.1
    method.loss((corrupted, h)).backward()
    moved = {name for name, parameter in method.named_parameters() if parameter.grad is not None}
    assert moved == {f"encoder.{half}.{layer - 1}.{p}" for half in ("encoders", "decoders") for p in ("weight", "bias")}


def test_the_error_falls_in_every_phase(data: DataSet) -> None:
    method = make(data, Denoising, layers=2, epochs=2, width=64, learning_rate=1e-3)
    for epoch in range(2):
        method.start_epoch(epoch)
        losses = steps(method, data, 60)
        assert losses[-1] < 0.7 * losses[0], (epoch, losses[::20])


def test_epochs_are_divided_over_the_layers(data: DataSet) -> None:
    method = make(data, Denoising, layers=3, epochs=7)
    layers = []
    for epoch in range(7):
        method.start_epoch(epoch)
        layers.append(method.layer)
    assert layers == [1, 1, 1, 2, 2, 3, 3]
    with pytest.raises(ValueError, match="--epochs: expected at least one for each of 3 layers, got 2"):
        make(data, Denoising, layers=3, epochs=2)


def weights(method: Method) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in method.state_dict().items()}


def test_a_finished_layer_stands_still(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, bytes]] = []
    monkeypatch.setattr(Denoising, "end_epoch", lambda self, epoch, out: seen.append(weights(self)))
    method = make(data, Denoising, layers=2, epochs=4, optimizer="adamw", weight_decay=0.1)
    train(method, data, method.config, tmp_path)
    first, second = ({name for name in seen[0] if name.split(".")[2] == layer} for layer in "01")
    changed = [{name for name in seen[0] if seen[i][name] != seen[i + 1][name]} for i in range(3)]
    assert changed == [first, second, second]
    assert first | second == set(seen[0]) and len(first) == len(second) == 4


def test_resumed_in_the_middle_of_a_phase_it_ends_with_the_same_bits(data: DataSet, tmp_path: Path) -> None:
    settings = {"layers": 2, "epochs": 4}
    whole = make(data, Denoising, **settings)
    (tmp_path / "whole").mkdir()
    train(whole, data, whole.config, tmp_path / "whole")

    class Dying(Denoising):
        def start_epoch(self, epoch: int) -> None:
            super().start_epoch(epoch)
            if epoch == 3:  # layer 2 has one of its two epochs behind it
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(make(data, Dying, **settings), data, whole.config, tmp_path)
    resumed = make(data, Denoising, **settings)
    train(resumed, data, resumed.config, tmp_path)
    assert weights(resumed) == weights(whole)


def test_the_same_rate_for_every_layer(data: DataSet, tmp_path: Path) -> None:
    method = make(data, Denoising, layers=2, epochs=2)
    progress = train(method, data, method.config, tmp_path)
    assert [line["learning_rate"] for line in progress.history] == [method.config.learning_rate] * 2


def test_what_the_denoising_autoencoder_measures(data: DataSet, tmp_path: Path) -> None:
    method = make(data, Denoising, layers=2)
    steps(method, data, 1)
    figures = method.measure(parts(data), tmp_path)
    assert len(figures) == 4 and all(value >= 0 for value in figures.values())
    assert {file.name for file in tmp_path.glob("*.png")} == {"denoising.png", "filters.png"}


def test_it_is_fine_tuned_with_a_tenth_and_with_all_of_the_labels(data: DataSet, tmp_path: Path) -> None:
    method = make(data, Denoising, layers=2, fine_tune_epochs=1)
    before = weights(method)
    found = fine_tune(Denoising, method, parts(data), method.config, tmp_path)
    assert weights(method) == before  # on a copy
    assert {part: list(accuracies) for part, accuracies in found.items()} == (
        {"10%": ["pretrained", "random"], "100%": ["pretrained", "random"]}
    )
