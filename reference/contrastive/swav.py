"""SwAV: views of an image are sorted into clusters, and from one view's features the other's cluster is predicted.

K prototypes c of unit length stand for clusters. A view's feature z, of unit length too, has the scores s = (z·c₁ ...
z·c_K), and softmax(s/τ) says to which cluster it goes. Where it should go, its code q, is found for the whole batch at
once by Sinkhorn's algorithm: near the scores, yet so that every prototype gets an equal share. For crops v of an image,
of which the first two are large, and CE the cross entropy:

    loss = mean over i = 1, 2 and v ≠ i of CE(q_i, softmax(s_v/τ))

Notice that views are never compared with each other, nor with other images: the equal shares are what prevents that all
features become one. Codes are constants, and come of large crops only; small crops, which see a part of the image, have
to predict them too. A small batch cannot use all prototypes equally, so features of earlier steps, from a queue, join
it when codes are computed; but not before features have settled, since equal shares would then part old from new.

(Caron, Misra, Mairal, Goyal, Bojanowski and Joulin, 2020, "Unsupervised Learning of Visual Features by Contrasting
Cluster Assignments")

Differs from the paper: a ResNet-18; 64 prototypes for thousands of images in place of 3,000 for a million; the queue is
used from epoch 3 on in place of 16, as training is shorter; Adam by default, for so small a batch.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from minissl import losses, models, nn, ops
from minissl.augment import multi_crop
from minissl.data.loader import Batch
from minissl.nn import Prototypes
from minissl.tensor import Tensor, no_grad
from reference import contrast
from reference.contrast import augmented
from reference.method import Inputs

LARGE = 2  # crops that have codes


@dataclass(kw_only=True)
class Config(contrast.Config):
    """SwAV's settings."""

    # K: how many prototypes
    prototypes: int = 64
    # Epochs at the beginning in which prototypes stand still
    frozen_epochs: int = 1
    # τ: the smaller, the more certain the clusters that are predicted
    temperature: float = 0.1
    # ε of Sinkhorn's algorithm: the smaller, the nearer codes are to one prototype each
    epsilon: float = 0.05
    # How often Sinkhorn's algorithm scales columns and rows
    iterations: int = 3
    # Features of earlier steps, for each large crop, that join the batch when codes are computed
    queue: int = 512
    # Epochs at the beginning in which the queue is not used; nor is it before it is full
    queue_waits: int = 2
    # Small crops beside the two large ones
    multi_crop: bool = True
    # How many small crops, of half the side
    small_crops: int = 4
    # Smallest and largest part of the image's area that a small crop keeps
    small_scale: tuple[float, float] = (0.05, 0.25)
    # Size D of the features z
    embedding: int = 128
    # Update rule
    optimizer: Literal["sgd", "lars", "adam", "adamw"] = "adam"
    # Peak of the learning rate, reached after the warm-up; then half a cosine down to 0
    learning_rate: float = 1e-3
    # L2 penalty on matrices and kernels (biases and norm layers have none)
    weight_decay: float = 1e-6


class SwAV(contrast.Contrastive):
    """encoder f, head g, prototypes, and for each large crop a queue."""

    settings = Config
    config: Config
    queues: Any  # a ModuleList of Queues

    def __init__(self, config: Config, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        features, D = self.encoder.out_features, config.embedding
        self.head = models.mlp(features, features, D, batch_norm=True)
        self.prototypes = Prototypes(D, config.prototypes)
        self.queues = nn.ModuleList(nn.Queue(config.queue, D) for _ in range(LARGE))
        self.settled = False  # whether queues may be used
        self.references = {"log K, all scores equal": float(np.log(config.prototypes))}

    def start_epoch(self, epoch: int) -> None:
        self.prototypes.rows.requires_grad = epoch >= self.config.frozen_epochs
        self.settled = epoch >= self.config.queue_waits

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[Any, ...]:
        """V crops of each image, large ones first: (N, H, H, C) and (N, H/2, H/2, C)."""
        c, images = self.config, self.raw(batch)
        side = images.shape[1]
        kinds = [(side, LARGE, (c.crop, 1.0)), (side // 2, c.small_crops, c.small_scale)]
        crops = multi_crop(images, rng, *zip(*kinds[: 1 + c.multi_crop], strict=True))
        return tuple(self.standardize(augmented(crop, rng, replace(c, crop=1.0))) for crop in crops)

    def embed(self, views: tuple[Any, ...]) -> tuple[Tensor, ...]:
        sizes = [views[:LARGE], views[LARGE:]]  # crops of one size share a pass and its batch statistics
        h = [self.encoder(ops.concatenate(list(crops))) for crops in sizes if crops]
        z = self.head(ops.concatenate(h))  # (V·N, D)
        return tuple(ops.split(z, len(views)))

    def compare(self, *z: Tensor) -> Tensor:
        scores = [self.prototypes(each) for each in z]  # V times (N, K)
        self.latest = [each.data for each in z[:LARGE]]  # for the queues, after the step
        terms = []
        for i in range(LARGE):
            q = self.codes(scores[i], self.queues[i])
            terms += [losses.cross_entropy(s / self.config.temperature, q) for v, s in enumerate(scores) if v != i]
        return ops.stack(terms).mean()

    def codes(self, scores: Tensor, queue: nn.Queue) -> Tensor:
        """q (N, K), constant, of scores (N, K): together with the queue's features all prototypes are used equally."""
        N, c = len(scores), self.config
        with no_grad():
            if self.settled and queue.full:
                scores = ops.concatenate([self.prototypes(queue.rows), scores])  # (queue + N, K)
            return losses.sinkhorn(scores, c.epsilon, c.iterations)[-N:]

    def after_step(self) -> None:
        self.prototypes.renormalize()
        for queue, z in zip(self.queues, self.latest, strict=True):
            queue.enqueue(z)
