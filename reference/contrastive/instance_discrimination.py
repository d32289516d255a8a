"""Instance discrimination: every image is a class of its own, and a memory bank holds one vector for each class.

A class with one image needs no weights: its prototype is the image's own vector v = g(f(x)), of unit length, as it was
when the image was last seen. These n vectors are the bank b. The probability that a view v is image i is a softmax

    P(i|v) = e^{v·b_i/τ} / Z        Z = Σ_j e^{v·b_j/τ} over all n rows of the bank

and since Z costs n products a view, noise contrastive estimation asks an easier question: is this row the image's own,
or one of m that were drawn blindly? With h(i|v) = P/(P + m/n), the probability of the former,

    loss = −log h(i|v) − Σ_m log(1 − h(j|v))                    --exact minimises −log P(i|v) itself
    b_i ← (b_i + v)/‖b_i + v‖          after the step, for the images of the batch: half old, half new

Notice that negatives cost no network pass, so there may be thousands of them with a small batch; but a row is as old as
an epoch, and comes from a network that no longer exists. MoCo's queue is the answer to that.

The slide's P(D = 1|i, v) leaves out τ and the density 1/n of the noise, which makes it a sampled softmax
(`losses.info_nce`), and does not say what Z is. Here Z is n times the mean of e^{v·b_j/τ} over the noise: the mean of
the first hundred batches, and from there on a moving average. Its table of embedding sizes (32, 64, 128 and 256 give
34.0, 38.8, 41.0 and 40.1) is the accuracy of kNN with a ResNet-18.

(Wu, Xiong, Yu and Lin, 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination")

Differs from the paper: m = 256 in place of 4,096 for a thousand images in place of a million; τ and momentum are the
paper's, its proximal term, which slows the vectors further, is left out; Z follows the bank, theirs is that of the
first batch for good.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from minissl import backend, losses, nn, ops, random
from minissl.backend import Array
from minissl.data.loader import Batch
from minissl.tensor import Tensor
from reference import contrast
from reference.method import Inputs

AVERAGED = 100  # batches over which Z is averaged


@dataclass(kw_only=True)
class Config(contrast.Config):
    """Settings of instance discrimination."""

    # τ: the smaller, the more the nearest rows of the bank count
    temperature: float = 0.07
    # Size D of a vector of the bank
    embedding: int = 128
    # m: rows of the bank drawn as noise for every image
    noise: int = 256
    # How much of a row of the bank stays when its image is seen again
    momentum: float = 0.5
    # The softmax over the whole bank in place of its estimate from noise
    exact: bool = False
    # Update rule; sgd at 0.03, as in the paper, learns less in the same time, and at 0.1 nothing
    optimizer: Literal["sgd", "lars", "adam", "adamw"] = "adamw"
    # Peak of the learning rate, reached after the warm-up; then half a cosine down to 0
    learning_rate: float = 1e-3


class InstanceDiscrimination(contrast.Contrastive):
    """encoder f, linear head g, and the bank of all training images."""

    settings = Config
    config: Config

    def __init__(self, config: Config, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        n, m = inputs.images, config.noise
        if not n:
            raise ValueError("instance discrimination: expected how many training images there are, Inputs(images=n)")
        self.head = nn.Linear(self.encoder.out_features, config.embedding)
        self.bank = nn.MemoryBank(n, config.embedding, config.momentum)
        self.log_z = nn.Buffer(backend.current().xp.zeros((), "float32"))
        self.batches = nn.Buffer(backend.current().xp.zeros((), "int64"))  # that log_z has seen
        if config.exact:
            self.references = {"log n, all vectors alike": math.log(n)}
        else:
            self.references = {"all vectors alike": math.log(1 + m) + m * math.log(1 + 1 / m)}  # h = 1/(1 + m)

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[Array, ...]:
        """One view of each image and its row of the bank; in evaluation two views, as test images have no row."""
        images = self.raw(batch)  # (N, H, W, C)
        if not self.training:
            return self.view(images, rng), self.view(images, rng)
        rows = batch.get("index", np.arange(len(images)))  # without: the first images, to look at
        return self.view(images, rng), backend.to_device(rows)

    def embed(self, views: tuple[Any, ...]) -> tuple[Tensor, ...]:
        """v (N, D), the bank's rows b (N, D) of the same images, and which rows these are, (N,)."""
        x, other = views
        v = self.vector(x)
        if other.ndim == 4:
            return v, self.vector(other)
        return v, Tensor(self.bank.rows.data[other]), Tensor(other.astype("float64"))  # a float goes through `in_parts`

    def vector(self, x: Array) -> Tensor:
        return ops.l2_normalize(self.head(self.encoder(Tensor(x))))  # (N, D)

    def compare(self, v: Tensor, b: Tensor, rows: Tensor) -> Tensor:
        index, bank, tau = rows.data.astype("int64"), self.bank.rows, self.config.temperature
        self.seen = index, v.data
        if self.config.exact:
            return losses.instance_softmax(v, bank, index, tau)
        (N, D), n, m = v.shape, len(bank), self.config.noise
        drawn = backend.to_device(random.generator().integers(n, size=(N, m)))
        noise = (Tensor(bank.data[drawn]) @ v.reshape(N, D, 1)).reshape(N, m)
        self.estimate_z(noise.data / tau)
        return losses.nce((v * b).sum(axis=1), noise, n, self.log_z, tau)

    def estimate_z(self, s: Array) -> None:
        """Z ← (1 − 1/t) Z + (1/t) n·mean e^s, s (N, m), in logarithms. t is the batch's number, at most AVERAGED."""
        xp, n = backend.of(s).xp, len(self.bank.rows)
        self.batches.data += 1
        t = min(int(self.batches.data), AVERAGED)
        now = ops.logsumexp(s).data + math.log(n / s.size) - math.log(t)
        before = self.log_z.data + (math.log(1 - 1 / t) if t > 1 else -math.inf)
        self.log_z.data = xp.logaddexp(before, now)

    def after_step(self) -> None:
        self.bank.update(*self.seen)
