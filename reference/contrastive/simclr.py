"""SimCLR: two augmented views of an image must find each other among all views of the batch.

An encoder f gives the representation h = f(x), a small head g the embedding z = g(h) in which views are compared.
For the 2N views of a batch of N images, and each pair (i, j) of views of one image:

    ℓ(i, j) = −log  e^{sim(z_i, z_j)/τ} / Σ_{k≠i} e^{sim(z_i, z_k)/τ}        sim = cosine

Notice that there are no labels, and nothing but the augmentations says what should not matter: a network told that
colour, scale and place are irrelevant keeps what survives them. Probes read h and not z: the head takes the loss's
demand for invariance upon itself, and h keeps more. When everything collapses to one point the loss is log(2N − 1).

(Chen, Kornblith, Norouzi and Hinton, 2020, "A Simple Framework for Contrastive Learning of Visual Representations")

Differs from the paper: a ResNet-18 of width 16 with a 3x3 stem at stride 2 in place of a ResNet-50, for images of 64
pixels; SGD by default, LARS by choice (the paper's batches have 4,096 images); blur of up to 1 pixel; and, since images
from above have no up, vertical flips and quarter turns beside the horizontal flip.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from minissl import augment, backend, losses, models, nn, ops
from minissl.data.loader import Batch
from minissl.models.resnet import Stem
from minissl.tensor import Tensor
from reference.method import Inputs, Method
from reference.settings import Settings


@dataclass(kw_only=True)
class Config(Settings):
    """SimCLR's settings."""

    # τ: the smaller, the more the nearest negatives count
    temperature: float = 0.3
    # Head g between representation h and loss: none, one linear layer, or an MLP with one hidden layer
    head: Literal["none", "linear", "nonlinear"] = "nonlinear"
    # Size D of the embedding z (with a head)
    embedding: int = 128
    # Channels of the ResNet-18's first stage; h has 8 times as many
    width: int = 16
    # First layer: imagenet (7x7, output stride 4), halving (3x3, stride 2) or cifar (3x3, stride 1)
    stem: Stem = "halving"
    # Smallest part of the image's area that a crop keeps
    crop: float = 0.25
    # Strength of brightness, contrast and saturation jitter; hue has a quarter of it
    jitter: float = 0.4
    # Probability of turning a view grey
    grey: float = 0.2
    # Probability of blurring a view
    blur: float = 0.5
    # Vertical flips and quarter turns, for images from above
    turns: bool = True


class SimCLR(Method):
    """encoder f, head g, and the loss between two views."""

    settings = Config
    config: Config

    def __init__(self, config: Config, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        self.encoder = models.resnet18(config.width, inputs.channels, config.stem)
        self.head = projection_head(config.head, self.encoder.out_features, config.embedding)
        self.references = {"log(2N − 1), collapsed": math.log(2 * config.batch_size - 1)}

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[backend.Array, backend.Array]:
        images = self.raw(batch)  # (N, H, W, C)
        return self.view(images, rng), self.view(images, rng)

    def view(self, images: backend.Array, rng: np.random.Generator) -> backend.Array:
        """One random view of each image: (N, H, W, C) in [0, 1] to (N, H, W, C) standardised."""
        c = self.config
        images = augment.random_resized_crop(images, rng, scale=(c.crop, 1.0))
        images = augment.horizontal_flip(images, rng)
        if c.turns:
            images = augment.quarter_turns(augment.vertical_flip(images, rng), rng)
        hue = c.jitter / 4 if images.shape[-1] == 3 else 0.0
        images = augment.color_jitter(images, rng, c.jitter, c.jitter, c.jitter, hue)
        images = augment.grayscale(images, rng, c.grey)
        images = augment.gaussian_blur(images, rng, (0.1, 1.0), c.blur)
        return self.standardize(images)

    def loss(self, views: tuple[Any, ...]) -> Tensor:
        x = ops.concatenate(list(views))  # (2N, H, W, C): both views share one pass and its batch statistics
        h = self.encoder(x)  # (2N, 8·width)
        z = self.head(h)  # (2N, D)
        z1, z2 = ops.split(z, 2)
        return losses.nt_xent(z1, z2, self.config.temperature)


def projection_head(kind: str, features: int, embedding: int) -> nn.Module:
    """g: nothing, z = W h, or z = W₂ relu(W₁ h) with normalized hidden units."""
    if kind == "none":
        return nn.Identity()
    if kind == "linear":
        return nn.Linear(features, embedding)
    return models.mlp(features, features, embedding, batch_norm=True)
