"""Rotation: every image is shown in four quarter turns, and the network has to say by how far each was turned.

"A model could recognize the correct rotation of an object only if it has the visual common sense of what the object
should look like unperturbed." An image x comes in all its turns r = 0, 1, 2, 3 in one batch, so that no turn is seen
more often than another; the encoder f gives features h, and a linear layer says which turn it was:

    h = f(rot90(x, r))      p = softmax(h V + c)      loss = −¼ Σ_r log p[r]      guessing gives log 4

Notice that the turns must leave no trace of their own. Quarter turns only move pixels: nothing is interpolated, no
corner has to be filled, and what counts pixels and not their places cannot tell one turn from another.

Notice above all what a satellite sees. People stand upright in photographs; an image from above has no up, and a
field, a river or a street may run in any direction. What does have one is the light: Sentinel-2 passes at half past
ten, when the sun stands in the south-east (or north-east, south of it), and every crown and roof is dark on the other
side. Then the task is to read shadows: a run ends with the accuracy under each sun, of which a random one (`--sun
random`) leaves nothing to read: 37% of turns are told with a fixed sun, 25 with a random one, by guessing 25.

(Gidaris, Singh and Komodakis, 2018, "Unsupervised Representation Learning by Predicting Image Rotations")

Differs from the paper: a ResNet-18 of width 16 with a 3x3 stem at stride 2, for images of 64 pixels, and no flips: a
mirrored image would move the sun.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from minissl import backend, losses, models, nn, viz
from minissl.data import DataSet
from minissl.data.loader import Batch
from minissl.data.scenes import Sun
from minissl.evaluation import extract
from minissl.models.resnet import Stem
from minissl.tensor import Tensor
from reference import pictures
from reference.method import Inputs, Method
from reference.settings import Settings

UP = ("up is up", "up is left", "up is down", "up is right")  # where an image's top is after r quarter turns


@dataclass(kw_only=True)
class Config(Settings):
    """Rotation's settings."""

    # Sun of generated scenes: in the south-east (fixed), as half past ten has it (orbit), or anywhere (random)
    sun: Sun = "fixed"
    # Side of the square that is cut out of an image to learn from, a part of the image's side
    crop: float = 0.5
    # Channels of the ResNet-18's first stage; h has 8 times as many
    width: int = 16
    # First layer: imagenet (7x7, output stride 4), halving (3x3, stride 2) or cifar (3x3, stride 1)
    stem: Stem = "halving"
    # How often every training image is seen, each time in all four turns
    epochs: int = 20
    # Images in a step; the network sees four times as many
    batch_size: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data != "scenes" and self.sun != "fixed":
            raise ValueError(f"--sun {self.sun}: only generated scenes have a sun to choose, {self.data!r} has its own")


class Rotation(Method):
    """encoder f, and a linear layer that names the turn."""

    settings = Config
    config: Config

    def __init__(self, config: Config, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        self.encoder = models.resnet18(config.width, inputs.channels, config.stem)
        self.head = nn.Linear(self.encoder.out_features, 4)
        self.references = {"log 4, guessing": math.log(4)}

    @classmethod
    def of_scenes(cls, config: Config) -> dict[str, Any]:
        return {"sun": config.sun}

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[backend.Array, backend.Array]:
        return all_turns(random_squares(self.standardize(self.raw(batch)), self.config.crop, rng))

    def loss(self, views: tuple[Any, ...]) -> Tensor:
        x, r = views  # (4N, H, W, C), (4N,)
        h = self.encoder(Tensor(x))  # (4N, 8·width)
        return losses.cross_entropy(self.head(h), r)

    def shown(self, views: tuple[Any, ...]) -> dict[str, np.ndarray]:
        [images] = super().shown(views).values()  # (4N, H, W, 1 or 3)
        return {f"turn {r}: {up}": turned for r, up, turned in zip(range(4), UP, np.split(images, 4), strict=True)}

    def measure(self, parts: dict[str, DataSet], out: Path) -> dict[str, float]:
        """How often a turn of a test image is told right; of scenes under each sun."""
        test = parts["test"]
        answers = self.answers(test["images"])  # (4, n)
        self.draw(test, answers, out / "turns.png")
        if self.config.data != "scenes":
            return {"turns told right": accuracy(answers)}
        told = {self.config.sun: answers}
        for sun in {*get_args(Sun)} - {self.config.sun}:
            told[sun] = self.answers(self.open_data(replace(self.config, sun=sun)).part("test")["images"])
        return {f"turns told right, sun {sun}": accuracy(told[sun]) for sun in get_args(Sun)}

    def answers(self, images: np.ndarray) -> np.ndarray:
        """What the network says of stored images (n, H, W, C) in each of their turns r: (4, n)."""
        network = nn.Sequential(self.encoder, self.head)
        turned = (np.rot90(images, r, axes=(1, 2)) for r in range(4))
        return np.stack([extract(network, each, self.prepare).argmax(axis=1) for each in turned])

    def draw(self, test: DataSet, answers: np.ndarray, path: Path) -> None:
        """An image of each class in its four turns, each with a bar where the network believes the top to be."""
        right = (answers == np.arange(4)[:, None]).mean(axis=0)  # (n,)
        chosen, titles = pictures.one_of_each_class(test, right)
        images = self.picture(backend.to_host(self.raw({"images": test["images"][chosen]})))  # (n, H, W, 1 or 3)
        viz.image_grid(
            [[framed(np.rot90(x, r), answers[r, n], r) for x, n in zip(images, chosen, strict=True)] for r in range(4)],
            path,
            row_titles=[f"turn {r}: {up}" for r, up in enumerate(UP)],
            column_titles=titles,
            title="The thick bar is on the side that the network takes for the top: green is right, red is wrong. "
            "Per cent: how often it is right over all test images of the class",
        )


def random_squares(images: backend.Array, part: float, rng: np.random.Generator) -> backend.Array:
    """A square from anywhere in each image (N, H, W, C), its side this part of the image's: (N, side, side, C)."""
    if images.shape[1] != images.shape[2] or not 0 < part <= 1:
        raise ValueError(f"rotation: expected square images and --crop from 0 to 1, got {images.shape} and {part}")
    (N, H, _, _), xp = images.shape, backend.of(images).xp
    side = max(1, round(part * H))
    n, i = xp.arange(N)[:, None, None], xp.arange(side)
    top, left = (backend.to_device(rng.integers(0, H - side + 1, (N, 1))) for _ in range(2))
    return images[n, (top + i)[:, :, None], (left + i)[:, None, :]]


def all_turns(images: backend.Array) -> tuple[backend.Array, backend.Array]:
    """Images (N, H, W, C) in all four quarter turns, counter-clockwise: (4N, H, W, C), and the turns r (4N,)."""
    xp = backend.of(images).xp
    return xp.concatenate([xp.rot90(images, r, (1, 2)) for r in range(4)]), xp.arange(4).repeat(len(images))


def accuracy(answers: np.ndarray) -> float:
    """The share of answers (4, n) that name their row."""
    return float((answers == np.arange(4)[:, None]).mean())


def framed(image: np.ndarray, answer: int, r: int) -> np.ndarray:
    """An image (H, W, 1 or 3) in a frame, green where the answer is r, with a bar on the side that the answer names."""
    H, W, _ = image.shape
    thin, bar = max(1, H // 32), max(3, H // 8)
    frame = np.full((H + 2 * bar, W + 2 * bar, 3), 1.0)
    frame[bar - thin : bar + H + thin, bar - thin : bar + W + thin] = viz.RIGHT if answer == r else viz.WRONG
    frame[: bar - thin, bar - thin : bar + W + thin] = frame[bar - thin, bar]
    frame = np.rot90(frame, answer).copy()
    frame[bar : bar + H, bar : bar + W] = image
    return frame
