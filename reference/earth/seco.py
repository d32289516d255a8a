"""Seasonal contrast: a place in another season is a positive, and the network learns what seasons change as well.

A field is ploughed, green, ripe and under snow within a year: to MoCo, which augments one picture, it stays one colour.
Of each place three dates t₀, t₁, t₂ are drawn, all different, and two changes of colour a, a'; each picture has a crop
and turns of its own, so that no key is known by its frame. Beside the query stand three keys, each of which shares
something else with it:

    query  a(x at t₀)
    k₀     a'(x at t₁)     another season, another augmentation
    k₁     a(x at t₂)      another season, the same augmentation
    k₂     a'(x at t₀)     the same season, another augmentation

One encoder, with a head for each of three sub-spaces; in sub-space s key k_s is the positive, and the negatives are its
own queue of old keys. Beyond sub-space 0 the place's other keys are negatives, too, q and k being heads' unit vectors:

    loss = Σ_s −log  e^{q·k_s/τ} / (e^{q·k_s/τ} + Σ_queue e^{q·k/τ} + [s > 0] Σ_{j≠s} e^{q·k_j/τ})

Notice what the other negatives do. Sub-space 0 forgets seasons and augmentations alike. Sub-space 1 must not take k₂
for k₁: to it seasons are nothing and augmentations are something; to sub-space 2 it is the other way round. So the
encoder has to keep both, the change of seasons and that of colours, and a task may take what it needs.

--keys seco        all of this
--keys temporal    MoCo v2 with temporal positives: k₀ and sub-space 0 alone
--keys augmented   MoCo v2: two augmentations of the picture at t₀

(Mañas, Lacoste, Giró-i-Nieto, Vazquez and Rodríguez, 2021, "Seasonal Contrast: Unsupervised Pre-Training from
Uncurated Remote Sensing Data")

Differs from the paper: a ResNet-18 of width 16, a queue of 512 keys, four dates a place in place of five, and MoCo's
augmentations with quarter turns; true colour by default, as there. In the authors' code query and k₁ have no colours
drawn at all, dates may repeat, and the other keys of all places of the batch are negatives, not only the place's own.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from minissl import backend, losses, models, nn, ops, random
from minissl.backend import Array
from minissl.data import DataSet
from minissl.data.loader import Batch
from minissl.tensor import Tensor, stop_gradient
from reference import seasons
from reference.contrast import coloured, framed
from reference.contrastive import moco
from reference.contrastive.moco import MoCo, sub_batches
from reference.method import Inputs

DATES = 3  # that differ among query and keys
SHARED = {  # titles of the views: what each key has in common with the query
    "seco": ("query", "k0: place alone", "k1: same augmentation", "k2: same season"),
    "temporal": ("query", "key: place alone"),
    "augmented": ("query", "key: same picture"),
}


@dataclass(kw_only=True)
class Config(moco.Config):
    """SeCo's settings, beside those of MoCo v2."""

    # Which keys a query has: seco (three), temporal (another season) or augmented (the same picture)
    keys: Literal["seco", "temporal", "augmented"] = "seco"
    # How many dates of each place are generated; other data come with their own
    seasons: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.version != 2:
            raise ValueError(f"--version: SeCo builds on MoCo v2, got {self.version}; leave it out")
        if self.seasons < DATES:
            raise ValueError(f"--seasons: expected at least {DATES}, for dates that all differ, got {self.seasons}")


class SeCo(MoCo):
    """encoder f, for each sub-space a head and a queue, and the slow copies of f and the heads."""

    settings = Config
    config: Config
    pairs = "Two seasons"
    queue: Any  # a ModuleList of Queues
    new_keys: Any  # a list of arrays (N, D), by sub-space

    def __init__(self, config: Config, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        self.queue = nn.ModuleList(nn.Queue(config.queue, config.embedding) for _ in range(self.spaces))
        K, alike = config.queue, "all vectors alike"
        self.references = {f"log(K + 1), {alike}": math.log(K + 1)}
        if self.spaces == 3:
            self.references = {f"log(K + 1) + 2 log(K + 3), {alike}": math.log(K + 1) + 2 * math.log(K + 3)}

    @classmethod
    def of_scenes(cls, config: Any) -> dict[str, Any]:
        return {"seasons": config.seasons}

    @classmethod
    def open_data(cls, config: Any) -> DataSet:
        found = super().open_data(config)
        seasons.check(found, "seco", DATES)
        return found

    @property
    def spaces(self) -> int:
        return 3 if self.config.keys == "seco" else 1

    def make_head(self) -> nn.Module:
        F, D = self.encoder.out_features, self.config.embedding
        return SideBySide([models.mlp(F, F, D) for _ in range(self.spaces)])

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[Any, ...]:
        """The query and its keys, (N, H, W, C) each."""
        x = [self.raw({"images": date}) for date in seasons.drawn(batch["seasons"], rng, DATES)]
        # What draws the colours; every view has a crop and turns of its own.
        a, other = random.whole(rng).integers(2**32, size=2)
        if self.config.keys == "augmented":
            return self.drawn(x[0], a, rng), self.drawn(x[0], other, rng)
        if self.config.keys == "temporal":
            return self.drawn(x[0], a, rng), self.drawn(x[1], other, rng)
        return (
            self.drawn(x[0], a, rng),
            self.drawn(x[1], other, rng),
            self.drawn(x[2], a, rng),
            self.drawn(x[0], other, rng),
        )

    def drawn(self, images: Array, colours: int, rng: np.random.Generator) -> Array:
        """Any crop, and the colours that this seed draws, the same for the same place whatever its season."""
        images = framed(images, rng, self.config)
        return self.standardize(coloured(images, random.seeded_like(rng, colours), self.config))

    def shown(self, views: tuple[Any, ...]) -> dict[str, np.ndarray]:
        return dict(zip(SHARED[self.config.keys], super().shown(views).values(), strict=True))

    def embed(self, views: tuple[Any, ...]) -> tuple[Tensor, ...]:
        """Unit vectors (N, D) of the query and then the keys: in sub-space 0, in sub-space 1, ..."""
        with sub_batches(self, self.config.sub_batches):
            z = [self.query(Tensor(views[0]))]
            z += [self.shuffled_keys(x) if self.config.shuffle else self.key(Tensor(x)) for x in views[1:]]
        each = [ops.split(both, self.spaces, axis=1) for both in z]
        return tuple(ops.l2_normalize(of_view[s]) for s in range(self.spaces) for of_view in each)

    def compare(self, *z: Tensor) -> Tensor:
        V, self.new_keys, terms = len(z) // self.spaces, [], []
        for s, queue in enumerate(self.queue):
            q, *keys = z[s * V], *map(stop_gradient, z[s * V + 1 : (s + 1) * V])  # (N, D) each
            positive = keys.pop(s)
            own = [positive, *keys] if s > 0 else [positive]
            dots = [(q * k).sum(axis=1, keepdims=True) for k in own] + [q @ queue.rows.transpose()]
            logits = ops.concatenate(dots, axis=1) / self.tau  # (N, 1 + own negatives + K), the positive first
            first = backend.of(q.data).xp.zeros(len(q), "int64")
            terms.append(losses.cross_entropy(logits, first))
            self.new_keys.append(positive.data)
        return ops.stack(terms).sum()

    def after_step(self) -> None:
        self.key.update(self.query)
        for queue, keys in zip(self.queue, self.new_keys, strict=True):
            queue.enqueue(keys)


class SideBySide(nn.Module):
    """Heads on the same features, their outputs joined: (N, F) -> (N, heads · D)."""

    def __init__(self, heads: list[nn.Module]) -> None:
        self.heads = nn.ModuleList(heads)

    def forward(self, h: Tensor) -> Tensor:
        return ops.concatenate([head(h) for head in self.heads], axis=1)
