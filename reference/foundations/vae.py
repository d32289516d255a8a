"""Variational autoencoder: a code that is a region, not a point, so that every point of the code space is an image.

The encoder gives for each image a Gaussian over codes, from which one is drawn; the decoder rebuilds the image of it:

    μ, log σ² = encode(x)      z = μ + σ ε,  ε ~ N(0, 1)      y = decode(z)
    loss = −log p(x|z) + β KL(N(μ, σ²) ‖ N(0, 1))            −log p(x|z) = ½ Σ (x − y)²  + a constant

Notice the balance. The likelihood p(x|z) is a Gaussian of deviation 1 around y, per number of the standardised image,
and both terms are sums in nats per image: at β = 1 the loss is the bound on −log p(x) itself. Another β is the bound
for a likelihood of deviation √β, which is 0.32 by default. Smaller, and reconstructions are sharper; larger, and
numbers of z whose KL is no longer worth its price fall silent ("numbers in use"). What the code does not say the
decoder averages over: that is the blur. An autoencoder that is wide enough copies its input; here the noise on z sets
a price on every nat, whatever the width.

Notice too what the KL does not see to. It pulls the code of each image, number by number; all codes together need not
be N(0, 1). Here several numbers share what matters most, the brightness, and a z whose numbers are drawn apart averages
some of it away: images of N(0, 1) differ half as much as real ones, those of a Gaussian that is fitted to the codes
nearly as much ("variety", `samples.png`).

(Kingma and Welling, 2014, "Auto-Encoding Variational Bayes"; β: Higgins et al., 2017, "beta-VAE"; the
fitted Gaussian: Ghosh et al., 2020, "From Variational to Deterministic Autoencoders")

Differs from the paper: convolutions with batch norm in place of one hidden layer, Adam in place of Adagrad, and, since
images from above have no up, random flips and quarter turns. On the slide the VAE is but a name, a cure for copying.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from minissl import augment, backend, losses, models, nn, random, viz
from minissl.data import DataSet, evenly
from minissl.data.loader import Batch
from minissl.evaluation import extract
from minissl.models.vae import gaussian_noise
from minissl.optim import Optimizer
from minissl.tensor import Tensor
from reference.method import Inputs, Method, visible
from reference.report import reduced
from reference.settings import Settings


@dataclass(kw_only=True)
class Config(Settings):
    """The variational autoencoder's settings."""

    # Numbers in the code z; those that the images do not need fall silent
    latent: int = 32
    # Channels of the first convolution; each further one has twice as many
    width: int = 16
    # Halvings of the image's side, which 2^depth must divide
    depth: int = 3
    # β: the price of a nat in the code, in nats of the image
    beta: float = 0.1
    # Flips and quarter turns, for images from above
    turns: bool = True
    # Side of an image in pixels; folders are resized to it, scenes generated at it
    image_size: int = 32
    # How many scenes to generate; other data come as they are
    scenes: int = 6000
    # How often every training image is seen
    epochs: int = 40
    # Images in a step; small, for many steps
    batch_size: int = 16
    # Update rule
    optimizer: Literal["sgd", "lars", "adam", "adamw"] = "adam"
    # Peak of the learning rate, reached after the warm-up; then half a cosine down to 0
    learning_rate: float = 1e-3
    # L2 penalty on matrices and kernels (biases and norm layers have none)
    weight_decay: float = 0.0


class VariationalAutoencoder(Method):
    """encoder of μ and σ, decoder, and the bound between them."""

    settings = Config
    config: Config
    encoder: "Mean"

    def __init__(self, config: Config, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        vae = models.VAE(config.image_size, inputs.channels, config.width, config.depth, config.latent)
        self.encoder = Mean(vae)

    @property
    def vae(self) -> models.VAE:
        return self.encoder.vae

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[backend.Array, backend.Array]:
        images = self.raw(batch)  # (N, H, W, C)
        if self.config.turns:
            images = augment.quarter_turns(augment.horizontal_flip(images, rng), rng)
        return self.standardize(images), gaussian_noise(len(images), self.config.latent, rng)

    def terms(self, views: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """The two sides of the balance, in nats per image: ½ Σ (x − y)² and KL."""
        x, noise = views  # (N, H, W, C), (N, latent)
        y, mu, log_var = self.vae(Tensor(x), noise)
        return 0.5 * ((y - x) ** 2).sum() / len(x), losses.gaussian_kl(mu, log_var)

    def training_step(self, views: tuple[Any, ...], optimizer: Optimizer) -> dict[str, float]:
        """One update, as of every method; both terms are logged beside their sum."""
        reconstruction, kl = self.terms(views)
        loss = reconstruction + self.config.beta * kl
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return {"loss": loss.item(), "reconstruction": reconstruction.item(), "KL": kl.item()}

    def measure(self, parts: dict[str, DataSet], out: Path) -> dict[str, float]:
        """Both terms on test images, each code at its mean μ; how many numbers of the code say anything; and whether
        random codes give images that differ as much as real ones do.
        """
        images = parts["test"]["images"]
        x = extract(nn.Identity(), images, self.prepare)  # (n, H·W·C)
        mu, log_var = self.codes(images)  # (n, latent)
        y = extract(self.vae.decoder, mu, lambda z: z)
        kl = 0.5 * (mu**2 + np.exp(log_var) - 1 - log_var).mean(axis=0)  # (latent,)

        rng = random.seed(self.config.seed)
        prior = rng.standard_normal((500, self.config.latent), "float32")
        train_mu, train_log_var = self.codes(parts["train"]["images"])
        z = train_mu + np.exp(0.5 * train_log_var) * rng.standard_normal(train_mu.shape, "float32")
        fitted = rng.multivariate_normal(z.mean(axis=0), np.cov(z.T), 500).astype(np.float32)
        chosen = evenly(len(images), 500)
        real = visible(reduced(images[chosen], self.config.image_size))
        samples = {"N(0, 1)": self.decoded(prior), "fitted Gaussian": self.decoded(fitted)}
        self.draw(real, mu[chosen], samples, out)
        return {
            "reconstruction of test images, nats": float(0.5 * ((x - y) ** 2).sum(axis=1).mean()),
            "KL of test images, nats": float(kl.sum()),
            f"numbers in use (KL above 0.1), of {self.config.latent}": int((kl > 0.1).sum()),
        } | {
            f"variety, {name} / real": float(made.std(axis=0).mean() / real.std(axis=0).mean())
            for name, made in samples.items()
        }

    def codes(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """μ and log σ² (n, latent) of stored images."""
        mu, log_var = np.split(extract(self.vae.encoder, images, self.prepare), 2, axis=1)
        return mu, log_var

    def draw(self, real: np.ndarray, mu: np.ndarray, samples: dict[str, np.ndarray], out: Path, steps: int = 9) -> None:
        """Test images above what is left of them; images of random codes; and a plane of codes."""
        shown = evenly(len(real), 10)
        rows = [list(real[shown]), list(self.decoded(mu[shown]))]
        title = f"Through a code of {self.config.latent} numbers, at beta = {self.config.beta:g}"
        viz.image_grid(rows, out / "reconstructions.png", ["test image", "rebuilt from its mean code"], title=title)

        rows = [list(made[i : i + 10]) for made in samples.values() for i in (0, 10)]
        titles = [f"z ~ {name}" for name in samples for _ in range(2)]
        viz.image_grid(rows, out / "samples.png", titles, title="Nobody took these pictures: decoded from random codes")

        A, B, C = mu[furthest(mu)]
        u = np.linspace(0, 1, steps, dtype=np.float32)[:, None]
        rows = [list(self.decoded(A + u * (B - A) + v * (C - A))) for v in u]  # z = A + u (B − A) + v (C − A)
        across, down = (["A", *[""] * (steps - 2), end] for end in "BC")
        title = "The plane of codes through three test images, A (top left), B (top right) and C (bottom left)"
        viz.image_grid(rows, out / "walk.png", down, across, title)

    def decoded(self, z: np.ndarray) -> np.ndarray:
        """Codes (n, latent) as images to look at, (n, H, W, 1 or 3)."""
        shape = (len(z), self.config.image_size, self.config.image_size, self.inputs.channels)
        y = extract(self.vae.decoder, z, lambda codes: codes).reshape(shape)
        return visible(augment.unstandardize(y, self.inputs.mean, self.inputs.deviation))


class Mean(nn.Module):
    """What probes read: images (N, H, W, C) to μ (N, latent), without the noise."""

    def __init__(self, vae: models.VAE) -> None:
        self.vae = vae

    def forward(self, x: Tensor) -> Tensor:
        return self.vae.features(x)


def furthest(codes: np.ndarray) -> list[int]:
    """Three rows of `codes` far apart: the longest, the one furthest from it, and the one furthest from both."""
    first = int((codes**2).sum(axis=1).argmax())
    to_first = np.linalg.norm(codes - codes[first], axis=1)
    second = int(to_first.argmax())
    third = int(np.minimum(to_first, np.linalg.norm(codes - codes[second], axis=1)).argmax())
    return [first, second, third]
