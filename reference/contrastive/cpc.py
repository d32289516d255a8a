"""CPC: what has been seen of an image, from the top down, must tell the patches further below from all others.

An image is cut into overlapping patches in reading order. An encoder gives each its own vector z_ij = f(patch), row i
and column j. An autoregressive network g, whose row i sees no row below i, sums up what is known so far in a context
c_ij = g(z_≤i). From it W_k predicts the patch k rows further down, which must be found among all those of the batch:

    L_k = −log  e^{z_{i+k,j} · W_k c_ij / √D} / Σ_l e^{z_l · W_k c_ij / √D}     l: all positions k rows down, all images

Notice that nothing is augmented twice: the two "views" are what lies above and what lies below. Notice what would make
it too easy. Patches of the next row share half of their pixels with the last one seen, so the first row predicted is
the second below. The light of an image would tell its patches from those of others, so every patch has its colours
changed by itself. And batch norm averages over all patches of a batch, those to be predicted among them: a way round
the network that may not see them. Here the channels of every pixel are normalized by themselves.

(van den Oord, Li and Vinyals, 2018, "Representation Learning with Contrastive Predictive Coding")

Differs from the paper: a ResNet-18 of width 16 and patches of 16 pixels from images of 64, the same 7x7 grid as the
paper's patches of 64 from 256; three convolutions, whose kernels end at their own row, in place of a PixelCNN, which
sees the patches to the left too; z by a LayerNorm, and dot products divided by √D, or all patches first become one;
the next row is left out. Probes read the encoder on the whole image, where the paper averages z over the grid.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from minissl import backend, evaluation, losses, nn, ops, random, viz
from minissl.data import DataSet
from minissl.data.loader import Batch
from minissl.tensor import Tensor
from reference import contrast
from reference.method import Inputs
from reference.pretext.relative_patch import mosaic


@dataclass(kw_only=True)
class Config(contrast.Config):
    """CPC's settings."""

    # R: rows and columns of patches; each patch shares half of its pixels with the next
    grid: int = 7
    # First row to predict, counted from the context's own; 1 shares half of its pixels with what was seen
    first: int = 2
    # Last row to predict
    last: int = 5
    # Probability of turning a patch grey
    grey: float = 0.5
    # How often every training image is seen, each time in 49 patches, of three times its pixels
    epochs: int = 10
    # Images in a step
    batch_size: int = 32
    # Update rule
    optimizer: Literal["sgd", "lars", "adam", "adamw"] = "adam"
    # Peak of the learning rate, reached after the warm-up; then half a cosine down to 0
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.first <= self.last < self.grid:
            raise ValueError(
                f"--first {self.first}, --last {self.last}: expected the first row to predict, then the last, which "
                f"must be less than --grid {self.grid}"
            )


class CPC(contrast.Contrastive):
    """encoder f of a patch, context g of the rows above, and W_k for each row to predict."""

    settings = Config
    config: Config
    pairs = "Patches below (left), and what the patches above predict of them,"

    def __init__(self, config: Config, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        without_batch_norm(self.encoder)
        D = self.encoder.out_features
        self.norm = nn.LayerNorm(D)
        self.context = nn.Sequential(*(Above(D) for _ in range(math.ceil((config.grid - 1) / 2))), nn.LayerNorm(D))
        self.steps = range(config.first, config.last + 1)
        self.W = nn.ModuleList(nn.Linear(D, D, bias=False) for _ in self.steps)
        choices = [config.batch_size * (config.grid - k) * config.grid for k in self.steps]
        self.references = {"log of the choices, guessing": sum(map(math.log, choices)) / len(choices)}

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[Any, ...]:
        """Patches (N, R, R, h, w, C): cropped and turned with their image, coloured each by itself."""
        c = self.config
        images = contrast.augmented(self.raw(batch), rng, replace(c, jitter=0.0, grey=0.0, blur=0.0, solarize=0.0))
        patches = cut(images, c.grid)
        flat = patches.reshape(-1, *patches.shape[3:])  # (N·R·R, h, w, C)
        flat = contrast.augmented(flat, rng, replace(c, crop=1.0, flip=False, turns=False))
        return (self.standardize(flat).reshape(patches.shape),)

    def embed(self, views: tuple[Any, ...]) -> tuple[Tensor, ...]:
        """What is found below and what was predicted, (N, M·D) each: M pairs of an image, ordered by k, row, column."""
        [patches] = views
        N, R = patches.shape[:2]
        z = self.norm(self.encoder(Tensor(patches.reshape(-1, *patches.shape[3:]))))  # (N·R·R, D)
        z = z.reshape(N, R, R, -1)
        c = self.context(z)  # (N, R, R, D)
        predicted = [W(c[:, : R - k]) for k, W in zip(self.steps, self.W, strict=True)]  # (N, R − k, R, D) each
        found = [z[:, k:] for k in self.steps]
        return tuple(ops.concatenate(rows, axis=1).reshape(N, -1) for rows in (found, predicted))

    def compare(self, found: Tensor, predicted: Tensor) -> Tensor:
        pairs = zip(self.by_step(found), self.by_step(predicted), strict=True)
        tau = self.encoder.out_features**0.5
        return ops.stack([losses.info_nce(p, z, temperature=tau) for z, p in pairs]).mean()

    def by_step(self, pairs: Any) -> Iterator[Any]:
        """(N, M·D) to (N·(R − k)·R, D) for each k: the patches among which those k rows below are sought."""
        N, R, D = len(pairs), self.config.grid, self.encoder.out_features
        start = 0
        for k in self.steps:
            size = (R - k) * R * D
            yield pairs[:, start : start + size].reshape(N * (R - k) * R, D)
            start += size

    def shown(self, views: tuple[Any, ...]) -> dict[str, np.ndarray]:
        [patches] = views
        N, R = patches.shape[:2]
        [seen] = super().shown((patches.reshape(-1, *patches.shape[3:]),)).values()
        seen = seen.reshape(N, R * R, *seen.shape[1:])  # in reading order

        def page(first: int, last: int) -> np.ndarray:
            there = range(first * R, last * R)
            tiles = [[image[l] if l in there else None for l in range(R * R)] for image in seen]
            return np.stack([mosaic(each, [viz.GREY] * R * R) for each in tiles])

        return {"patches to predict": page(self.config.first, R), "predicted from": page(0, R - self.config.first)}

    def measure(self, parts: dict[str, DataSet], out: Path) -> dict[str, float]:
        """How often a prediction is nearest to the right patch, among those of a batch of test images."""
        found = super().measure(parts, out)
        test, rng = parts["test"], random.seed(self.config.seed)
        images = test["images"][: self.config.batch_size]
        views = lambda x: self.views({"images": backend.to_host(x)}, rng)[0]
        [(there, predicted)] = evaluation.by_batch(self, lambda x: self.embed((x.data,)), images, views, len(images))
        for k, p, z in zip(self.steps, self.by_step(predicted), self.by_step(there), strict=True):
            nearest = backend.to_host((p @ z.transpose()).data.argmax(axis=1))
            found[f"patch {k} rows below, found among {len(z)}"] = float((nearest == np.arange(len(z))).mean())
        return found


class Above(nn.Module):
    """x + a 3x3 convolution whose last row lies on x's own: row i sees rows i − 2, i − 1 and i. (N, R, R, D)."""

    def __init__(self, features: int) -> None:
        self.norm = nn.LayerNorm(features)  # of each position by itself: over the grid it would see the rows below
        self.conv = nn.Conv2d(features, features, 3, padding=(0, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = ops.relu(self.norm(x))
        return x + self.conv(ops.pad(y, [(0, 0), (2, 0), (0, 0), (0, 0)]))


def cut(images: backend.Array, grid: int) -> backend.Array:
    """Patches of images (N, H, W, C), row by row, each half over the next: (N, grid, grid, h, w, C)."""
    half = min(images.shape[1:3]) // (grid + 1)
    if half < 1:
        raise ValueError(
            f"--grid {grid}: expected images of at least {grid + 1} pixels a side, got {images.shape[1:3]}"
        )
    return ops.unfold(images, 2 * half, half).data[:, :grid, :grid]


def without_batch_norm(network: nn.Module) -> None:
    """Put a LayerNorm, of each pixel's channels by themselves, in the place of every BatchNorm, and keep its ReLU."""
    for module in list(network.modules()):
        for name, child in list(module.children()):
            if isinstance(child, nn.BatchNorm):
                norm = nn.LayerNorm(child.weight.size)
                setattr(module, name, nn.Sequential(norm, nn.ReLU()) if child.relu else norm)
