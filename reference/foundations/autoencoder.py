"""Autoencoder: squeeze an image through a narrow code, rebuild it, and compare.

An encoder f and a decoder g learn together, and the image is its own target:

    z = f(x)      y = g(z)      loss = ‖y − x‖², mean over the numbers of x

Notice the size of z. Narrower than the image, the code has to keep what images have in common; the tutorial's goal is
that it does so as a manifold on which classes come apart. Wider than the image ("depth > input dim" on the slide means
this width), a copy is the best answer: with f(x) = [x, 0] and g its inverse the loss is 0 and nothing is learned. Try
`--kind linear --latent 1200`, for images of 768 numbers, beside `--latent 8`. How far a network has gone from images to
copying shows in white noise, which no narrow code can keep: the lower rows of `reconstructions.png`. That little of the
image is lost does not mean that the code is of use: compare the probes with those of pixels, which lose nothing.

(Hinton and Salakhutdinov, 2006, "Reducing the Dimensionality of Data with Neural Networks")

Differs from the paper: ReLU and Adam from random weights, where the paper has logistic units, trained layer by layer as
restricted Boltzmann machines first; images reduced to a few pixels a side; convolutional forms beside the paper's, of
which `resnet` (with `--side 64 --width 16`) has the encoder of the later chapters. With `--masking` the encoder sees a
part of the numbers only, and the whole is asked for: `denoising` in one phase instead of layer by layer.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from minissl import augment, backend, losses, models, nn, random, viz
from minissl.data import DataSet, evenly
from minissl.data.loader import Batch
from minissl.evaluation import extract
from minissl.tensor import Tensor
from reference.method import Inputs, Method
from reference.report import reduced
from reference.settings import Settings


@dataclass(kw_only=True)
class Config(Settings):
    """The autoencoder's settings."""

    # Side to which images are reduced before anything else; a multiple of 8 for conv, of 16 for resnet
    side: int = 16
    # Without hidden layers, with a hidden layer of ReLU on either side of the code, convolutional, or a ResNet-18
    kind: Literal["linear", "dense", "conv", "resnet"] = "dense"
    # Numbers in the code z, above side² · channels wider than the image; resnet has 8 · width
    latent: int = 64
    # Units of each hidden layer (dense), or channels of the first convolution (conv, resnet: 16 will do)
    width: int = 512
    # Part of the numbers that the encoder gets as 0, while the target stays whole: a denoising autoencoder
    masking: float = 0.0
    # How often every training image is seen
    epochs: int = 60
    # Update rule
    optimizer: Literal["sgd", "lars", "adam", "adamw"] = "adam"
    # Peak of the learning rate, reached after the warm-up; then half a cosine down to 0
    learning_rate: float = 1e-3
    # L2 penalty on matrices and kernels (biases and norm layers have none)
    weight_decay: float = 0.0


class Autoencoder(Method):
    """encoder f, decoder g, and the error of g(f(x))."""

    settings = Config
    config: Config

    def __init__(self, config: Config, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        side, C, width = config.side, inputs.channels, config.width
        self.code = 8 * width if config.kind == "resnet" else config.latent
        if config.kind == "resnet":
            self.encoder = models.resnet18(width, C, "halving")
            self.decoder: nn.Module = models.ConvDecoder(side, C, width, 4, self.code)
        elif config.kind == "conv":
            conv = models.ConvAutoencoder(side, C, width, 3, config.latent)
            self.encoder, self.decoder = conv.encoder, conv.decoder
        else:
            deep = models.DeepAutoencoder(side**2 * C, (width,) if config.kind == "dense" else (), config.latent)
            self.encoder, self.decoder = nn.Sequential(Rows(), deep.encoder), deep.decoder
        self.references = {"the mean image for all": 1.0}

    @classmethod
    def open_data(cls, config: Config) -> DataSet:
        images = super().open_data(config)
        images.arrays["images"] = reduced(images["images"], config.side)
        return images

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[backend.Array, backend.Array]:
        x = self.standardize(self.raw(batch))  # (N, H, W, C), of variance 1
        return augment.corrupt(x, rng, "masking", self.config.masking), x

    def loss(self, views: tuple[Any, ...]) -> Tensor:
        seen, x = views
        z = self.encoder(Tensor(seen))  # (N, latent)
        y = self.decoder(z).reshape(x.shape)
        return losses.mse(y, x)

    def measure(self, parts: dict[str, DataSet], out: Path) -> dict[str, float]:
        """The part of the variance that is lost on the way, for images and for white noise, and the least that any
        linear code of this size loses: principal components.
        """
        network = nn.Sequential(self.encoder, self.decoder)
        train, x = (extract(nn.Identity(), parts[part]["images"], self.prepare) for part in ("train", "test"))  # (n, D)
        y = extract(network, parts["test"]["images"], self.prepare)
        shape = parts["test"]["images"].shape
        noise = random.seed(self.config.seed).standard_normal(shape, dtype="float32")
        rebuilt_noise = extract(network, noise, lambda images: images)
        self.draw([x, y, noise, rebuilt_noise], shape, out)
        return {
            "unexplained variance, test images": unexplained(x, y),
            f"unexplained variance, {self.code} principal components": unexplained(x, principal(train, x, self.code)),
            "unexplained variance, white noise": unexplained(noise.reshape(len(noise), -1), rebuilt_noise),
        }

    def draw(self, rows: list[np.ndarray], shape: tuple[int, ...], out: Path, count: int = 8) -> None:
        mean, deviation = self.inputs.mean, self.inputs.deviation
        shown = evenly(len(rows[0]), count)
        images = [augment.unstandardize(row[shown].reshape(-1, *shape[1:]), mean, deviation) for row in rows]
        grid = np.stack([self.picture(row) for row in images])  # (4, count, H, W, 3)
        titles = ["test image", "rebuilt", "white noise", "rebuilt"]
        numbers = shape[1] * shape[2] * shape[3]
        title = f"{numbers} numbers through a code of {self.code}"
        viz.image_grid(grid, out / "reconstructions.png", titles, title=title)


class Rows(nn.Module):
    """Images (N, H, W, C) as rows (N, H·W·C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1)


def unexplained(x: np.ndarray, y: np.ndarray) -> float:
    """Σ(x − y)² / Σ(x − x̄)² for rows (N, D): 0 is a perfect copy, 1 no better than the mean for every row."""
    return float(((x - y) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum())


def principal(train: np.ndarray, x: np.ndarray, count: int) -> np.ndarray:
    """x (N, D) rebuilt from its first `count` principal components, those of (up to 3,000) training rows."""
    mean = train.mean(axis=0)
    axes = np.linalg.svd(train[evenly(len(train), 3000)] - mean, full_matrices=False)[2][:count]  # (count, D)
    return (x - mean) @ axes.T @ axes + mean
