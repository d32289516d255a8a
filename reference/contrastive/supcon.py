"""SupCon: contrast with labels, where all images of the anchor's class are positives, and not only its other view.

SimCLR takes every other image for a negative, also those of the anchor's own class: false negatives. Labels tell which
they are, and turn them into positives. For the 2N views of a batch, P(i) being the other views of the anchor's class:

    L_i = −1/|P(i)| Σ_{p∈P(i)} log  e^{sim(z_i, z_p)/τ} / Σ_{k≠i} e^{sim(z_i, z_k)/τ}        sim = cosine

Notice what this is beside cross entropy: there is no classifier, only images that pull each other together, and each
class ends as a cluster on the sphere. With a class for every image it is SimCLR's loss. A class of which the batch has
one image loses nothing: its two views are still a pair. `--form in` takes the mean of the shares before the logarithm,
so that one near positive is enough; the authors find it the worse.

(Khosla et al., 2020, "Supervised Contrastive Learning")

Differs from the paper: a ResNet-18 of width 16 for images of 64 pixels; the loss is not multiplied by τ/0.07, as the
authors' code does. This chapter learns from all labels, so it stands beside an untrained encoder only.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from minissl import backend, losses, models, ops
from minissl.data.loader import Batch
from minissl.tensor import Tensor
from reference import contrast
from reference.method import Inputs


@dataclass(kw_only=True)
class Config(contrast.Config):
    """SupCon's settings."""

    # τ: the smaller, the more the nearest negatives count
    temperature: float = 0.1
    # Where the mean over positives stands: out of the logarithm, or in it
    form: Literal["out", "in"] = "out"
    # Size D of the embedding z
    embedding: int = 128


class SupCon(contrast.Contrastive):
    """encoder f, head g, and a loss that knows the labels."""

    settings = Config
    config: Config
    learns_from_labels = True

    def __init__(self, config: Config, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        features = self.encoder.out_features
        self.head = models.mlp(features, features, config.embedding, batch_norm=True)
        self.references = {"log(2N − 1), collapsed": math.log(2 * config.batch_size - 1)}

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[Any, ...]:
        return *super().views(batch, rng), backend.to_device(batch["labels"])

    def embed(self, views: tuple[Any, ...]) -> tuple[Tensor, ...]:
        *images, labels = views
        h = self.encoder(ops.concatenate(images))  # (2N, 8·width)
        z1, z2 = ops.split(self.head(h), 2)  # (N, D) each
        return z1, z2, as_embedding(labels)

    def compare(self, z1: Tensor, z2: Tensor, labels: Tensor) -> Tensor:
        y = labels.data[:, 0].astype("int64")
        z, y = ops.concatenate([z1, z2]), backend.of(y).xp.concatenate([y, y])  # (2N, D), (2N,)
        return losses.sup_con(z, y, self.config.temperature, self.config.form)


def as_embedding(labels: backend.Array) -> Tensor:
    """Class numbers (N,) as a column (N, 1) that goes from `embed` to `compare` beside the embeddings of its images."""
    return Tensor(labels.astype("float32")[:, None])
