"""MoCo: a query must find its key among thousands of old ones, which wait in a queue, however small the batch.

Two views of an image: one becomes the query q = g(f(x)), the other the key k₊ of a key encoder, which is a slow copy of
f and g without gradient. The negatives are the last K keys. All vectors have unit length:

    loss = −log  e^{q·k₊/τ} / (e^{q·k₊/τ} + Σ_K e^{q·k/τ})      K + 1 terms, as in the slide's sum from 0 to K
    θ_k ← m θ_k + (1 − m) θ_q      after the step; then k₊ of all images enter the queue, and the oldest keys leave it

Notice that the loss is a cross entropy in which every label is 0; the first step prints why. Notice, too, that the key
encoder has to be slow: keys of the queue come from different steps, and are comparable only if those barely differ.

--version 1  a linear head, no blur, and a learning rate that falls in two steps
--version 2  what SimCLR showed: a head with a hidden layer, blur, half a cosine
--version 3  a vision transformer, whose patch embedding stays random for stability; no queue, but the batch's other
             keys as negatives; a predictor makes q; each view is query once, loss = 2τ (CE(q₁, k₂) + CE(q₂, k₁));
             and m rises to 1

Versions 1 and 2 shuffle batch norm. Normalised by the statistics of one batch, query and key could be matched by these
alone, since all keys of the queue come from other batches. So networks work on sub-batches, as on several devices, and
keys are computed in another order: one sub-batch of queries and one of keys share 1 in --sub-batches of their images.

"Memory bank" is not MoCo's name for its queue, as the slide has it, but for what the queue replaces: the chapter
instance_discrimination, where a negative is as old as an epoch.

(He, Fan, Wu, Xie and Girshick, 2020, "Momentum Contrast for Unsupervised Visual Representation Learning"; Chen, Fan,
Girshick and He, 2020, "Improved Baselines with Momentum Contrastive Learning"; Chen, Xie and He, 2021, "An Empirical
Study of Training Self-Supervised Vision Transformers")

Differs from the papers: a ResNet-18 or a small transformer, a queue of 512 keys for a thousand images, m = 0.99 instead
of 0.999 for hundreds of steps instead of a million; in version 3 heads of two layers without a last batch norm, and m
rises from epoch to epoch.
"""

# mypy: disable-error-code="assignment"
# (Config lets settings be None that elsewhere are not; on their lines a remark would become their --help.)

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from minissl import backend, losses, models, nn, ops, parallel, random
from minissl.backend import Array
from minissl.data import DataSet
from minissl.nn.frozen import frozen
from minissl.optim import Optimizer, WeightAverage, step_decay
from minissl.tensor import Tensor, stop_gradient
from reference import contrast, pictures
from reference.method import Inputs

# What a version has where nothing else is asked for.
DEFAULTS: dict[int, dict[str, Any]] = {
    1: {"temperature": 0.07, "blur": 0.0, "optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 1e-4},
    2: {"temperature": 0.2, "blur": 0.5, "optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 1e-4},
    3: {"temperature": 0.2, "blur": 0.5, "optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 0.1},
}


@dataclass(kw_only=True)
class Config(contrast.Config):
    """MoCo's settings. Where none is the default, the version has its own."""

    # Which MoCo: 1, 2 (head, blur, cosine) or 3 (transformer, no queue)
    version: Literal[1, 2, 3] = 2
    # τ: the smaller, the more the nearest negatives count; by default 0.2, in version 1 0.07
    temperature: float | None = None
    # Size D of queries and keys
    embedding: int = 128
    # m: how much of itself the key encoder keeps in a step; in version 3 in the first epoch, from where it rises to 1
    momentum: float = 0.99
    # K: keys in the queue of versions 1 and 2; many more than half the images, and an image meets its own old keys
    queue: int = 512
    # Sub-batches with batch-norm statistics of their own, in versions 1 and 2
    sub_batches: int = 4
    # Keys computed in another order than queries; without it statistics give the key away
    shuffle: bool = True
    # Side of a patch in pixels, in version 3; the image's side must be a multiple of it
    patch: int = 8
    # Features of a token in version 3, a multiple of 4 and of the heads
    features: int = 64
    # Blocks of the transformer of version 3
    depth: int = 4
    # Heads of its attention
    heads: int = 4
    # Hidden units of projection and predictor in version 3
    hidden: int = 256
    # Probability of blurring a view; by default 0.5, in version 1 none is blurred
    blur: float | None = None
    # Update rule; by default sgd, in version 3 adamw
    optimizer: Literal["sgd", "lars", "adam", "adamw"] | None = None
    # Peak of the learning rate, reached after the warm-up; by default 0.1, in version 3 0.001
    learning_rate: float | None = None
    # L2 penalty on matrices and kernels (biases and norm layers have none); by default 1e-4, in version 3 0.1
    weight_decay: float | None = None

    def __post_init__(self) -> None:
        for key, value in DEFAULTS[self.version].items():
            if getattr(self, key) is None:
                setattr(self, key, value)
        super().__post_init__()
        together = self.batch_size // self.accumulate
        if self.version < 3 and (together % self.sub_batches or together == self.sub_batches):
            raise ValueError(
                f"--sub-batches {self.sub_batches}: expected parts of at least 2 of {together} images, equally many"
            )
        ranks = parallel.world().size
        if self.version < 3 and self.sub_batches % ranks:
            raise ValueError(
                f"--sub-batches {self.sub_batches}: {ranks} processes have equally many each, expected a multiple of it"
            )
        if self.version < 3 and self.shuffle and self.sub_batches == 1:
            raise ValueError("--sub-batches 1: there is nothing to shuffle, expected at least 2, or --no-shuffle")


class MoCo(contrast.Contrastive):
    """Query: encoder f and head g (and a predictor in version 3). Key: their slow copy."""

    settings = Config
    config: Config

    def __init__(self, config: Any, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        c, D = config, config.embedding
        self.epoch, self.tau = 0, c.temperature
        if c.version == 3:
            self.encoder = models.VisionTransformer(
                c.image_size, c.patch, inputs.channels, c.features, c.depth, c.heads, fixed_positions=True
            )
        self.head = self.make_head()
        self.key = WeightAverage(self.query, c.momentum)  # equal at first, and without gradient
        if c.version == 3:
            self.predictor = models.mlp(D, c.hidden, D, batch_norm=True)
            self.references = {"4τ log N, all vectors alike": 4 * self.tau * math.log(c.batch_size)}
        else:
            self.queue = nn.Queue(c.queue, D)
            self.references = {"log(K + 1), all vectors alike": math.log(c.queue + 1)}

    def make_head(self) -> nn.Module:
        """g: features (N, F) to embeddings (N, D)."""
        c, F, D = self.config, self.encoder.out_features, self.config.embedding
        heads = {1: (F, D), 2: (F, F, D), 3: (F, c.hidden, D)}
        return models.mlp(*heads[c.version], batch_norm=c.version == 3)

    @property
    def query(self) -> nn.Sequential:
        """What the key encoder is a copy of: f and g, without the predictor."""
        return nn.Sequential(self.encoder, self.head)

    def start_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        if self.config.version == 3:
            done = epoch / self.config.epochs
            self.key.momentum = 1 - (1 - self.config.momentum) * (math.cos(math.pi * done) + 1) / 2

    def training_step(self, views: tuple[Any, ...], optimizer: Optimizer) -> dict[str, float]:
        c: Any = self.config
        if c.version == 1 and self.epoch >= c.warmup_epochs:  # in place of the cosine
            milestones = (round(0.6 * c.epochs), round(0.8 * c.epochs))
            optimizer.learning_rate = c.learning_rate * step_decay(self.epoch, milestones, 0.1)
        return super().training_step(views, optimizer)

    def embed(self, views: tuple[Any, ...]) -> tuple[Tensor, ...]:
        """q and k, (N, D) each; in version 3 the projections of both views, and then the keys of both."""
        if self.config.version == 3:
            assert isinstance(self.encoder, models.VisionTransformer)
            x = Tensor(ops.concatenate(list(views)).data)  # (2N, H, W, C)
            with frozen(self.encoder.patch_embed):
                z = self.query(x)  # (2N, D)
            return *ops.split(z, 2), *ops.split(ops.l2_normalize(self.key(x)), 2)
        with sub_batches(self, self.config.sub_batches):
            q = self.query(Tensor(views[0]))
            k = self.shuffled_keys(views[1]) if self.config.shuffle else self.key(Tensor(views[1]))
        return ops.l2_normalize(q), ops.l2_normalize(k)

    def shuffled_keys(self, x: Array) -> Tensor:
        """Keys (N, D) of views x, in their order, but with the batch statistics of another one, across all ranks."""
        every, own = parallel.world().all_gather, parallel.own_rows
        everywhere = every(x)  # of the whole batch
        order = random.generator().permutation(len(everywhere))
        back = np.argsort(order)  # order[back[i]] = i
        k = self.key(Tensor(everywhere[backend.to_device(own(order))]))  # a constant: the key encoder does not learn
        return Tensor(every(k.data)[backend.to_device(own(back))])

    def compare(self, *z: Tensor) -> Tensor:
        if self.config.version == 3:
            z1, z2, k1, k2 = z
            q1, q2 = ops.split(ops.l2_normalize(self.predictor(ops.concatenate([z1, z2]))), 2)  # (N, D) each
            ctr = lambda q, k: losses.info_nce(q, stop_gradient(k), temperature=self.tau)  # negatives: the other keys
            return 2 * self.tau * (ctr(q1, k2) + ctr(q2, k1))
        q, k = z[0], stop_gradient(z[1])
        self.new_keys = k.data
        if not int(self.queue.written.data):
            tqdm.write(logits_table(q, k, self.queue.rows, self.tau))
        return losses.info_nce(q, k, self.queue.rows, self.tau)

    def after_step(self) -> None:
        self.key.update(self.query)
        if self.config.version < 3:
            self.queue.enqueue(self.new_keys)

    def measure(self, parts: dict[str, DataSet], out: Path) -> dict[str, float]:
        if self.config.version == 3:
            pictures.attention(self, parts["test"], out / "attention.png")
        return super().measure(parts, out)


@contextmanager
def sub_batches(network: nn.Module, G: int) -> Iterator[None]:
    """In here batch norm normalises each G-th of a batch by its own statistics."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm)]
    for norm in norms:
        norm.sub_batches = G
    try:
        yield
    finally:
        for norm in norms:
            norm.sub_batches = 1


def logits_table(q: Tensor, k: Tensor, queue: Tensor, tau: float, rows: int = 4, columns: int = 6) -> str:
    """A corner of the (N, K + 1) logits, and what their columns have to do with labels."""
    N, K = len(q), len(queue)
    q, k, queue = q[:rows], k[:rows], queue[: columns - 1]
    logits = ops.concatenate([(q * k).sum(axis=1, keepdims=True), q @ queue.transpose()], axis=1) / tau
    head = "".join(f"{i:>8}" for i in range(1, logits.shape[1]))
    lines = [
        f"Logits q·k/τ of the first step: {N} rows, one per query; {K + 1} columns, one per key",
        f"  own key: 0{head} ...",
    ]
    lines += ["".join(f"{value:>8.2f}" for value in row) for row in backend.to_host(logits.data)]
    lines += [
        "...",
        "Why are all labels 0? The classes are the columns, not the images: in every row column 0 is the key of the",
        "query's own image, the positive, and columns 1 to K are the queue. So the right answer is always column 0.",
    ]
    return "\n".join(lines)
