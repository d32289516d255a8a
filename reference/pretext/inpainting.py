"""Inpainting: cut a hole into the image and fill it from what is around it (a context encoder).

The encoder f sees the image x without the pixels of the hole M, the decoder g says what stood there:

    y = g(f((1 − M) x))      L2 = Σ w ‖y − x‖²/C / Σ w        w: 1 in the hole, 10 in its border, 0 elsewhere
    --adversarial            loss = (1 − λ) L2 − λ log D(y)   D, which looks at the filled hole alone, minimises
                             −log D(x) − log(1 − D(y))

The border is a few pixels wide and the encoder sees it: there the answer is known, and a seam would show.

Notice in `filled.png` that L2 blurs: of all that may stand in the hole it paints the mean. D has the network choose,
and the hole becomes as sharp as the truth, but further from it. A thousand images teach it to be as rough as what
lies around, and no more: no house, no furrow (`--adversarial --epochs 40 --learning-rate 1e-3`).

(Pathak et al., 2016, "Context Encoders: Feature Learning by Inpainting")

Differs from the paper: a ResNet-18 of width 16; L2 alone first; λ = 0.05 for 0.001; noise, which fades, on what D sees.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from minissl import augment, backend, losses, models, nn, ops, optim, random, viz
from minissl.data import DataSet, evenly
from minissl.data.loader import Batch
from minissl.evaluation import extract
from minissl.models.inpainting import ContextDecoder
from minissl.models.resnet import Stem
from minissl.nn.frozen import frozen
from minissl.tensor import Tensor, stop_gradient
from reference.method import Inputs, Method
from reference.settings import Settings

BORDER_WEIGHT = 10
HALVINGS = {"imagenet": 5, "halving": 4, "cifar": 3}  # of the image's side, on the way to the encoder's last map


@dataclass(kw_only=True)
class Config(Settings):
    """The context encoder's settings."""

    # Side of a hole in pixels, its border included: for one hole half of the image's side, or a quarter, an eighth, ...
    hole: int = 32
    # Width of the border inside a hole that the encoder sees all the same
    overlap: int = 2
    # How many holes: one is in the centre, several are at random places and may overlap
    holes: int = 1
    # Add a discriminator, to which filled holes should look real
    adversarial: bool = False
    # λ: the share of the discriminator's word in the loss
    adversarial_weight: float = 0.05
    # Part of the epochs with L2 alone, before D comes
    alone: float = 0.25
    # Deviation of the noise on all that D sees, in standardised images; it falls to 0 epoch by epoch
    noise: float = 1.0
    # Channels of the ResNet-18's first stage; h has 8 times as many
    width: int = 16
    # First layer: imagenet (7x7, output stride 4), halving (3x3, stride 2) or cifar (3x3, stride 1)
    stem: Stem = "halving"
    # Flips and quarter turns, for images from above
    turns: bool = True
    # How often every training image is seen
    epochs: int = 20
    # Images in a step; small, for many steps
    batch_size: int = 16
    # Update rule
    optimizer: Literal["adam", "adamw"] = "adam"
    # Peak of the learning rate, reached after the warm-up; then half a cosine down to 0
    learning_rate: float = 3e-3


class Inpainting(Method):
    """encoder f, decoder g, and on demand a discriminator D."""

    settings = Config
    needs_image_size = True
    config: Config
    encoder: models.ResNet

    def __init__(self, config: Config, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        check(config)
        self.encoder = models.resnet18(config.width, inputs.channels, config.stem)
        side = config.image_size >> HALVINGS[config.stem]  # of f's last map
        doublings = ((config.hole if config.holes == 1 else config.image_size) // side).bit_length() - 1
        self.decoder = ContextDecoder(side, side, self.encoder.out_features, doublings, inputs.channels)
        self.optimizer_options = {"betas": (0.5, 0.999)}  # gradients are averaged over a few steps only, since D moves
        self.references = {"the mean colour for all": 1.0}
        if config.adversarial:
            self.D = models.Discriminator(config.hole, inputs.channels, config.width)
            self.l2_alone = optim.WeightAverage(self.net, momentum=0.0)  # f and g as they were before D came
            self.references |= {"2 log 2, D can only guess": 2 * math.log(2), "log 2, the same for G": math.log(2)}

    @property
    def net(self) -> nn.Module:
        return ContextEncoder(self.encoder, self.decoder)

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[backend.Array, ...]:
        x = self.standardize(self.raw(batch))  # (N, H, W, C)
        if self.config.turns:
            x = augment.quarter_turns(augment.horizontal_flip(x, rng), rng)
        hidden, weights = (backend.to_device(mask) for mask in self.masks(len(x), rng))  # (N, H, W)
        holed = (1 - hidden[..., None]) * x  # a hole has the mean colour, which is 0
        if not self.config.adversarial:
            return holed, x, weights
        noise = [rng.standard_normal(self.hole(x).shape, "float32") for _ in range(3)]
        return holed, x, weights, backend.to_device(np.stack(noise))

    def masks(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """For `count` images 1 where a pixel is hidden, and its weight in the loss: float32 (N, H, W) on the host."""
        c = self.config
        room = c.image_size - c.hole
        corners = np.full((2, count, 1), room // 2)
        if c.holes > 1:
            corners = np.stack([rng.integers(0, room + 1, (count, c.holes)) for _ in range(2)])
        hidden = squares(corners + c.overlap, c.hole - 2 * c.overlap, c.image_size)
        border = squares(corners, c.hole, c.image_size) & ~hidden
        return hidden.astype(np.float32), np.float32(hidden + BORDER_WEIGHT * border)

    def loss(self, views: tuple[Any, ...]) -> Tensor:
        holed, x, weights = views[:3]
        return losses.inpainting(self.net(Tensor(holed)), x, weights)

    def start_epoch(self, epoch: int) -> None:
        c = self.config
        alone = round(c.alone * c.epochs) if c.adversarial else c.epochs
        self.joint = epoch >= alone
        if self.joint:
            self.sigma = c.noise * (c.epochs - epoch) / (c.epochs - alone)

    def training_step(self, views: tuple[Any, ...], optimizer: optim.Optimizer) -> dict[str, float]:
        if not self.joint:
            logged = {"L2": super().training_step(views, optimizer)["loss"]}
            if self.config.adversarial:
                self.l2_alone.update(self.net)
            return logged
        holed, x, weights, noise = views
        n1, n2, n3 = self.sigma * noise  # each (N, hole, hole, C)
        y = self.net(Tensor(holed))  # (N, H, W, C)
        real, fake = self.hole(x), self.hole(y)  # (N, hole, hole, C)

        # D's gradient: to it the filled holes are given, and the network that filled them hears nothing of this.
        d_loss = losses.gan_discriminator(self.D(Tensor(real + n1)), self.D(stop_gradient(fake) + n2))
        d_loss.backward()

        # That network's own gradient runs through D, which must not learn from it.
        with frozen(self.D):
            fake_logits = self.D(fake + n3)
        losses.inpainting(y, x, weights, fake_logits, self.config.adversarial_weight).backward()

        optimizer.step()
        optimizer.zero_grad()
        return {
            "L2": losses.inpainting(stop_gradient(y), x, weights).item(),
            "d_loss": d_loss.item(),
            "g_loss": losses.gan_generator(stop_gradient(fake_logits)).item(),
        }

    def hole(self, images: Any) -> Any:
        """The hole in the centre of images (N, H, W, C), with its border: all that D ever sees."""
        start = (self.config.image_size - self.config.hole) // 2
        inside = slice(start, start + self.config.hole)
        return images[:, inside, inside]

    def shown(self, views: tuple[Any, ...]) -> dict[str, np.ndarray]:
        holed, _, weights, *_ = views
        counts = np.sqrt(backend.to_host(weights)[..., None] / BORDER_WEIGHT)
        return {"what the encoder sees": self.drawn(backend.to_host(holed)), "what counts (border x 10)": counts}

    def measure(self, parts: dict[str, DataSet], out: Path) -> dict[str, float]:
        """How far the filled holes of test images are from what stood there, and how sharp they are beside it."""
        images = parts["test"]["images"]
        x = extract(nn.Identity(), images, self.prepare).reshape(images.shape)  # (n, H, W, C), standardised
        hidden = self.masks(len(x), random.seed(self.config.seed))[0][..., None] == 1  # (n, H, W, 1)
        holed = np.where(hidden, np.float32(0), x)
        nets = {"L2": self.net}
        if self.config.adversarial:
            nets = {"L2 alone": self.l2_alone, "L2 + adversarial": self.net}
        figures = {"error in the hole, mean colour of the rest": error(mean_colour(x, hidden), x, hidden)}
        rows = {"test image": x, "with its hole": holed}
        for name, net in nets.items():
            y = extract(net, holed, lambda array: array).reshape(x.shape)
            figures[f"error in the hole, {name}"] = e = error(y, x, hidden)
            figures[f"sharpness of the hole, {name}"] = s = sharpness(y, hidden) / sharpness(x, hidden)
            rows[f"filled, {name}: error {e:.2f}, sharpness {s:.2f}"] = np.where(hidden, y, x)
        grid = [list(self.drawn(row[evenly(len(row), 8)])) for row in rows.values()]
        viz.image_grid(grid, out / "filled.png", list(rows), title="Test images: what is not there, made up")
        return figures

    def drawn(self, images: np.ndarray) -> np.ndarray:
        """Standardised images as a screen shows them."""
        return self.picture(augment.unstandardize(images, self.inputs.mean, self.inputs.deviation))


class ContextEncoder(nn.Module):
    """g(f(x)): images with holes (N, H, W, C) -> images (N, H, W, C), 0 around a hole that g fills alone."""

    def __init__(self, encoder: models.ResNet, decoder: ContextDecoder) -> None:
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x: Tensor) -> Tensor:
        y = self.decoder(self.encoder.features(x, self.encoder.stages[-1]))  # the hole, or the image
        edge = (x.shape[1] - y.shape[1]) // 2
        return ops.pad(y, [(0, 0), (edge, edge), (edge, edge), (0, 0)])


def check(c: Config) -> None:
    """Raise ValueError for settings that do not go together."""
    halvings, alone = HALVINGS[c.stem], round(c.alone * c.epochs)
    sides = [c.image_size >> k for k in range(halvings)]  # what g can make of f's last map
    wrong = {
        f"--image-size: the stem {c.stem!r} takes sides that {2**halvings} divides, got {c.image_size}": (
            c.image_size % 2**halvings > 0
        ),
        f"--hole: expected more than its two borders of {c.overlap} pixels, got {c.hole}": c.hole <= 2 * c.overlap,
        f"--hole: expected at most the image's side of {c.image_size}, got {c.hole}": c.hole > c.image_size,
        f"--hole: expected one of {sides}, or several --holes; got {c.hole}": c.holes == 1 and c.hole not in sides,
        f"--adversarial: D looks at the one hole in the centre, got --holes {c.holes}": c.adversarial and c.holes > 1,
        "--adversarial: expected at least one epoch with L2 alone and one with both, "
        f"got --alone {c.alone} of --epochs {c.epochs}": c.adversarial and not 0 < alone < c.epochs,
        f"--adversarial-weight: expected at most 1, got {c.adversarial_weight}": c.adversarial_weight > 1,
    }
    if found := [message for message, is_so in wrong.items() if is_so]:
        raise ValueError(found[0])


def squares(corners: np.ndarray, side: int, image: int) -> np.ndarray:
    """(N, H, W): whether a pixel lies in one of its image's squares. corners: tops and lefts, (2, N, squares)."""
    distance = np.arange(image) - corners[..., None]
    rows, columns = (distance >= 0) & (distance < side)  # each (N, squares, image)
    return (rows[..., :, None] & columns[..., None, :]).any(axis=1)


def mean_colour(x: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """For each image (n, H, W, C) the mean of its visible pixels, (n, 1, 1, C)."""
    return x.mean(axis=(1, 2), keepdims=True, where=~hidden)


def error(y: np.ndarray, x: np.ndarray, hidden: np.ndarray) -> float:
    """(y − x)², mean over the hidden pixels: 1 is the variance of all images."""
    return float(((y - x) ** 2).mean(where=hidden))


def sharpness(images: np.ndarray, hidden: np.ndarray) -> float:
    """Mean length of the gradient, from each hidden pixel to its right and lower neighbours, hidden too."""
    across = images[:, :-1, 1:] - images[:, :-1, :-1]  # (n, H − 1, W − 1, C)
    down = images[:, 1:, :-1] - images[:, :-1, :-1]
    inside = hidden[:, :-1, :-1] & hidden[:, :-1, 1:] & hidden[:, 1:, :-1]
    return float(np.sqrt(across**2 + down**2).mean(where=inside))
