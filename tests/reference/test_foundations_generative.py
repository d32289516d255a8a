"""The VAE's two terms and its noise; the GAN's two gradients, which must not mix, and its fixed grid."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minissl import augment, backend, checkpoint, evaluation, losses, random
from minissl.data import DataSet, scenes
from minissl.optim import Adam, Optimizer
from minissl.tensor import Tensor
from reference.foundations import gan, vae
from reference.foundations.gan import GAN
from reference.foundations.vae import VariationalAutoencoder
from reference.method import Inputs, Method
from reference.trainer import Interrupted, make_optimizer, train

N = 16
SMALL: dict[str, Any] = {"image_size": 16, "latent": 6, "batch_size": N}


@pytest.fixture(scope="module")
def data() -> DataSet:
    return scenes.generate(2 * N, 16)


def make(chapter: type[Method], data: DataSet, **settings: Any) -> Any:
    random.seed(0)
    config = chapter.settings(**SMALL | {"width": 4} | settings)
    return chapter(config, Inputs(data.channels, *augment.channel_statistics(data["images"]), data.classes))


def first_batch(method: Method, data: DataSet) -> tuple[Any, ...]:
    return method.views({"images": data["images"][:N]}, random.seed(1))


class StillOptimizer(Optimizer):
    """Keeps the gradients of a step, and moves nothing."""

    def step(self) -> None:
        self.gradients: list[Any] = [None if p.grad is None else p.grad.copy() for p, _ in self._parameters()]


def gradients(method: GAN, views: tuple[Any, ...]) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """What a training step logs, and the gradient that it gives each parameter."""
    names = [name for name, _ in method.named_parameters()]
    optimizer = StillOptimizer(method.parameters(), 0.0)
    logged = method.training_step(views, optimizer)
    return logged, dict(zip(names, optimizer.gradients, strict=True))


# -- VAE --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 0.1, 3.0])
def test_the_loss_is_reconstruction_and_kl_in_nats_per_image(data: DataSet, beta: float) -> None:
    method = make(VariationalAutoencoder, data, beta=beta)
    x, noise = views = first_batch(method, data)
    y, mu, log_var = (t.data for t in method.vae(Tensor(x), noise))
    squares = [0.5 * ((x[n] - y[n]) ** 2).sum() for n in range(N)]
    kls = [0.5 * (mu[n] ** 2 + np.exp(log_var[n]) - 1 - log_var[n]).sum() for n in range(N)]
    logged = method.training_step(views, make_optimizer(method, method.config))
    assert logged["reconstruction"] == pytest.approx(np.mean(squares), rel=1e-4)
    assert logged["KL"] == pytest.approx(np.mean(kls), rel=1e-4)
    assert logged["loss"] == pytest.approx(np.mean(squares) + beta * np.mean(kls), rel=1e-4)


def test_the_vae_learns(data: DataSet) -> None:
    method = make(VariationalAutoencoder, data)
    optimizer, views = make_optimizer(method, method.config), first_batch(method, data)
    values = [method.training_step(views, optimizer)["loss"] for _ in range(30)]
    assert values[-1] < 0.7 * values[0]


def test_the_noise_is_the_steps_own(data: DataSet) -> None:
    method, batch = make(VariationalAutoencoder, data), {"images": data["images"][:N]}
    first, again, other = (method.views(batch, random.seed(s))[1] for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_the_vaes_probe_reads_the_mean(data: DataSet) -> None:
    method = make(VariationalAutoencoder, data).eval()
    images = data["images"][:N]
    mu = method.vae.encode(Tensor(method.prepare(images)))[0].data
    np.testing.assert_allclose(evaluation.extract(method.encoder, images, method.prepare), mu, atol=1e-5)


def test_three_codes_far_apart() -> None:
    codes = np.array([[0, 0], [9, 0], [8, 0], [-1, 7], [5, 3]], np.float32)
    assert sorted(vae.furthest(codes)) == [0, 1, 3]


# -- GAN --------------------------------------------------------------------------------------------------------------


def test_no_gradient_crosses_between_the_networks(data: DataSet) -> None:
    """D's gradient is that of its own loss alone, and G's that of its own."""
    method = make(GAN, data)
    x, z, noise = views = first_batch(method, data)
    n1, n2, n3 = method.sigma * noise
    _, found = gradients(method, views)
    assert all(p.requires_grad for p in (*method.G.parameters(), *method.D.parameters()))

    fake = method.G(Tensor(z))
    losses.gan_discriminator(method.D(Tensor(x + n1)), method.D(Tensor(fake.data + n2))).backward()
    assert all(p.grad is None for p in method.G.parameters())
    for name, parameter in method.D.named_parameters():
        np.testing.assert_array_equal(found[f"encoder.D.{name}"], parameter.grad)

    with gan.frozen(method.D):
        method.zero_grad()
        loss = losses.gan_generator(method.D(fake + n3))
    loss.backward()
    assert all(p.grad is None for p in method.D.parameters())
    for name, parameter in method.G.named_parameters():
        np.testing.assert_array_equal(found[f"G.{name}"], parameter.grad)


def test_where_d_wins_the_slides_generator_stands_still(data: DataSet) -> None:
    steepest = {}
    for saturating in (False, True):
        method = make(GAN, data, saturating=saturating)
        method.D.head.bias.data -= 20  # D is sure of everything: a fake
        logged, found = gradients(method, first_batch(method, data))
        assert logged["D(fake)"] < 1e-6
        steepest[saturating] = max(np.abs(g).max() for name, g in found.items() if name.startswith("G."))
    assert steepest[False] > 1e-4
    assert steepest[True] < 1e-6 * steepest[False]


def test_images_and_samples_lie_between_minus_1_and_1(data: DataSet) -> None:
    method = make(GAN, data, turns=False)
    x, z, _ = first_batch(method, data)
    np.testing.assert_allclose(x, data["images"][:N] / 127.5 - 1, atol=1e-6)
    assert np.abs(method.G(Tensor(z)).data).max() <= 1


def test_the_noise_fades(data: DataSet) -> None:
    """It begins at the setting and would be 0 after the last epoch; it is no part of the images themselves."""
    method = make(GAN, data, noise=0.4, epochs=4)
    levels = []
    for epoch in range(4):
        method.start_epoch(epoch)
        levels.append(method.sigma)
    np.testing.assert_allclose(levels, [0.4, 0.3, 0.2, 0.1])


def test_adam_forgets_as_dcgan_has_it(data: DataSet) -> None:
    method = make(GAN, data)
    optimizer = make_optimizer(method, method.config)
    assert isinstance(optimizer, Adam) and optimizer.betas == (0.5, 0.999)


def test_the_grid_of_noise_stays(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same z at every epoch and after a resume; drawing it changes nothing in the method."""
    method = make(GAN, data, epochs=2)
    start, seen = backend.to_host(method.grid.data).copy(), []
    generated = GAN.generated

    def watched(self: GAN, z: np.ndarray) -> np.ndarray:
        seen.append(z.copy())
        return generated(self, z)

    monkeypatch.setattr(GAN, "generated", watched)
    train(method, data, method.config, tmp_path)
    before = {name: array.copy() for name, array in method.state_dict().items()}
    again = make(GAN, data, epochs=3)
    again.grid.data = again.grid.data + 1  # the checkpoint's wins
    train(again, data, again.config, tmp_path)
    assert len(seen) == 3 and all(np.array_equal(z, start) for z in seen)
    method.end_epoch(1, tmp_path)
    for name, array in method.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    assert [file.name for file in sorted(tmp_path.glob("samples_epoch_*"))] == [
        f"samples_epoch_{epoch:04}.npy" for epoch in (1, 2, 3)
    ]
    assert (tmp_path / "progress.png").is_file()


# -- both -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chapter", [VariationalAutoencoder, GAN])
def test_an_interrupted_run_ends_with_the_same_bits(chapter: type[Method], data: DataSet, tmp_path: Path) -> None:
    whole = make(chapter, data, epochs=2)
    (tmp_path / "whole").mkdir()
    train(whole, data, whole.config, tmp_path / "whole")

    class Stopped(chapter):  # type: ignore[misc, valid-type]
        steps = 0

        def training_step(self, views: tuple[Any, ...], optimizer: Optimizer) -> dict[str, float]:
            self.steps += 1
            if self.steps == 4:
                raise Interrupted
            return super().training_step(views, optimizer)

    with pytest.raises(Interrupted):
        train(make(Stopped, data, epochs=2), data, whole.config, tmp_path)
    resumed = make(chapter, data, epochs=2)
    train(resumed, data, whole.config, tmp_path)
    expected = checkpoint.load(tmp_path / "whole" / "checkpoint.safetensors")[0]
    found = checkpoint.load(tmp_path / "checkpoint.safetensors")[0]
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("channels", [1, 3, 13])
@pytest.mark.parametrize("chapter", [VariationalAutoencoder, GAN])
def test_pictures_and_figures(chapter: type[Method], channels: int, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (N, 16, 16, channels), np.uint8)
    data = DataSet({"images": images})
    method = make(chapter, data).eval()
    measured = method.measure({"train": data, "test": data}, tmp_path)
    assert all(np.isfinite(value) for value in measured.values())
    expected = {"samples.png"} | ({"reconstructions.png", "walk.png"} if chapter is VariationalAutoencoder else set())
    assert {file.name for file in tmp_path.glob("*.png")} == expected


def test_variety_is_nothing_when_the_generator_makes_one_image(data: DataSet, tmp_path: Path) -> None:
    method = make(GAN, data).eval()
    for parameter in method.average_G.parameters():
        parameter.data = parameter.data * 0
    [variety] = method.measure({"train": data, "test": data}, tmp_path).values()
    assert variety == pytest.approx(0, abs=1e-6)
