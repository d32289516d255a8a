"""Colorization: say the colours of a grey picture, as one of Q bins for each pixel.

In CIE Lab an image is its lightness L and its colour (a, b). The encoder sees L alone, a light decoder names for each
place of a coarse grid how likely every bin of a grid over (a, b) is, and the true colour, spread softly over the five
nearest bins as Z, is the answer:

    loss = −mean over places of v Σ_q Z_q log ẑ_q        v = w_q*, q* the true bin        ẑ = softmax(logits)
    w ∝ ((1 − λ) p̃ + λ/Q)⁻¹ with Σ p̃ w = 1              p̃ how common each bin is
    colour shown = Σ_q softmax(logits / T)_q bin_q        T = 0 the mode, 1 the mean, 0.38 in between

Notice what makes a picture dull. Of dark grass both green and brown are plausible, and their mean is neither: the mean
(T = 1, and all that a network trained with squared error could say) varies less than the truth ("spread of colours"),
and where opposite colours are plausible it is grey. Rebalancing (λ < 1) has rare colours count more: fewer bins are
right, but more where all colours count alike ("rebalanced"). The slide has it: a colour need not be the true one, only
a plausible one. So these figures measure the task, and the probes what was learned from it. The loss ends well above
0: a fair share of it is the entropy of Z.

(Zhang, Isola and Efros, 2016, "Colorful Image Colorization")

Differs from the paper: a ResNet-18 of width 16 in place of a VGG with dilated convolutions, and from its last three
maps a small decoder; the bins are the 261 that the squares of 10 x 10 give for sRGB, theirs are 313; p̃ is the mean
of all Z seen so far in training instead of a smoothed histogram of ImageNet made before: Z is a Gaussian of σ = 5
around each colour, and so smooths as theirs does.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from minissl import augment, backend, losses, models, nn, viz
from minissl.augment import ab_bins
from minissl.data import DataSet
from minissl.data.loader import Batch
from minissl.evaluation import extract
from minissl.models.cross_channel import ChannelGroups, CoarseDecoder, StandardizedLab, coarse
from minissl.models.resnet import Stem
from minissl.optim import Optimizer
from minissl.tensor import Tensor
from reference.method import Inputs, Method
from reference.settings import Settings

TEMPERATURES = (0.0, 0.38, 1.0)  # at which predictions are decoded: the mode, the paper's choice, the mean
SHOWN = 8


@dataclass(kw_only=True)
class Config(Settings):
    """Colorization's settings."""

    # Channels of the ResNet-18's first stage; features have 8 times as many
    width: int = 16
    # First layer: imagenet (7x7, output stride 4), halving (3x3, stride 2) or cifar (3x3, stride 1)
    stem: Stem = "halving"
    # λ: share of the uniform distribution in the rebalancing weights; at 1 all colours weigh alike
    uniform: float = 0.5
    # Flips and quarter turns, for images from above
    turns: bool = True
    # How often every training image is seen
    epochs: int = 20
    # Update rule
    optimizer: Literal["sgd", "lars", "adam", "adamw"] = "adam"
    # Peak of the learning rate, reached after the warm-up; then half a cosine down to 0
    learning_rate: float = 3e-3


class Colorization(Method):
    """An encoder of L, a decoder to Q bins of (a, b), and how often each bin has been seen."""

    settings = Config
    config: Config
    encoder: ChannelGroups

    def __init__(self, config: Config, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        check_rgb("colorization", inputs)
        resnet = models.resnet18(config.width, 1, config.stem)
        self.encoder = ChannelGroups([resnet], [slice(0, 1)], StandardizedLab(inputs.mean, inputs.deviation))
        self.bins = nn.Buffer(ab_bins.gamut_bins())  # (Q, 2)
        Q = len(self.bins)
        self.decoder = CoarseDecoder((2 * config.width, 4 * config.width, 8 * config.width), Q)
        self.seen = nn.Buffer(nn.initializers.ones((Q,)) * (1e-3 / Q))  # Σ over steps of the mean Z; at first all alike

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[backend.Array, backend.Array]:
        images = self.raw(batch)  # (N, H, W, 3)
        if self.config.turns:
            images = augment.quarter_turns(augment.horizontal_flip(images, rng), rng)
        return self.standardize(images), ab_bins.soft_encode(coarse_ab(images), self.bins.data)

    def loss(self, views: tuple[Any, ...]) -> Tensor:
        x, Z = views  # (N, H, W, 3), (N, h, w, Q)
        return losses.colorization(self.logits(Tensor(x)), Z, self.weights())

    def logits(self, x: Tensor) -> Tensor:
        """Standardised images (N, H, W, 3), of which only L is used -> (N, h, w, Q) on a grid of a quarter the side."""
        maps = [output for _, output in self.encoder.run(x)]
        return self.decoder(maps, (x.shape[1] // 4, x.shape[2] // 4))

    def weights(self) -> backend.Array:
        """w (Q,) of the colours seen so far. From the second epoch on they hardly move."""
        return ab_bins.rebalancing_weights(self.seen.data, self.config.uniform)

    def training_step(self, views: tuple[Any, ...], optimizer: Optimizer) -> dict[str, float]:
        """One update, as of every method; the colours of the batch are counted first."""
        self.seen.data = self.seen.data + views[1].mean(axis=(0, 1, 2))
        return super().training_step(views, optimizer)

    def forward(self, x: Tensor) -> Tensor:
        """The colours that standardised images are given, decoded at each temperature: (N, h, w, 2·temperatures)."""
        logits = self.logits(x).data
        colours = [ab_bins.annealed_mean(logits, self.bins.data, T) for T in TEMPERATURES]
        return Tensor(backend.of(logits).xp.concatenate(colours, axis=-1))

    def measure(self, parts: dict[str, DataSet], out: Path) -> dict[str, float]:
        """How far the given colours are from the true ones, how often their bin is right, and how pale they are."""
        images = parts["test"]["images"]
        truth = extract(Truth(), images, augment.to_float).reshape(-1, 2)  # (places, 2)
        given = extract(self, images, self.prepare).reshape(len(truth), len(TEMPERATURES), 2)
        bins, weights = backend.to_host(self.bins.data), backend.to_host(self.weights())
        true_bin, mode = nearest(truth, bins), nearest(given[:, 0], bins)
        right, w = true_bin == mode, weights[true_bin]
        commonest = true_bin == np.bincount(true_bin).argmax()
        self.draw(parts["test"].some(SHOWN)["images"], out)
        spread = truth.std(axis=0).mean()
        length = lambda ab: float(np.linalg.norm(ab, axis=-1).mean())
        return {
            "colour error (distance in ab), at T = 0.38": length(given[:, 1] - truth),
            "colour error of the mean, T = 1": length(given[:, 2] - truth),
            "colour error of grey": length(truth),
            "right bins": float(right.mean()),
            "right bins, if it always said the commonest": float(commonest.mean()),
            "right bins, rebalanced": float(w @ right / w.sum()),
            "right bins, rebalanced, of the commonest": float(w @ commonest / w.sum()),
        } | {
            f"spread of colours, given / true, at T = {T:g}": float(given[:, i].std(axis=0).mean() / spread)
            for i, T in enumerate(TEMPERATURES)
        }

    def draw(self, images: np.ndarray, out: Path) -> None:
        """Test images, what the network sees of them, and with what colours it gives them back."""
        given = extract(self, images, self.prepare)
        rgb = augment.to_float(images)
        N, H, W, _ = rgb.shape
        ab = np.split(augment.resize(given.reshape(N, H // 4, W // 4, -1), (H, W)), len(TEMPERATURES), axis=-1)
        L = augment.rgb_to_lab(rgb)[..., :1]
        rows = [rgb, painted(L, 0 * ab[0]), *(painted(L, colours) for colours in ab)]
        titles = ["test image", "what the network sees: L"]
        titles += [f"T = {T:g}{note}" for T, note in zip(TEMPERATURES, (", the mode", "", ", the mean"), strict=True)]
        title = "Colours that the network gives to grey test images"
        viz.image_grid([list(row) for row in rows], out / "colours.png", titles, title=title)

    def shown(self, views: tuple[Any, ...]) -> dict[str, np.ndarray]:
        rgb = backend.to_host(augment.unstandardize(views[0], self.inputs.mean, self.inputs.deviation))
        L, ab = augment.rgb_to_lab(rgb)[..., :1], coarse_ab(rgb)
        colours = painted(np.full_like(ab[..., :1], 60), ab).repeat(4, axis=1).repeat(4, axis=2)
        return {"seen: L": painted(L, np.zeros_like(rgb[..., 1:])), "to say: a and b (at L = 60)": colours}


class Truth(nn.Module):
    """Images (N, H, W, 3) in [0, 1] -> their true colours on the coarse grid, (N, h, w, 2)."""

    def forward(self, x: Tensor) -> Tensor:
        return Tensor(coarse_ab(x.data))


def coarse_ab(images: backend.Array) -> backend.Array:
    """a and b of RGB images (N, H, W, 3), means over 4x4 pixels: (N, H/4, W/4, 2)."""
    return coarse(augment.rgb_to_lab(images)[..., 1:])


def nearest(ab: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """The number of the bin nearest to each colour: (P, 2) and (Q, 2) -> (P,)."""
    return ((bins**2).sum(axis=1) - 2 * ab @ bins.T).argmin(axis=1)


def painted(L: np.ndarray, ab: np.ndarray) -> np.ndarray:
    """L (N, H, W, 1) and ab (N, H, W, 2) as RGB; colours that sRGB lacks become the nearest, channel by channel."""
    return augment.lab_to_rgb(np.concatenate([L, ab], axis=-1)).clip(0, 1)


def check_rgb(chapter: str, inputs: Inputs) -> None:
    """Raise ValueError unless the images have three channels, which Lab is made of."""
    if inputs.channels != 3:
        raise ValueError(
            f"{chapter}: expected RGB images, of 3 channels, to make L, a and b of, got {inputs.channels} channels; "
            "choose the bands of red, green and blue, or for Sentinel-2 run split_brain --split spectral"
        )
