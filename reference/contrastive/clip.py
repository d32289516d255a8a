"""CLIP: a picture and its caption, or its radar picture, must find each other among all pairs of the batch.

"Views can be paired input from two or more modalities." Each has a network of its own, a tower, whose projections a_i
(image) and b_i (caption, or Sentinel-1) meet on the unit sphere. S is their table, s a learned scale, s = e^t ≤ 100:

    S = s · â b̂ᵀ        L = ½ [CE(rows of S, i) + CE(columns of S, i)]

Notice that nothing compares images with images: what does not show in the other modality, a picture need not tell.
Notice s, which is 1/τ: it grows as pairs are told apart, and t is put back to ln 100 after a step that has passed it.
And notice what text buys, a classifier without training: each class name becomes a caption, and an image has the class
whose caption is nearest (zero-shot).

Captions are composed of what the masks say: the covers that are there, in order of their area. Few captions say what
a place is called, as on the web: a part of them, `--named`, also names the class. That is a label in words; with
`--named 0` the classes' words are never heard, and zero-shot is left to those they share with covers ("crop").

(Radford et al., 2021, "Learning Transferable Visual Models From Natural Language Supervision")

Differs from the paper: 400 million pairs are some thousand here; a ResNet-18 of width 16, a transformer of 64 features
and two blocks, whose words are averaged, in place of an end-of-text token; whole words in place of byte pairs.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from minissl import backend, evaluation, losses, models, nn, viz
from minissl.data import DataSet, colours
from minissl.data.loader import Batch
from minissl.tensor import Tensor, no_grad
from reference import captions, contrast, pictures, radar
from reference.method import Inputs
from reference.transfer import has_classes

LARGEST = 100.0  # the scale s is at most this
SHOWN = 8  # pairs in the picture


@dataclass(kw_only=True)
class Config(contrast.Config):
    """CLIP's settings."""

    # What stands beside the image: its caption, or its Sentinel-1 picture
    other: Literal["caption", "s1"] = "caption"
    # Part of the captions that name the class beside the covers (0 to 1)
    named: float = 0.1
    # Size D of the embeddings a and b
    embedding: int = 64
    # Features of the text transformer; a multiple of its 4 heads
    text_width: int = 64
    # Blocks of the text transformer
    text_depth: int = 2
    # Smallest part of the image's area that a crop keeps: what is cut off should not be all that the caption tells
    crop: float = 0.5
    # Update rule
    optimizer: Literal["sgd", "lars", "adam", "adamw"] = "adamw"
    # Peak of the learning rate, reached after the warm-up; then half a cosine down to 0
    learning_rate: float = 1e-3
    # L2 penalty on matrices and kernels (biases and norm layers have none)
    weight_decay: float = 0.05


class CLIP(contrast.Contrastive):
    """Two towers with a projection each, and the scale of their dot products."""

    settings = Config
    config: Config

    def __init__(self, config: Config, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        D = config.embedding
        self.project = nn.Linear(self.encoder.out_features, D, bias=False)
        self.other: nn.Module
        if config.other == "caption":
            self.words = captions.vocabulary(config.data, inputs.classes)
            self.other = TextTower(len(self.words), config.text_width, config.text_depth, D)
        else:
            tower = models.resnet18(config.width, 2, config.stem)
            self.other = nn.Sequential(tower, nn.Linear(tower.out_features, D, bias=False))
        self.log_scale = nn.Parameter(nn.initializers.ones((1,)) * math.log(1 / 0.07))  # t
        self.references = {"log N, guessing": math.log(config.batch_size)}

    @classmethod
    def of_scenes(cls, config: Any) -> dict[str, Any]:
        return {"sar": config.other == "s1"}

    @classmethod
    def open_data(cls, config: Any) -> DataSet:
        found = super().open_data(config)
        if config.other == "s1":
            radar.check(found, "--other s1")
        else:
            found.arrays["captions"] = captions.compose(found, config.data, config.named, config.seed)
        return found

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[Any, ...]:
        image = self.view(self.raw(batch), rng)  # (N, H, W, C)
        if self.config.other == "caption":
            return image, backend.to_device(batch["captions"])  # (N, LENGTH)
        sar = radar.scaled(backend.to_device(batch["sar"]))  # (N, H, W, 2) from 0 to 1
        places_only = replace(self.config, jitter=0.0, grey=0.0, blur=0.0, solarize=0.0)
        return image, 4 * contrast.augmented(sar, rng, places_only) - 2

    def embed(self, views: tuple[Any, ...]) -> tuple[Tensor, ...]:
        image, other = views
        return self.project(self.encoder(Tensor(image))), self.other(other)  # (N, D) each

    def compare(self, a: Tensor, b: Tensor) -> Tensor:
        return losses.clip(a, b, losses.capped_scale(self.log_scale, LARGEST))

    def gradients(self, views: tuple[Any, ...]) -> dict[str, float]:
        return super().gradients(views) | {"scale": math.exp(self.log_scale.item())}

    def after_step(self) -> None:
        """Above the cap t would have no gradient, and never come back."""
        t = self.log_scale
        t.data = backend.of(t.data).xp.minimum(t.data, math.log(LARGEST))

    def shown(self, views: tuple[Any, ...]) -> dict[str, np.ndarray]:
        image, other = views
        found = super().shown((image,))
        if self.config.other == "s1":
            found["Sentinel-1 (VV, VH, VV-VH)"] = colours.radar(radar.decibels((backend.to_host(other) + 2) / 4))
        return found

    def measure(self, parts: dict[str, DataSet], out: Path) -> dict[str, float]:
        """Zero-shot: the share of test images that are nearest to the caption of their class."""
        test = parts["test"]
        if self.config.other == "s1":
            return super().measure(parts, out)
        self.draw(test.some(SHOWN), out / "captions.png")
        pictures.neighbours(self, test, out / "neighbours.png")
        if not has_classes(test):
            return {}
        pictures.maps(self, test, out)
        classes = np.stack([self.caption(captions.plain(name)) for name in test.classes])  # (K, D)
        right = (self.seen(test["images"]) @ classes.T).argmax(axis=1) == test["labels"]
        return {f"zero-shot accuracy (guessing: {1 / len(classes):.3g})": float(right.mean())}

    def seen(self, images: np.ndarray) -> np.ndarray:
        """Unit embeddings (N, D) of stored images."""
        tower = nn.Sequential(self.encoder, self.project)
        return pictures.unit(evaluation.extract(tower, images, self.prepare))

    def read(self, tokens: np.ndarray) -> np.ndarray:
        """Unit embeddings (N, D) of captions (N, LENGTH)."""
        with no_grad():
            return pictures.unit(backend.to_host(self.other(backend.to_device(tokens)).data))

    def caption(self, subject: str) -> np.ndarray:
        """The embedding (D,) of something under its name: the mean over the templates."""
        return self.read(
            np.stack([captions.encode(text.format(subject), self.words) for text in captions.TEMPLATES])
        ).mean(axis=0)

    def draw(self, some: DataSet, path: Path) -> None:
        """The cosine of every caption with every image; framed are the pairs."""
        cosines = self.read(some["captions"]) @ self.seen(some["images"]).T  # (captions, images)
        texts = [captions.decode(each, self.words) for each in some["captions"]]
        images = self.picture(backend.to_host(self.raw({"images": some["images"]})))
        viz.similarity_table(texts, images, cosines, path, "Cosine of captions and test images. Framed: the pairs")


class TextTower(nn.Module):
    """Words (N, L), numbers of which 0 is none, to the mean of what a transformer makes of them, projected: (N, D)."""

    def __init__(self, words: int, width: int, depth: int, embedding: int) -> None:
        self.words, self.positions = nn.Embedding(words, width), nn.LearnedPositions(captions.LENGTH, width)
        self.blocks = nn.ModuleList(nn.TransformerBlock(width, heads=4) for _ in range(depth))
        self.norm, self.project = nn.LayerNorm(width), nn.Linear(width, embedding, bias=False)

    def forward(self, tokens: backend.Array) -> Tensor:
        there = tokens > 0  # (N, L)
        x = self.positions(self.words(tokens))  # (N, L, width)
        for block in self.blocks:
            x = block(x, there[:, None, None, :])
        share = there / there.sum(axis=1, keepdims=True)  # (N, L)
        return self.project((self.norm(x) * share[:, :, None].astype(x.dtype)).sum(axis=1))
