"""CNN: one small filter looks everywhere in the image, and layers of them see ever larger and more telling patterns.

Where an MLP gives every pixel weights of its own, a convolution has few and uses them at every place p:

    y(p) = relu( Σ_d x(p + d) W_d + b ),   d over 3 x 3 neighbours     then the largest of each 2 x 2, and again
    h = mean over p of the last layer      p(class) = softmax(h V + c)     loss = −log p[label]

Notice that an image moved moves its feature maps, and their mean h hardly changes: what was learned in one place is
known in all. And that, since classifier and mean are both linear, h V is the mean of a vote at every place: the last
row of `features.png` shows where the network saw the class. With --shuffle neighbours mean nothing, and nor do filters.

(LeCun et al., 1989, "Backpropagation Applied to Handwritten Zip Code Recognition"; the votes: Zhou et al., 2016,
"Learning Deep Features for Discriminative Localization")

Differs from the papers: four layers of 3x3 filters with batch normalization and ReLU, as VGG has them, and the mean
over all places in place of fully connected layers, so that images may have any size.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minissl import backend, nn, ops, viz
from minissl.data import DataSet
from minissl.models import Backbone
from minissl.tensor import Tensor, no_grad
from reference.foundations.mlp import accuracies, shuffle_pixels
from reference.method import Inputs
from reference.settings import Settings
from reference.supervised import Supervised


@dataclass(kw_only=True)
class Config(Settings):
    """The CNN's settings."""

    # Filters of the first layer; every further layer has twice as many
    width: int = 16
    # Layers; the image is halved between them
    depth: int = 4
    # Move the pixels to other places, the same in all images
    shuffle: bool = False
    # How often every training image is seen
    epochs: int = 20
    # Peak of the learning rate, reached after the warm-up; then half a cosine down to 0
    learning_rate: float = 0.1


class ConvNet(Backbone):
    """(N, H, W, C) -> h (N, width·2^(depth − 1)); stages conv1, conv2, ... are what the layers give before halving."""

    def __init__(self, channels: int, width: int, depth: int) -> None:
        sizes = [channels, *(width << i for i in range(depth))]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(C, D, 3, padding=1, bias=False), nn.BatchNorm(D, relu=True))
            for C, D in itertools.pairwise(sizes)
        )
        self.stages, self.out_features = tuple(f"conv{i}" for i in range(1, depth + 1)), sizes[-1]

    def run(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        for i, layer in enumerate(self.layers):
            x = layer(ops.max_pool2d(x, 2) if i else x)  # (N, H/2^i, W/2^i, width·2^i)
            yield self.stages[i], x


class CNN(Supervised):
    """The encoder is everything up to h; `Supervised` brings classifier, crops and cross entropy."""

    settings = Config
    config: Config
    encoder: ConvNet
    learns_from_labels = True

    def __init__(self, config: Config, inputs: Inputs) -> None:
        encoder = ConvNet(inputs.channels, config.width, config.depth)
        super().__init__(config, inputs, encoder, encoder.out_features)

    def standardize(self, images: backend.Array) -> backend.Array:
        images = super().standardize(images)
        return shuffle_pixels(images, self.config.seed) if self.config.shuffle else images

    def measure(self, parts: dict[str, DataSet], out: Path) -> dict[str, float]:
        self.draw_features(parts["test"], out / "features.png")
        return accuracies(self, parts["test"])

    def draw_features(self, test: DataSet, path: Path) -> None:
        """An image of each class, the channel of each layer that varies most over it, and the votes for its class."""
        labels, chosen = np.unique(test["labels"], return_index=True)
        pictures = self.picture(backend.to_host(self.raw({"images": test["images"][chosen]})))  # (K, H, W, 1 or 3)
        x = self.prepare(backend.to_device(test["images"][chosen]))  # (K, H, W, C)
        with no_grad():
            maps = {name: backend.to_host(y.data) for name, y in self.encoder.run(Tensor(x))}  # (K, h, w, D) each
        V = backend.to_host(self.classifier.weight.data)  # (D, K)
        votes = [y @ V[:, label] for y, label in zip(maps[self.encoder.stages[-1]], labels, strict=True)]
        drawn = [*(most_varying(y) for y in maps.values()), np.stack(votes)]  # (K, h, w) each
        viz.image_grid(
            [list(row) for row in (pictures, *(enlarged(stretched(y), len(pictures[0])) for y in drawn))],
            path,
            row_titles=["image", *(f"layer {i}" for i in range(1, len(maps) + 1)), "votes for its class"],
            column_titles=[test.classes[label] for label in labels],
            title="What the layers see: of each, the channel that varies most over the image; bright is much",
        )


def most_varying(y: np.ndarray) -> np.ndarray:
    """Of maps (N, h, w, D), for each image the one whose values differ most: (N, h, w)."""
    chosen = y.std(axis=(1, 2)).argmax(axis=1)
    return y[np.arange(len(y)), :, :, chosen]


def stretched(y: np.ndarray) -> np.ndarray:
    """Each map (N, h, w) from 0 at its least to 1 at its largest."""
    low, high = y.min(axis=(1, 2), keepdims=True), y.max(axis=(1, 2), keepdims=True)
    return (y - low) / np.maximum(high - low, 1e-12)


def enlarged(y: np.ndarray, height: int) -> np.ndarray:
    """Maps (N, h, w) as grey images of about this height, every place a square."""
    factor = height // y.shape[1]
    return y.repeat(factor, axis=1).repeat(factor, axis=2)[..., None]
