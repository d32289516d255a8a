"""Split-brain autoencoder: two networks, each sees half of the channels and predicts the half that the other one sees.

An image's channels are split into X₁ and X₂: lightness and colour, L | a, b, or in Sentinel-2's thirteen bands the
visible and the infrared (--split spectral). A network F₁ predicts X₂ of X₁, another F₂ predicts X₁ of X₂:

    loss = ℓ(F₁(X₁), X₂) + ℓ(F₂(X₂), X₁)            X standardised, and averaged over 4x4 pixels
    features = (those of F₁'s encoder on X₁, those of F₂'s encoder on X₂)

ℓ is cross entropy: F says for each channel how likely each of K values is, and a true value between two of them counts
as a share of both, whose mean it is. Or it is squared error (--loss squared), of which the paper learned less.

Notice what this mends in an autoencoder. One that sees all that it has to say can copy, and needs a bottleneck that
forbids it; here nothing can be copied, since no network sees what it predicts. And unlike colorization, of which the
encoder never sees a colour, both halves together have seen the whole image. Each has half the width, so that the
features are as many as those of one network.

Notice too that a pretext task is not good for being solved. "Explained" in the figures is 1 − error / variance, 0 for
who always says the mean, and stands beside what a linear map of the same place alone explains. In generated scenes
colour follows from lightness only as far as one knows what is there, a river or a field, and that the shapes tell. The
infrared follows from the visible place by place, a linear map does almost as well, and the features know less of the
classes.

(Zhang, Isola and Efros, 2017, "Split-Brain Autoencoders: Unsupervised Learning by Cross-Channel Prediction")

Differs from the paper: two ResNet-18 of half the width, and from the last three maps of each a small decoder, in place
of an AlexNet cut in two along all its layers; K classes for each channel, which serves both splits, where the best of
theirs for Lab are 100 bins of L and 313 of (a, b) together (see colorization); the split of Sentinel-2's bands is new.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from minissl import augment, backend, losses, models, nn, ops, viz
from minissl.data import DataSet, evenly
from minissl.data.loader import Batch
from minissl.data.scenes import BANDS
from minissl.data.scenes.render import RED_GREEN_BLUE, true_colour
from minissl.evaluation import extract
from minissl.models.cross_channel import LAB_CENTRE, LAB_SPREAD, ChannelGroups, CoarseDecoder, StandardizedLab, coarse
from minissl.models.resnet import Stem
from minissl.tensor import Tensor
from reference.method import Inputs, Method
from reference.pretext.colorization import check_rgb, painted
from reference.settings import Settings

VISIBLE = BANDS.index("B5")  # the bands before it: 443 to 665 nm
SWIR_NIR_RED_EDGE = tuple(map(BANDS.index, ("B11", "B8", "B5")))  # shown as red, green and blue
SHOWN = 8


@dataclass(kw_only=True)
class Config(Settings):
    """The split-brain autoencoder's settings."""

    # What is split: an RGB image into lightness and colour, or Sentinel-2's 13 bands into visible and infrared
    split: Literal["lab", "spectral"] = "lab"
    # What the networks say of a channel: its value, with squared error, or how likely it lies near each of K values
    loss: Literal["classes", "squared"] = "classes"
    # K: values from -3 to 3 deviations from a channel's mean; what lies beyond counts as the last
    classes: int = 25
    # Channels of the first stage, half of them in each ResNet-18; features have 8 times as many
    width: int = 16
    # First layer: imagenet (7x7, output stride 4), halving (3x3, stride 2) or cifar (3x3, stride 1)
    stem: Stem = "halving"
    # Flips and quarter turns, for images from above
    turns: bool = True
    # How often every training image is seen
    epochs: int = 20
    # Update rule
    optimizer: Literal["sgd", "lars", "adam", "adamw"] = "adam"
    # Peak of the learning rate, reached after the warm-up; then half a cosine down to 0
    learning_rate: float = 3e-3


class SplitBrain(Method):
    """Two encoders, each of its half of the channels, and on each a decoder to the other half."""

    settings = Config
    config: Config
    encoder: ChannelGroups

    def __init__(self, config: Config, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        if config.width % 2 or config.classes < 2:
            raise ValueError(
                "split_brain: expected an even --width, for two halves, and at least 2 --classes, "
                f"got {config.width} and {config.classes}"
            )
        if config.split == "lab":
            check_rgb("split_brain --split lab", inputs)
            self.names, halves = ("L", "a, b"), (slice(0, 1), slice(1, 3))
            space: nn.Module = StandardizedLab(inputs.mean, inputs.deviation)
            self.centre, self.spread = list(LAB_CENTRE), list(LAB_SPREAD)
        else:
            check_bands(inputs)
            self.names, halves = ("visible", "infrared"), (slice(0, VISIBLE), slice(VISIBLE, len(BANDS)))
            space = nn.Identity()
            self.centre, self.spread = inputs.mean, inputs.deviation
        width, sizes = config.width // 2, [half.stop - half.start for half in halves]
        resnets = [models.resnet18(width, size, config.stem) for size in sizes]
        self.encoder = ChannelGroups(resnets, halves, space)
        xp = backend.current().xp
        self.levels = nn.Buffer(xp.linspace(-3, 3, config.classes).astype("float32"))  # (K,)
        K = config.classes if config.loss == "classes" else 1
        self.decoders = nn.ModuleList(
            CoarseDecoder((2 * width, 4 * width, 8 * width), other * K) for other in reversed(sizes)
        )

    @classmethod
    def of_scenes(cls, config: Config) -> dict[str, Any]:
        return {"bands": "s2" if config.split == "spectral" else "rgb"}

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[backend.Array]:
        images = self.raw(batch)  # (N, H, W, C)
        if self.config.turns:
            images = augment.quarter_turns(augment.horizontal_flip(images, rng), rng)
        return (self.standardize(images),)

    def loss(self, views: tuple[Any, ...]) -> Tensor:
        s = self.encoder.space(Tensor(views[0]))  # (N, H, W, C): L, a, b, or the bands
        X = coarse(s.data)  # (N, h, w, C)
        first, second = self.encoder.channels
        of_second, of_first = self.predictions(s)
        return self.error(of_second, X[..., second]) + self.error(of_first, X[..., first])

    def error(self, y: Tensor, X: backend.Array) -> Tensor:
        """Of what a decoder says, (N, h, w, C) or (N, h, w, C·K), about channels X (N, h, w, C)."""
        if self.config.loss == "squared":
            return losses.mse(y, X)
        K = self.config.classes
        return losses.cross_entropy(y.reshape(-1, K), soft_levels(X, self.levels.data).reshape(-1, K))

    def values(self, y: Tensor) -> Tensor:
        """What a decoder says, as one number for each channel: (N, h, w, C)."""
        if self.config.loss == "squared":
            return y
        return ops.softmax(y.reshape(*y.shape[:3], -1, self.config.classes)) @ self.levels

    def predictions(self, s: Tensor) -> list[Tensor]:
        """F₁(X₁), a prediction of X₂, and F₂(X₂), one of X₁, both on a grid of a quarter of the side."""
        grid = s.shape[1] // 4, s.shape[2] // 4
        groups = self.encoder.groups(s)
        return [F([m for _, m in stages], grid) for F, stages in zip(self.decoders, groups, strict=True)]

    def forward(self, x: Tensor) -> Tensor:
        """Standardised images -> every channel as the other half predicts it, (N, h, w, C)."""
        of_second, of_first = map(self.values, self.predictions(self.encoder.space(x)))
        return ops.concatenate([of_first, of_second], axis=-1)

    def measure(self, parts: dict[str, DataSet], out: Path) -> dict[str, float]:
        """The share of each half's variance that the other explains; and of a linear map of the same place alone."""
        train, test = parts["train"]["images"], parts["test"]["images"]
        grid = (test.shape[1] // 4, test.shape[2] // 4, test.shape[3])
        known, true = (extract(Coarse(self.encoder.space), images, self.prepare) for images in (train, test))
        predicted = extract(self, test, self.prepare)
        some = evenly(len(test), SHOWN)
        tiles = lambda places: places[some].reshape(-1, *grid).repeat(4, axis=1).repeat(4, axis=2)
        self.draw(test[some], tiles(true), tiles(predicted), out)

        known, true, predicted = (places.reshape(-1, grid[-1]) for places in (known, true, predicted))  # (places, C)
        found = {}
        for own, other in ((0, 1), (1, 0)):
            X, Y = self.encoder.channels[own], self.encoder.channels[other]
            matrix = np.linalg.lstsq(with_one(known[:, X]), known[:, Y])[0]
            name = f"{self.names[other]} explained by {self.names[own]}"
            found[name] = explained(predicted[:, Y], true[:, Y])
            found[f"{name}, linearly"] = explained(with_one(true[:, X]) @ matrix, true[:, Y])
        return found

    def draw(self, images: np.ndarray, true: np.ndarray, predicted: np.ndarray, out: Path) -> None:
        """Each half of test images, and what the network that saw the other half only says of it."""
        rows = {"test image": self.picture(augment.to_float(images))}
        for half, other in ((1, 0), (0, 1)):
            name = self.names[half] + self.note(half)
            rows[f"{name}: true"] = self.look(true, half)
            rows[f"{self.names[half]}: predicted from {self.names[other]}"] = self.look(predicted, half)
        title = "What each network predicts of the channels that it does not see"
        viz.image_grid([list(row) for row in rows.values()], out / "predictions.png", list(rows), title=title)

    def shown(self, views: tuple[Any, ...]) -> dict[str, np.ndarray]:
        s = backend.to_host(self.encoder.space(Tensor(views[0])).data)
        return {f"seen by network {i + 1}: {self.names[i]}{self.note(i)}": self.look(s, i) for i in (0, 1)}

    def note(self, half: int) -> str:
        """How a half is shown, where that is not plain."""
        if self.config.split == "lab":
            return ("", " (at L = 60)")[half]
        return (" (B4, B3, B2)", " (B11, B8, B5)")[half]

    def look(self, s: np.ndarray, half: int) -> np.ndarray:
        """One half of standardised channels (N, h, w, C) as an image to look at."""
        x = s * np.array(self.spread, np.float32) + np.array(self.centre, np.float32)
        if self.config.split == "lab":
            L, ab = (x[..., :1], 0 * x[..., 1:]) if half == 0 else (np.full_like(x[..., :1], 60), x[..., 1:])
            return painted(L, ab)
        return true_colour(x[..., RED_GREEN_BLUE] if half == 0 else 0.6 * x[..., SWIR_NIR_RED_EDGE])

    def picture(self, images: np.ndarray) -> np.ndarray:
        return super().picture(images) if self.config.split == "lab" else true_colour(images[..., RED_GREEN_BLUE])


class Coarse(nn.Module):
    """Standardised images -> what there is to predict, (N, h, w, C)."""

    def __init__(self, space: nn.Module) -> None:
        self.space = space

    def forward(self, x: Tensor) -> Tensor:
        return Tensor(coarse(self.space(x).data))


def soft_levels(X: backend.Array, levels: backend.Array) -> backend.Array:
    """Each value as shares of the two levels around it, whose mean it is: (...) and (K,) -> (..., K)."""
    xp, step = backend.of(X).xp, levels[1] - levels[0]
    return xp.maximum(0, 1 - xp.abs(X.clip(levels[0], levels[-1])[..., None] - levels) / step)


def explained(predicted: np.ndarray, true: np.ndarray) -> float:
    """1 − mean squared error / variance, over channels and rows (places, C)."""
    return float(1 - ((predicted - true) ** 2).mean() / true.var(axis=0).mean())


def with_one(x: np.ndarray) -> np.ndarray:
    """Rows with a last column of 1, the constant of a linear map."""
    return np.concatenate([x, np.ones_like(x[:, :1])], axis=1)


def check_bands(inputs: Inputs) -> None:
    """Raise ValueError unless the images have the bands of Sentinel-2."""
    if inputs.channels != len(BANDS):
        raise ValueError(
            f"split_brain --split spectral: expected images of Sentinel-2's {len(BANDS)} bands, {BANDS[0]} to "
            f"{BANDS[-1]}, got {inputs.channels} channels; for RGB run it with --split lab"
        )
