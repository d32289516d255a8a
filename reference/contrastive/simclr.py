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

from minissl import losses, models, nn, ops
from minissl.tensor import Tensor
from reference import contrast
from reference.method import Inputs

CHUNK = 512  # images whose rows of the similarity matrix are in memory at a time


@dataclass(kw_only=True)
class Config(contrast.Config):
    """SimCLR's settings."""

    # τ: the smaller, the more the nearest negatives count
    temperature: float = 0.3
    # Head g between representation h and loss: none, one linear layer, or an MLP with one hidden layer
    head: Literal["none", "linear", "nonlinear"] = "nonlinear"
    # Size D of the embedding z (with a head)
    embedding: int = 128


class SimCLR(contrast.Contrastive):
    """encoder f, head g, and the loss between two views."""

    settings = Config
    config: Config

    def __init__(self, config: Config, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        self.head = projection_head(config.head, self.encoder.out_features, config.embedding)
        self.references = {"log(2N − 1), collapsed": math.log(2 * config.batch_size - 1)}

    def embed(self, views: tuple[Any, ...]) -> tuple[Tensor, ...]:
        x = ops.concatenate(list(views))  # (2N, H, W, C): both views share one pass and its batch statistics
        h = self.encoder(x)  # (2N, 8·width)
        z = self.head(h)  # (2N, D)
        return tuple(ops.split(z, 2))

    def compare(self, z1: Tensor, z2: Tensor) -> Tensor:
        return losses.nt_xent(z1, z2, self.config.temperature, chunk=CHUNK if len(z1) > CHUNK else None)


def projection_head(kind: str, features: int, embedding: int) -> nn.Module:
    """g: nothing, z = W h, or z = W₂ relu(W₁ h) with normalized hidden units."""
    if kind == "none":
        return nn.Identity()
    if kind == "linear":
        return nn.Linear(features, embedding)
    return models.mlp(features, features, embedding, batch_norm=True)
