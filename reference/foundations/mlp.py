"""MLP: layers of weighted sums, each followed by a bend, turn the pixels of an image into a class.

What a network learns on its way to the labels is a representation: h, its last hidden layer, in which a straight cut
tells the classes apart, as none does among the pixels x, a row of H·W·C numbers.

    h₁ = relu(x W₁ + b₁)     h = relu(h₁ W₂ + b₂)     p = softmax(h V + c)     loss = −log p[label]

Notice that x is a list and not a picture. Give every image's pixels the same new places (--shuffle), and the rows of
W₁ in the same order make the same network: an MLP learns one as well as the other, and a CNN, which counts on
neighbours, does not. For the same reason nothing learned in one place is known in another. `weights.png` shows what it
does instead: each hidden unit weighs a whole image, sea on this side and land on that, dark in the middle.

(Rosenblatt, 1958, "The Perceptron"; Rumelhart, Hinton and Williams, 1986, "Learning Representations by Back-propagating
Errors")

Differs from the papers: ReLU in place of thresholds and sigmoids, cross entropy, images reduced to 16 x 16 pixels, and
random crops, flips and turns, without which some 1,400 images are soon known by heart.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from minissl import augment, backend, models, nn, ops, viz
from minissl.data import DataSet
from minissl.tensor import Tensor
from reference.method import Inputs
from reference.settings import Settings
from reference.supervised import Supervised

SHIFT = 4  # pixels by which test images are moved, in both directions


@dataclass(kw_only=True)
class Config(Settings):
    """The MLP's settings."""

    # Side in pixels to which images are reduced: x has side² · channels numbers
    side: int = 16
    # Units of a hidden layer, and so the size of h
    width: int = 256
    # Hidden layers
    depth: int = 2
    # Move the pixels to other places, the same in all images
    shuffle: bool = False
    # How often every training image is seen
    epochs: int = 60
    # Update rule
    optimizer: Literal["sgd", "lars", "adam", "adamw"] = "adamw"
    # Peak of the learning rate, reached after the warm-up; then half a cosine down to 0
    learning_rate: float = 1e-3
    # L2 penalty on matrices and kernels (biases and norm layers have none)
    weight_decay: float = 0.05


class Perceptron(nn.Module):
    """Small images (N, side, side, C) -> h (N, width): `depth` layers, each linear and a ReLU."""

    def __init__(self, side: int, channels: int, width: int, depth: int) -> None:
        self.layers = models.mlp(side * side * channels, *[width] * depth)

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(self.layers(x.reshape(len(x), -1)))


class MLP(Supervised):
    """The encoder is everything up to h; `Supervised` brings classifier, crops and cross entropy."""

    settings = Config
    config: Config
    learns_from_labels = True

    def __init__(self, config: Config, inputs: Inputs) -> None:
        encoder = Perceptron(config.side, inputs.channels, config.width, config.depth)
        super().__init__(config, inputs, encoder, config.width)

    def standardize(self, images: backend.Array) -> backend.Array:
        """(N, H, W, C) -> (N, side, side, C), pixels in their places or all in others."""
        images = super().standardize(augment.resize(images, self.config.side))
        return shuffle_pixels(images, self.config.seed) if self.config.shuffle else images

    def measure(self, parts: dict[str, DataSet], out: Path) -> dict[str, float]:
        first = self.encoder.parameters()[0]  # W₁ (side²·C, width)
        draw_weights(backend.to_host(first.data), self.config.side, out / "weights.png")
        return accuracies(self, parts["test"])


def shuffle_pixels(images: backend.Array, seed: int) -> backend.Array:
    """Images (N, H, W, C), all with their pixels in one other order, which the seed decides."""
    N, H, W, C = images.shape
    order = np.random.default_rng(seed).permutation(H * W)
    return images.reshape(N, H * W, C)[:, backend.to_device(order)].reshape(N, H, W, C)


def accuracies(method: Supervised, test: DataSet) -> dict[str, float]:
    """The classifier's accuracy in %, and what is left of it when every image is moved (and wraps around)."""
    moved = np.roll(test["images"], (SHIFT, SHIFT), axis=(1, 2))
    return {
        "classifier, accuracy in %": 100 * float((method.predict(test["images"]) == test["labels"]).mean()),
        f"the same, images moved by {SHIFT} pixels": 100 * float((method.predict(moved) == test["labels"]).mean()),
    }


def draw_weights(weights: np.ndarray, side: int, path: Path, count: int = 24) -> None:
    """The `count` units with the largest weights: grey is 0, a brighter colour adds to the unit, a darker subtracts."""
    strongest = np.argsort(-np.linalg.norm(weights, axis=0))[:count]
    units = weights.T[strongest].reshape(len(strongest), side, side, -1)[..., :3]
    units = units[..., :1] if units.shape[-1] == 2 else units
    units = 0.5 + 0.5 * units / np.abs(units).max(axis=(1, 2, 3), keepdims=True)
    rows = [list(units[i : i + 8]) for i in range(0, len(units), 8)]
    viz.image_grid(rows, path, title="First layer: hidden units and their weights for the whole image")
