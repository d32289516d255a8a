"""Negatives: SimCLR with four ways to treat the images below the fraction line, some of which are hidden positives.

Another image is a negative, whatever it shows. With K classes a share of about τ⁺ = 1/K of them has the anchor's own
class and is pushed away all the same: sampling bias. And of the true ones, only those near the anchor teach something.
With pos = e^{sim/τ} of an anchor's two views, and M negatives n_k = e^{sim_k/τ}:

    biased      −log pos / (pos + Σ_k n_k)                              SimCLR
    debiased    −log pos / (pos + M g),  g = (mean_k n_k − τ⁺ pos) / (1 − τ⁺), at least e^{−1/τ}
    hard        the same with mean_k n_k weighted by w_k ~ e^{β sim_k/τ}: the near ones count more
    true        −log pos / (pos + Σ_{k of other classes} n_k)           what debiasing estimates; it needs labels

Notice the dilemma: the nearest negatives teach most, and are the most often false. `measure` counts it: the share of
the anchor's class among its 10 nearest images, and among all. Notice what τ⁺ asks for: not who the false negatives are,
only how many. Where the anchor and its view agree (pos is large), it takes the more out of the mean.

The slide shows the bias, and what it costs (classes told apart on CIFAR-10, negatives drawn from all images or from
those of other labels), but not the loss that corrects it: `debiased` is that loss, and `true` the slide's upper curve.
It calls a negative hard that is near and has another label; `hard` knows no labels, and weights all that is near.

(Chuang et al., 2020, "Debiased Contrastive Learning"; Robinson et al., 2021, "Contrastive Learning with Hard Negative
Samples")

Differs from the papers: a ResNet-18 of width 16 for images of 64 pixels; one positive; SGD.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from minissl import backend, evaluation, losses, models, nn, ops
from minissl.data import DataSet
from minissl.data.loader import Batch
from minissl.tensor import Tensor
from reference import contrast
from reference.contrastive.supcon import as_embedding
from reference.method import Inputs, Method, build
from reference.pictures import unit
from reference.transfer import has_classes

NEAREST = 10  # images in which false negatives are counted


@dataclass(kw_only=True)
class Config(contrast.Config):
    """The settings of negatives."""

    # What stands below: all others, these corrected for their bias, near ones weighted too, or other classes only
    negatives: Literal["biased", "debiased", "hard", "true"] = "debiased"
    # τ: the smaller, the more the nearest negatives count
    temperature: float = 0.3
    # τ⁺: how likely another image has the anchor's class, 1/K for K balanced classes (debiased, hard)
    tau_plus: float = 0.1
    # β: how much more near negatives count; 0 is debiased (hard)
    beta: float = 1.0
    # Size D of the embedding z
    embedding: int = 128


class Negatives(contrast.Contrastive):
    """encoder f, head g, and a choice of what is below the fraction line."""

    settings = Config
    config: Config

    def __init__(self, config: Config, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        features = self.encoder.out_features
        self.head = models.mlp(features, features, config.embedding, batch_norm=True)
        self.learns_from_labels = config.negatives == "true"

    @classmethod
    def open_data(cls, config: Any) -> DataSet:
        found = super().open_data(config)
        if config.negatives == "true" and not has_classes(found):
            raise ValueError(
                f"--negatives true: data {found.name!r} have no class labels, which tell true negatives; "
                "use class folders, or --negatives debiased"
            )
        return found

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[Any, ...]:
        images = super().views(batch, rng)
        return (*images, backend.to_device(batch["labels"])) if self.learns_from_labels else images

    def embed(self, views: tuple[Any, ...]) -> tuple[Tensor, ...]:
        h = self.encoder(ops.concatenate(list(views[:2])))  # (2N, 8·width)
        z1, z2 = ops.split(self.head(h), 2)  # (N, D) each
        return (z1, z2, *map(as_embedding, views[2:]))

    def compare(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        c = self.config
        if labels is not None:
            return true_negatives(z1, z2, labels.data[:, 0], c.temperature)
        if c.negatives == "biased":
            return losses.nt_xent(z1, z2, c.temperature)
        if c.negatives == "debiased":
            return losses.debiased(z1, z2, c.temperature, c.tau_plus)
        return losses.hard_negative(z1, z2, c.temperature, c.tau_plus, c.beta)

    def measure(self, parts: dict[str, DataSet], out: Path) -> dict[str, float]:
        """How many of an image's negatives are false: of all, and of the nearest before and after training."""
        found, test = super().measure(parts, out), parts["test"]
        if not has_classes(test):
            return found
        y = test["labels"]
        before: Method = build(type(self), self.config, self.inputs)
        return found | {
            "false negatives among all": float(((y[:, None] == y).sum() - len(y)) / (len(y) * (len(y) - 1))),
            f"false negatives among the {NEAREST} nearest, untrained": false_share(before, test),
            f"false negatives among the {NEAREST} nearest, trained": false_share(self, test),
        }


def true_negatives(z1: Tensor, z2: Tensor, labels: backend.Array, temperature: float) -> Tensor:
    """−log pos/(pos + Σ_{k of other classes} n_k), mean over the 2N anchors. Raises ValueError for one class alone."""
    xp, N = backend.of(labels).xp, len(z1)
    other = labels[:, None] != labels  # (N, N)
    if not other.any():
        raise ValueError(
            f"--negatives true: all {N} images of a batch have one class, so that no negative is left; "
            "use a larger --batch-size, or data of more classes"
        )
    z = ops.l2_normalize(ops.concatenate([z1, z2]))  # (2N, D)
    s = z @ z.transpose() / temperature  # (2N, 2N)
    partner = xp.roll(xp.eye(2 * N, dtype=bool), N, 1)  # each row's other view
    log_pos = ops.where(partner, s, 0.0).sum(axis=1)  # (2N,)
    below = ops.where(partner | xp.tile(other, (2, 2)), s, -math.inf)
    return (ops.logsumexp(below, axis=1) - log_pos).mean()


def false_share(method: Any, test: DataSet) -> float:
    """Of every test image's nearest others in z, the part that has its class."""
    z = unit(evaluation.extract(nn.Sequential(method.encoder, method.head), test["images"], method.prepare))
    cosine = z @ z.T - 3 * np.eye(len(z))  # itself last
    nearest = np.argsort(-cosine, axis=1)[:, : min(NEAREST, len(z) - 1)]
    return float((test["labels"][nearest] == test["labels"][:, None]).mean())
