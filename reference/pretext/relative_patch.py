"""Relative patch: two neighbouring patches of an image are shown, and the network has to say where the second one lies.

"Doing well on this task requires the model to learn to recognize objects and their parts." One encoder f, the tower,
sees each patch by itself; only then do their features meet in a head g, which chooses among eight places around the
first patch, from upper left (0) to lower right (7):

    p = softmax(g(f(first), f(second)))      loss = −log p[Y]      guessing gives log 8

Notice that the network takes the cheapest hint, and what must be done about it. A line that leaves one patch enters
its neighbour: hence a gap of half a patch, and a jitter of some pixels, so that not even the distance is known. A lens
shifts the colours towards its rim, which tells where in the image a patch lies: hence `--colors drop`, which leaves
each patch one channel and noise, or `project`, which takes green against magenta away; scenes have no lens, so that
the default is `keep`. Every image asks for all eight places equally often, so that no place is the better guess.

Notice above all what is left to know. A cat's ear is above its eye; a field, a street or a wood has no such order, and
an image from above no up. What tells a place here is the run of a river, a road, a shore through both patches, so few
places are told right: 17% on scenes, 24% on photographs of RSSCN7 (RESULTS.md).

(Doersch, Gupta and Efros, 2015, "Unsupervised Visual Representation Learning by Context Prediction")

Differs from the paper: a ResNet-18 of width 16 with a 3x3 stem at stride 2 as the tower, and patches of 24 pixels, from
images of 64. Of the 3x3 grid only two patches are ever seen: so 2x2 are cut, with all eight places among their ordered
pairs, since 3x3 would have to be of 15 pixels (and then hardly anything is learned in the same time). No patch is
shrunk and enlarged again; flips and quarter turns instead.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from minissl import augment, backend, losses, models, nn, ops, random, viz
from minissl.data import DataSet
from minissl.data.loader import Batch
from minissl.evaluation import extract
from minissl.models.resnet import Stem
from minissl.tensor import Tensor, no_grad
from reference import pictures
from reference.method import Inputs, Method
from reference.settings import Settings

PLACES = ["upper left", "above", "upper right", "left", "right", "lower left", "below", "lower right"]
# Patches 0 1 above 2 3. For each place, the (first, second) patches of which the second lies there: a corner has one
# such pair, which therefore counts twice.
PAIRS = [
    [(3, 0), (3, 0)], [(2, 0), (3, 1)], [(2, 1), (2, 1)],
    [(1, 0), (3, 2)],                   [(0, 1), (2, 3)],
    [(1, 2), (1, 2)], [(0, 2), (1, 3)], [(0, 3), (0, 3)],
]  # fmt: skip
FIRST, SECOND = ([pair[i] for pairs in PAIRS for pair in pairs] for i in (0, 1))  # 16 patches each
PLACE = np.arange(8).repeat(2)  # (16,)
Color = tuple[float, float, float]


@dataclass(kw_only=True)
class Config(Settings):
    """Relative patch's settings."""

    # Side of a patch in pixels
    patch: int = 24
    # Gap between two patches, in parts of a patch: no line goes on from one into the other
    gap: float = 0.5
    # How far each patch is moved at random, up or down and left or right, in parts of a patch
    jitter: float = 0.1
    # Each patch loses its own mean and deviation, so that light that falls off over the image tells nothing
    normalize: bool = False
    # Against lenses: keep all channels, drop all but one of each patch, or project green-magenta away (RGB)
    colors: Literal["keep", "drop", "project"] = "keep"
    # Numbers that the head takes from each patch
    embedding: int = 64
    # Units of the head's hidden layer, which sees both patches
    hidden: int = 128
    # Channels of the ResNet-18's first stage; h has 8 times as many
    width: int = 16
    # First layer: imagenet (7x7, output stride 4), halving (3x3, stride 2) or cifar (3x3, stride 1)
    stem: Stem = "halving"
    # Flips and quarter turns, for images from above
    turns: bool = True
    # How often every training image is seen, each time in four patches
    epochs: int = 20
    # Images in a step; the network sees four times as many patches
    batch_size: int = 16
    # Peak of the learning rate, reached after the warm-up; then half a cosine down to 0
    learning_rate: float = 0.05


class RelativePatch(Method):
    """encoder f, which sees one patch, and head g, which compares two."""

    settings = Config
    config: Config
    encoder: models.ResNet

    def __init__(self, config: Config, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        self.encoder = models.resnet18(config.width, inputs.channels, config.stem)
        self.embed = PatchHead(self.encoder.out_features, config.embedding)
        self.compare = models.mlp(2 * config.embedding, config.hidden, len(PLACES), batch_norm=True)
        self.references = {"log 8, guessing": math.log(len(PLACES))}

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[backend.Array]:
        images = self.raw(batch)  # (N, H, W, C)
        if self.config.turns:
            images = augment.quarter_turns(augment.horizontal_flip(images, rng), rng)
        return (self.guarded(self.cut(images, rng), rng),)

    def cut(self, images: backend.Array, rng: np.random.Generator) -> backend.Array:
        """Images (N, H, W, C) to their patches, (N, 4, h, w, C)."""
        c = self.config
        return augment.cut_tiles(images, rng, c.patch, int(c.gap * c.patch), int(c.jitter * c.patch), grid=2)

    def guarded(self, patches: backend.Array, rng: np.random.Generator) -> backend.Array:
        """Patches (N, 4, h, w, C) as the network takes them, without what would give their places away."""
        N, T, h, w, C = patches.shape
        if self.config.colors == "project":
            patches = augment.project_colors(patches)
        patches = self.standardize(patches.reshape(N * T, h, w, C)).reshape(N, T, h, w, C)
        if self.config.normalize:
            patches = augment.normalize_tiles(patches)
        return augment.drop_channels(patches, rng) if self.config.colors == "drop" else patches

    def forward(self, patches: Tensor) -> Tensor:
        """Patches (N, 4, h, w, C) to what the head says of each of their 16 pairs, (N, 16, 8)."""
        N, T, h, w, C = patches.shape
        features = self.encoder.features(patches.reshape(N * T, h, w, C), "layer4")  # (N·4, h', w', 8·width)
        z = self.embed(features).reshape(N, T, -1)  # (N, 4, D)
        pairs = ops.concatenate([z[:, FIRST], z[:, SECOND]], axis=2)  # (N, 16, 2D)
        return self.compare(pairs.reshape(N * len(PLACE), -1)).reshape(N, len(PLACE), len(PLACES))

    def loss(self, views: tuple[Any, ...]) -> Tensor:
        [patches] = views
        Y = backend.to_device(np.tile(PLACE, len(patches)))  # (N·16,)
        return losses.cross_entropy(self(Tensor(patches)).reshape(len(Y), len(PLACES)), Y)

    def shown(self, views: tuple[Any, ...]) -> dict[str, np.ndarray]:
        return {"its four patches": np.stack([mosaic(list(each), [viz.GREY] * 4) for each in self.seen(views[0])])}

    def seen(self, patches: backend.Array) -> np.ndarray:
        """Standardised patches (N, T, h, w, C) to look at, (N, T, h, w, 1 or 3)."""
        N, T, h, w, C = patches.shape
        raw = augment.unstandardize(patches.reshape(N * T, h, w, C), self.inputs.mean, self.inputs.deviation)
        return self.picture(backend.to_host(raw)).reshape(N, T, h, w, -1)

    def measure(self, parts: dict[str, DataSet], out: Path) -> dict[str, float]:
        """How often the place of a second patch is told right, in test images; and some of the answers."""
        test, rng = parts["test"], random.seed(self.config.seed)

        def prepare(images: backend.Array) -> backend.Array:
            return self.guarded(self.cut(augment.to_float(images), rng), rng)

        logits = extract(self, test["images"], prepare).reshape(-1, len(PLACE), len(PLACES))
        right = logits.argmax(axis=2) == PLACE  # (n, 16)
        self.draw(test, right.mean(axis=1), out / "places.png")
        return {"places told right (guessing: 0.125)": float(right.mean())}

    def draw(self, test: DataSet, accuracy: np.ndarray, path: Path) -> None:
        """An image of each class, a question about it, and the answer. accuracy: of each test image, (n,)."""
        chosen, titles = pictures.one_of_each_class(test, accuracy)
        images, rng = self.raw({"images": test["images"][chosen]}), random.seed(self.config.seed)
        patches = self.cut(images, rng)
        with no_grad():
            logits = backend.to_host(self(Tensor(self.guarded(patches, rng))).data)  # (n, 16, 8)
        shown = self.picture(backend.to_host(patches))
        truth: list[np.ndarray] = []
        answers: list[np.ndarray] = []
        for n, four in enumerate(shown):
            question = (2 * n) % len(PLACE)  # the places in turn
            first, second = four[FIRST[question]], four[SECOND[question]]
            true, said = PLACE[question], logits[n, question].argmax()
            for place, row, frame in (
                (true, truth, viz.GREY),
                (said, answers, viz.RIGHT if said == true else viz.WRONG),
            ):
                cells = [second if k == place else None for k in range(8)]
                row.append(mosaic([*cells[:4], first, *cells[4:]], [*[frame] * 4, viz.GREY, *[frame] * 4]))
        viz.image_grid(
            [list(self.picture(backend.to_host(images))), truth, answers],
            path,
            row_titles=["image", "two patches as they lie", "as the network places the second"],
            column_titles=titles,
            title="Where does the second patch lie? Green: the network is right, red: it is wrong. "
            "Per cent: how often it is right over all test images of the class; guessing gives 12.5%",
        )


class PatchHead(nn.Module):
    """What the puzzle's head takes from a patch: the last stage (N, h', w', C) to (N, embedding).

    Reduced to 2x2 and not to its mean, as the probes have it: where in the patch a line ends is what is asked for.
    """

    def __init__(self, channels: int, embedding: int) -> None:
        self.linear = nn.Linear(4 * channels, embedding, bias=False)
        self.norm = nn.BatchNorm(embedding, relu=True)

    def forward(self, x: Tensor) -> Tensor:
        x = ops.adaptive_average_pool2d(x, 2)  # (N, 2, 2, C)
        return self.norm(self.linear(x.reshape(len(x), -1)))


def mosaic(tiles: list[np.ndarray | None], frames: list[Color]) -> np.ndarray:
    """Tiles (h, w, 1 or 3) in a square, row by row, each in a frame of its own colour; where there is None, paper."""
    side = math.isqrt(len(tiles))
    h, w = next(tile.shape[:2] for tile in tiles if tile is not None)
    page = np.ones((side, side, h + 4, w + 4, 3))
    for i, (tile, frame) in enumerate(zip(tiles, frames, strict=True)):
        if tile is not None:
            page[i // side, i % side, 1:-1, 1:-1] = frame
            page[i // side, i % side, 2:-2, 2:-2] = tile
    return page.transpose(0, 2, 1, 3, 4).reshape(side * (h + 4), side * (w + 4), 3)
