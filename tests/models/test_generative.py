"""Autoencoders, the VAE, the GAN's two networks and the sequence classifier: shapes, stages, gradients, learning."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minissl import losses, nn, optim, random
from minissl.models.autoencoder import (
    ConvAutoencoder,
    ConvDecoder,
    ConvEncoder,
    DeepAutoencoder,
    StackedDenoisingAutoencoder,
)
from minissl.models.gan import Discriminator, Generator
from minissl.models.recurrent import SequenceClassifier
from minissl.models.vae import VAE, gaussian_noise, reparameterise
from minissl.tensor import Tensor, stop_gradient
from tests import modules

CHANNELS = [1, 3, 15]
CELLS: Any = ["rnn", "lstm", "gru"]


@pytest.fixture(autouse=True)
def numbers() -> np.random.Generator:
    random.seed(0)
    return np.random.default_rng(0)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return Tensor(np.random.default_rng(seed).standard_normal(shape, "float32"))


def train(net: nn.Module, loss: Callable[[], Tensor], steps: int, rate: float = 0.01) -> tuple[float, float]:
    """The loss at the first and at the last of these steps."""
    optimizer, values = optim.Adam(net.parameters(), rate), []
    for _ in range(steps):
        net.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        values.append(float(value.data))
    return values[0], values[-1]


def assert_all_learn(net: nn.Module, loss: Tensor) -> None:
    """Every parameter has a gradient that is not zero everywhere."""
    loss.backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


# -- autoencoders -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("C", CHANNELS)
@pytest.mark.parametrize("latent", [2, 500])
def test_the_deep_autoencoder_takes_images_and_rows(C: int, latent: int) -> None:
    net, x = DeepAutoencoder(4 * 6 * C, (10, 7), latent), normal(3, 4, 6, C)
    assert net.encode(x).shape == net.features(x).shape == (3, latent) and net.out_features == latent
    assert net.decode(net.encode(x)).shape == (3, 24 * C)
    assert net(x).shape == x.shape and net(x).dtype == "float32"
    np.testing.assert_array_equal(net(x.reshape(3, -1)).data, net(x).data.reshape(3, -1))
    assert [p.shape for p in net.encoder.parameters()[::2]] == [(24 * C, 10), (10, 7), (7, latent)]
    assert [p.shape for p in net.decoder.parameters()[::2]] == [(latent, 7), (7, 10), (10, 24 * C)]
    assert_all_learn(net, losses.mse(net(x), x))


def test_a_wide_code_learns_the_identity_and_a_narrow_one_cannot() -> None:
    x = normal(64, 6)
    wide, narrow = DeepAutoencoder(6, (), 12), DeepAutoencoder(6, (), 2)
    assert train(wide, lambda: losses.mse(wide(x), x), 200)[1] < 0.01
    assert train(narrow, lambda: losses.mse(narrow(x), x), 200)[1] > 0.3


def test_layers_of_the_stack_work_alone_and_together() -> None:
    net, x = StackedDenoisingAutoencoder((12, 7, 5)), normal(4, 2, 2, 3)
    flat = x.reshape(4, 12)
    np.testing.assert_array_equal(net.encode(x, 0).data, flat.data)
    first = np.maximum(flat.data @ net.encoders[0].weight.data + net.encoders[0].bias.data, 0)  # type: ignore[attr-defined]
    np.testing.assert_allclose(net.encode(x, 1).data, first, rtol=1e-5, atol=1e-6)
    assert net(x).shape == net.features(x).shape == (4, 5) and net.out_features == 5
    np.testing.assert_array_equal(net(x).data, net.encode(x, 2).data)
    assert net.reconstruct(flat, 1).shape == (4, 12) and net.reconstruct(net.encode(x, 1), 2).shape == (4, 7)

    losses.mse(net.reconstruct(stop_gradient(net.encode(x, 1)), 2), net.encode(x, 1)).backward()
    assert {name for name, p in net.named_parameters() if p.grad is not None} == {
        f"{half}.1.{part}" for half in ("encoders", "decoders") for part in ("weight", "bias")
    }


def test_the_stack_is_trained_layer_by_layer(numbers: np.random.Generator) -> None:
    structure = numbers.normal(size=(3, 12)).astype("float32")
    net = StackedDenoisingAutoencoder((12, 8, 4))
    x = Tensor(numbers.normal(size=(64, 3)).astype("float32") @ structure)
    for depth in (1, 2):
        h = stop_gradient(net.encode(x, depth - 1))
        kept = (numbers.random(h.shape) < 0.75).astype("float32")
        before, after = train(net, lambda: losses.mse(net.reconstruct(h * kept, depth), h), 60)  # noqa: B023
        assert after < 0.7 * before


@pytest.mark.parametrize("C", CHANNELS)
@pytest.mark.parametrize("image", [16, (8, 24)])
def test_the_convolutional_autoencoder(C: int, image: Any) -> None:
    net = ConvAutoencoder(image, C, 4, 3, 6)
    H, W = (image, image) if isinstance(image, int) else image
    x = normal(3, H, W, C)
    assert net.encode(x).shape == net.features(x).shape == (3, 6)
    assert net.decode(net.encode(x)).shape == net(x).shape == x.shape and net(x).dtype == "float32"
    assert net.encoder.stages == ("conv1", "conv2", "conv3", "latent")
    for i in (1, 2, 3):
        assert net.features(x, f"conv{i}").shape == (3, H >> i, W >> i, 2 << i)
    assert net.features(x, "latent").shape == (3, 6)
    assert_all_learn(net, losses.mse(net(x), x))


def test_the_convolutional_autoencoder_learns() -> None:
    net, x = ConvAutoencoder(8, 2, 4, 2, 16), normal(8, 8, 8, 2)
    before, after = train(net, lambda: losses.mse(net(x), x), 40)
    assert after < 0.6 * before


def test_gradients_of_the_convolutional_autoencoder(numbers: np.random.Generator) -> None:
    net = modules.random_parameters(ConvAutoencoder(4, 1, 1, 1, 2))
    modules.check_module(net, numbers.normal(size=(2, 4, 4, 1)), tolerance=1e-5)


def test_what_autoencoders_cannot_take_is_named() -> None:
    with pytest.raises(ValueError, match=r"DeepAutoencoder: expected .* of 12 numbers each, got"):
        DeepAutoencoder(12)(normal(2, 3, 3, 1))
    with pytest.raises(ValueError, match="expected the sizes of input and a layer"):
        StackedDenoisingAutoencoder((3,))
    stack = StackedDenoisingAutoencoder((3, 2))
    with pytest.raises(ValueError, match="encode: expected a depth from 0 to 1, got 2"):
        stack.encode(normal(2, 3), 2)
    with pytest.raises(ValueError, match="reconstruct: expected a depth from 1 to 1, got 0"):
        stack.reconstruct(normal(2, 3), 0)
    for make in (ConvEncoder, ConvDecoder):
        with pytest.raises(ValueError, match=r"sides that 16 = 2\^depth divides, got images of \(64, 60\)"):
            make((64, 60))
    with pytest.raises(ValueError, match=r"expected images \(N, 16, 16, C\), got"):
        ConvEncoder(16, 1, 2, 2)(normal(1, 16, 20, 1))


# -- variational ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("C", CHANNELS)
def test_the_vae(C: int, numbers: np.random.Generator) -> None:
    net, x, noise = VAE(16, C, 4, 2, 5), normal(3, 16, 16, C), gaussian_noise(3, 5, numbers)
    y, mu, log_var = net(x, noise)
    assert y.shape == x.shape and mu.shape == log_var.shape == net.features(x).shape == (3, 5)
    assert y.dtype == "float32" and net.sample(noise).shape == x.shape
    assert net.features(x, "conv2").shape == (3, 4, 4, 8)
    np.testing.assert_array_equal(net.features(x).data, mu.data)
    assert_all_learn(net, losses.mse(y, x) + (mu**2 + log_var.exp() - log_var).mean())


def test_codes_have_the_mean_and_deviation_they_should(numbers: np.random.Generator) -> None:
    mu, log_var = np.array([[1.0, -2.0]]), np.log(np.array([[0.25, 9.0]]))
    noise = gaussian_noise(20_000, 2, numbers)
    z = reparameterise(Tensor(mu), Tensor(log_var), noise).data
    np.testing.assert_allclose(z, mu + np.sqrt(np.exp(log_var)) * noise, rtol=1e-12)
    np.testing.assert_allclose(z.mean(axis=0), mu[0], atol=0.06)
    np.testing.assert_allclose(z.std(axis=0), [0.5, 3.0], rtol=0.02)


def test_the_gradient_passes_the_draw(numbers: np.random.Generator) -> None:
    noise = numbers.normal(size=(3, 2))
    arrays = [numbers.normal(size=(3, 2)) for _ in range(3)]
    _, mu, log_var = modules.gradients(lambda m, v: reparameterise(m, v, noise), *arrays)
    np.testing.assert_allclose(mu, arrays[0], rtol=1e-12)
    np.testing.assert_allclose(log_var, arrays[0] * noise * 0.5 * np.exp(0.5 * arrays[2]), rtol=1e-12)


def test_the_vae_learns(numbers: np.random.Generator) -> None:
    net, x = VAE(8, 1, 4, 2, 8), normal(8, 8, 8, 1)

    def loss() -> Tensor:
        y, mu, log_var = net(x, gaussian_noise(8, 8, numbers))
        return losses.mse(y, x) + 0.01 * (mu**2 + log_var.exp() - 1 - log_var).mean()

    before, after = train(net, loss, 40)
    assert after < 0.7 * before


# -- adversarial ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("C", CHANNELS)
@pytest.mark.parametrize(("image", "k"), [(8, 1), (32, 3)])
def test_the_generator_and_the_discriminator(C: int, image: int, k: int) -> None:
    G, D = Generator(6, image, C, 4), Discriminator(image, C, 4)
    images = G(normal(3, 6))
    assert images.shape == (3, image, image, C) and images.dtype == "float32" and abs(images).data.max() <= 1
    assert D(images).shape == (3,) and D.features(images).shape == (3, D.out_features) == (3, 4 << k - 1)
    assert D.stages == tuple(f"conv{i}" for i in range(1, k + 1))
    for i, name in enumerate(D.stages, 1):
        assert D.features(images, name).shape == (3, image >> i, image >> i, 4 << i - 1)
    assert_all_learn(G, (D(G(normal(3, 6))) ** 2).sum())
    D.zero_grad()
    assert_all_learn(D, (D(stop_gradient(images)) ** 2).sum())


def test_the_first_stage_has_a_slope_of_a_fifth_and_no_batch_norm(numbers: np.random.Generator) -> None:
    D, x = Discriminator(8, 2, 3), Tensor(numbers.normal(size=(2, 8, 8, 2)).astype("float32"))
    y = D.conv1(x).data
    np.testing.assert_allclose(D.features(x, "conv1").data, np.where(y > 0, y, 0.2 * y), rtol=1e-6)
    assert not any("conv1.1" in name for name in D.state_dict())


def test_the_generator_is_bounded_and_reaches_the_bounds() -> None:
    G = Generator(6, 8, 1, 2)
    G.parameters()[-1].data[:] = 50
    np.testing.assert_allclose(G(normal(3, 6)).data, 1, rtol=1e-6)


def test_weights_start_small() -> None:
    for net in (Generator(50, 16, 3, 32), Discriminator(16, 3, 32)):
        for _, p in net.named_parameters():
            assert p.ndim == 1 or 0.017 < p.data.std() < 0.023


def test_the_discriminator_learns_to_tell_bright_from_dark() -> None:
    D = Discriminator(8, 1, 4)
    real, fake = normal(8, 8, 8, 1) + 1.0, normal(8, 8, 8, 1, seed=1) - 1.0
    before, after = train(D, lambda: (D(fake) - D(real)).mean(), 10)
    assert after < before - 1


@pytest.mark.parametrize("make", [lambda side: Generator(image=side), lambda side: Discriminator(side)])
@pytest.mark.parametrize("side", [0, 4, 24, 65, 66])
def test_sides_that_are_not_four_doubled_are_named(make: Callable[[int], nn.Module], side: int) -> None:
    with pytest.raises(ValueError, match=f"expected an image side of 8, 16, 32, 64, ... pixels, got {side}"):
        make(side)


def test_other_inputs_of_the_two_are_named() -> None:
    with pytest.raises(ValueError, match=r"Generator: expected z \(N, 6\), got \(2, 5\)"):
        Generator(6, 8, 1, 2)(normal(2, 5))
    with pytest.raises(ValueError, match=r"Discriminator: expected images \(N, 8, 8, C\), got"):
        Discriminator(8, 1, 2)(normal(2, 16, 16, 1))


# -- sequences --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_sequences_become_their_last_state(cell: Any) -> None:
    net, x = SequenceClassifier(3, 5, 4, cell), normal(2, 6, 3)
    assert net(x).shape == (2, 4) and net.features(x).shape == (2, 5) and net.out_features == 5
    np.testing.assert_array_equal(net.features(x).data, net.recurrent(x).data[:, -1])
    np.testing.assert_array_equal(SequenceClassifier(3, 5, None, cell)(x).shape, (2, 5))
    assert_all_learn(net, (net(x) ** 2).sum())


@pytest.mark.parametrize("cell", CELLS)
def test_the_first_step_decides_and_is_remembered(cell: Any) -> None:
    net, x = SequenceClassifier(2, 8, 2, cell), normal(64, 4, 2)
    labels = (x.data[:, 0, 0] > 0).astype(int)
    before, after = train(net, lambda: losses.cross_entropy(net(x), labels), 60, 0.03)
    assert after < 0.4 * before


def test_other_cells_and_sequences_are_named() -> None:
    with pytest.raises(ValueError, match="expected a cell among rnn, lstm, gru, got 'tree'"):
        SequenceClassifier(3, cell="tree")  # type: ignore[arg-type]
    for shape in ((2, 3), (2, 5, 4), (2, 0, 3)):
        with pytest.raises(ValueError, match=r"SequenceClassifier: expected sequences \(N, T, 3\)"):
            SequenceClassifier(3)(normal(*shape))
