"""Jigsaw: the nine tiles of an image are shuffled, and the network has to say in which of K known orders they lie.

"We can learn both a feature mapping of object parts as well as their correct spatial arrangement." A tower f sees each
tile by itself (the network is context-free), the features are joined in the order in which the tiles lie, and only the
layers above compare them. K orders of the nine tiles are drawn beforehand; each is a class:

    p = softmax(g(f(tile_{s(1)}), ..., f(tile_{s(9)})))      loss = −log p[y],  s the y-th order      guessing: log K

Notice that the orders must differ. Two that agree in seven places are one class for a network that cannot tell two
tiles of a wood apart: hence each new order is the one furthest from those at hand (`augment.permutations`).

Notice that one tile must not tell its own place. Every tile is normalised by its own mean and deviation, or the way in
which light falls off over the images would do; its colours are jittered, or those of two tiles would be compared in
place of what they show; and random gaps lie between tiles, or lines would be followed over their borders.

Notice last what context-free buys. To shuffle tiles and to shuffle their features is the same, so every image goes
through the tower once, and its features are then put into several orders.

A run ends with how many orders are told right, and how many by the rule that borders which touch should look alike,
which is what gaps leave of that shortcut. On scenes the rule is better than the network (RESULTS.md).

(Noroozi and Favaro, 2016, "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles")

Differs from the paper: a ResNet-18 of width 16 with a 3x3 stem at stride 2 as the tower, tiles of 18 pixels from images
of 64, fewer orders; orders by the least distance, where the paper maximises the mean; flips and quarter turns.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from minissl import augment, backend, evaluation, losses, models, nn, random, viz
from minissl.data import DataSet
from minissl.data.loader import Batch
from minissl.evaluation import extract
from minissl.models.resnet import Stem
from minissl.tensor import Tensor, no_grad
from reference import pictures
from reference.method import Inputs, Method
from reference.pretext.relative_patch import PatchHead, mosaic
from reference.settings import Settings


@dataclass(kw_only=True)
class Config(Settings):
    """Jigsaw's settings."""

    # K: how many orders of the tiles there are to choose from
    orders: int = 24
    # Puzzles that are made of an image in one step, each of the same tiles in another order
    puzzles: int = 4
    # Side of a tile in pixels
    tile: int = 18
    # Gap between two tiles, in parts of a tile: no line goes on from one into the other
    gap: float = 0.2
    # How far each tile is moved at random, up or down and left or right, in parts of a tile
    jitter: float = 0.1
    # Each tile loses its own mean and deviation, so that light that falls off over the image tells nothing
    normalize: bool = True
    # Strength of the brightness, contrast and saturation jitter of each tile; hue has a quarter of it
    color: float = 0.4
    # Numbers that the head takes from each tile
    embedding: int = 64
    # Units of the head's hidden layer, which sees all nine tiles
    hidden: int = 256
    # Channels of the ResNet-18's first stage; h has 8 times as many
    width: int = 16
    # First layer: imagenet (7x7, output stride 4), halving (3x3, stride 2) or cifar (3x3, stride 1)
    stem: Stem = "halving"
    # Flips and quarter turns, for images from above
    turns: bool = True
    # How often every training image is seen, each time in nine tiles
    epochs: int = 18
    # Images in a step; the network sees nine times as many tiles
    batch_size: int = 16
    # Update rule; under sgd the loss stays near log K for half of the run
    optimizer: Literal["sgd", "lars", "adam", "adamw"] = "adamw"
    # Peak of the learning rate, reached after the warm-up; then half a cosine down to 0
    learning_rate: float = 1e-3


class Jigsaw(Method):
    """encoder f, which sees one tile, and head g, which sees the features of all nine."""

    settings = Config
    config: Config
    encoder: models.ResNet

    def __init__(self, config: Config, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        self.encoder = models.resnet18(config.width, inputs.channels, config.stem)
        self.embed = PatchHead(self.encoder.out_features, config.embedding)
        self.compare = models.mlp(9 * config.embedding, config.hidden, config.orders, batch_norm=True)
        # (K, 9): at place i of puzzle y lies tile orders[y, i]
        self.orders = nn.Buffer(backend.to_device(augment.permutations(config.orders, random.generator())))
        self.references = {"log K, guessing": math.log(config.orders)}

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[backend.Array, backend.Array]:
        images, c = self.raw(batch), self.config  # (N, H, W, C)
        if c.turns:
            images = augment.quarter_turns(augment.horizontal_flip(images, rng), rng)
        tiles = self.cut(images, rng)
        N, T, h, w, C = tiles.shape
        hue = c.color / 4 if C == 3 else 0.0
        tiles = augment.color_jitter(tiles.reshape(N * T, h, w, C), rng, c.color, c.color, c.color, hue)
        y = rng.integers(0, c.orders, (N, c.puzzles))
        return self.guarded(tiles.reshape(N, T, h, w, C)), backend.to_device(y)

    def cut(self, images: backend.Array, rng: np.random.Generator) -> backend.Array:
        """Images (N, H, W, C) to their tiles, (N, 9, h, w, C), in their places."""
        c = self.config
        return augment.cut_tiles(images, rng, c.tile, int(c.gap * c.tile), int(c.jitter * c.tile))

    def guarded(self, tiles: backend.Array) -> backend.Array:
        """Tiles (N, 9, h, w, C) as the network takes them: without what they have of their place's light."""
        N, T, h, w, C = tiles.shape
        tiles = self.standardize(tiles.reshape(N * T, h, w, C)).reshape(N, T, h, w, C)
        return augment.normalize_tiles(tiles) if self.config.normalize else tiles

    def forward(self, tiles: Tensor) -> Tensor:
        """What each tile gives, whatever lies beside it: (N, 9, h, w, C) to (N, 9, D)."""
        N, T, h, w, C = tiles.shape
        last = self.encoder.features(tiles.reshape(N * T, h, w, C), "layer4")  # (N·9, h', w', 8·width)
        return self.embed(last).reshape(N, T, -1)

    def order(self, z: Tensor) -> Tensor:
        """Features (n, 9, D) of tiles, as these lie, to what the head says of their order, (n, K)."""
        return self.compare(z.reshape(len(z), -1))

    def loss(self, views: tuple[Any, ...]) -> Tensor:
        tiles, y = views  # (N, 9, h, w, C), in their places; (N, P)
        z = shuffled(self(Tensor(tiles)), self.orders.data[y])  # (N, P, 9, D)
        return losses.cross_entropy(self.order(z.reshape(y.size, *z.shape[2:])), y.reshape(-1))

    def shown(self, views: tuple[Any, ...]) -> dict[str, np.ndarray]:
        tiles, y = views
        N, T, h, w, C = tiles.shape
        raw = augment.unstandardize(tiles.reshape(N * T, h, w, C), self.inputs.mean, self.inputs.deviation)
        seen = self.picture(backend.to_host(raw)).reshape(N, T, h, w, -1)
        puzzles = shuffled(seen, backend.to_host(self.orders.data[y]))  # (N, P, 9, h, w, 1 or 3)
        return {
            f"puzzle {p}": np.stack([mosaic(list(tiles), [viz.GREY] * T) for tiles in puzzle])
            for p, puzzle in enumerate(puzzles.swapaxes(0, 1)[:2], 1)
        }

    def measure(self, parts: dict[str, DataSet], out: Path) -> dict[str, float]:
        """How often the order of a test image's tiles is told right; and some puzzles as the network solves them."""
        test, rng = parts["test"], random.seed(self.config.seed)
        seen = lambda images: self.guarded(self.cut(augment.to_float(images), rng))  # (n, 9, h, w, C)
        tiles = np.concatenate(
            evaluation.by_batch(nn.Identity(), lambda x: backend.to_host(x.data), test["images"], seen)
        )
        z = extract(self, tiles, lambda x: x)
        y, said = self.solve(z.reshape(len(test), 9, -1), rng)
        self.draw(test, said == y, out / "solved.png")
        orders = backend.to_host(self.orders.data)
        return {
            f"orders told right (guessing: {1 / self.config.orders:.3g})": float((said == y).mean()),
            "orders told right by the borders of tiles": float(
                (by_borders(shuffled(tiles, orders[y]), orders) == y).mean()
            ),
        }

    def solve(self, z: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Lay features (n, 9, D) in random orders y before the head: y, and what it says, (n,) each."""
        y = rng.integers(0, self.config.orders, len(z))
        laid = shuffled(z, backend.to_host(self.orders.data)[y])
        with no_grad():
            return y, backend.to_host(self.order(Tensor(backend.to_device(laid))).data).argmax(axis=1)

    def draw(self, test: DataSet, right: np.ndarray, path: Path) -> None:
        """A puzzle of each class, and its tiles put where the network believes them to belong."""
        chosen, titles = pictures.one_of_each_class(test, right)
        images, rng = self.raw({"images": test["images"][chosen]}), random.seed(self.config.seed)
        tiles, orders = self.cut(images, rng), backend.to_host(self.orders.data)
        with no_grad():
            z = backend.to_host(self(Tensor(self.guarded(tiles))).data)
        y, said = self.solve(z, rng)
        puzzles = shuffled(self.picture(backend.to_host(tiles)), orders[y])  # (n, 9, h, w, 1 or 3)
        solved = []
        for puzzle, true, answer in zip(puzzles, orders[y], orders[said], strict=True):
            back = answer.argsort()  # the tile at place i is believed to be tile answer[i], and goes back there
            colors = [viz.RIGHT if hit else viz.WRONG for hit in (true == answer)[back]]
            solved.append(mosaic(list(puzzle[back]), colors))
        viz.image_grid(
            [list(self.picture(backend.to_host(images))), [mosaic(list(p), [viz.GREY] * 9) for p in puzzles], solved],
            path,
            row_titles=["image", "its tiles, shuffled", "as the network puts them back"],
            column_titles=titles,
            title="Green tiles are back in their places, red ones are not. Per cent: how often all nine are, over all "
            f"test images of the class; guessing gives {1 / len(orders):.1%}",
        )


def by_borders(puzzles: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Of puzzles (n, 9, h, w, C) the order, (n,), in which borders that touch differ least: a rule without learning."""
    unlike = lambda a, b: ((a[:, :, None] - b[:, None]) ** 2).sum(axis=(3, 4))  # (n, 9, s, C) twice to (n, 9, 9)
    beside = unlike(puzzles[:, :, :, -1], puzzles[:, :, :, 0])  # the right border of tile i, the left one of tile j
    below = unlike(puzzles[:, :, -1], puzzles[:, :, 0])
    places = np.arange(9).reshape(3, 3)
    cost = []
    for lies in orders.argsort(axis=1):  # tile t of the image lies at lies[t]
        of_row = beside[:, lies[places[:, :-1]], lies[places[:, 1:]]].sum(axis=(1, 2))  # (n,)
        cost.append(of_row + below[:, lies[places[:-1]], lies[places[1:]]].sum(axis=(1, 2)))
    return np.argmin(cost, axis=0)


def shuffled(tiles: Any, order: backend.Array) -> Any:
    """Tiles or their features (N, 9, ...), a Tensor or an array, in the orders (N, ..., 9): (N, ..., 9, ...)."""
    xp = backend.of(order).xp
    image = xp.arange(len(order)).reshape(-1, *[1] * (order.ndim - 1))
    return tiles[image, order]
