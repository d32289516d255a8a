"""Masked autoencoder: most patches of an image are hidden, and have to be painted from the few that are left.

"Masking random patches and reconstructing the missing pixels is much more scalable than inpainting": the encoder works
on the visible patches only, without mask tokens, and a lightweight decoder paints the image. L patches of an image, K
of them visible, m = 1 where hidden, D numbers in a patch, each patch t normalised by its own mean and deviation:

    z = encoder(visible patches + their positions)                           (N, 1 + K, width), a class token first
    p = decoder(z, and a mask token + its position wherever one is hidden)   (N, L, D)
    loss = Σ m ‖p − t‖²/D / Σ m          painting every patch in one colour, its true mean, gives (D − 1)/D

Notice what the ratio does. With half the patches hidden, the neighbours on all sides nearly say what is missing, and
copying their texture will do; with three of four hidden the network has to know what such a place looks like: that a
river goes on, and a field ends at a straight line. It cannot know where each tree stands, and paints their mean, a
blur. So says the paper, of a million photographs; a thousand scenes teach the same at any ratio from 25 to 90%
(RESULTS.md). What always holds is the price: attention is paid for by the token, and the hidden ones cost nothing.

(He, Chen, Xie, Li, Dollar and Girshick, 2022, "Masked Autoencoders Are Scalable Vision Learners")

Differs from the paper: a transformer of 64 features and 4 blocks with patches of 8, and a decoder of one block, for
images of 64 pixels; crops keep half the image at least; flips and quarter turns, since images from above have no up.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from minissl import augment, backend, losses, models, ops, random, viz
from minissl.data import DataSet
from minissl.data.loader import Batch
from minissl.models.mae import normalize_patches, patchify, random_mask, unpatchify
from minissl.tensor import Tensor, no_grad
from reference import pictures
from reference.method import Inputs, Method
from reference.settings import Settings

RATIOS = (0.5, 0.75, 0.9)  # at which a trained network is looked at, whatever it was trained with


@dataclass(kw_only=True)
class Config(Settings):
    """The masked autoencoder's settings."""

    # Share of the patches that is hidden
    mask_ratio: float = 0.75
    # Side of a patch in pixels; the image's side must be a multiple of it
    patch: int = 8
    # Features of a token in the encoder, a multiple of the heads
    width: int = 64
    # Blocks of the encoder
    depth: int = 4
    # Heads: each attends in its own way, with width / heads features
    heads: int = 4
    # Features of a token in the decoder, a multiple of the heads
    decoder_width: int = 64
    # Blocks of the decoder
    decoder_depth: int = 1
    # Smallest part of the image's area that a crop keeps
    crop: float = 0.5
    # Flips and quarter turns, for images from above
    turns: bool = True
    # How often every training image is seen
    epochs: int = 60
    # Update rule
    optimizer: Literal["sgd", "lars", "adam", "adamw"] = "adamw"
    # Peak of the learning rate, reached after the warm-up; then half a cosine down to 0
    learning_rate: float = 1e-3
    # Epochs of linear warm-up
    warmup_epochs: int = 3
    # L2 penalty on matrices and kernels (biases and norm layers have none)
    weight_decay: float = 0.05


class MAE(Method):
    """encoder of the visible patches, decoder of all."""

    settings = Config
    needs_image_size = True
    config: Config

    def __init__(self, config: Config, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        c, D = config, config.patch**2 * inputs.channels
        self.mae = models.MaskedAutoencoder(
            c.image_size, c.patch, inputs.channels, c.width, c.depth, c.heads, c.decoder_width, c.decoder_depth, c.heads
        )
        self.encoder = self.mae.encoder
        if c.optimizer in ("adam", "adamw"):
            self.optimizer_options = {"betas": (0.9, 0.95)}
        self.references = {"(D − 1)/D, patches of one colour": (D - 1) / D}

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[backend.Array, ...]:
        images = augment.random_resized_crop(self.raw(batch), rng, scale=(self.config.crop, 1.0))  # (N, H, W, C)
        if self.config.turns:
            images = augment.quarter_turns(augment.horizontal_flip(images, rng), rng)
        return self.standardize(images), *self.masks(len(images), self.config.mask_ratio, rng)

    def masks(self, N: int, ratio: float, rng: np.random.Generator) -> tuple[backend.Array, ...]:
        """keep (N, K), restore (N, L) and mask (N, L), see `random_mask`."""
        return random_mask(N, (self.config.image_size // self.config.patch) ** 2, ratio, rng)

    def loss(self, views: tuple[Any, ...]) -> Tensor:
        x, keep, restore, mask = views
        z = self.mae.encode(Tensor(x), keep)  # (N, 1 + K, width)
        p = self.mae.decode(z, restore)  # (N, L, D)
        t = normalize_patches(patchify(x, self.config.patch))  # (N, L, D)
        return losses.masked_mse(p, t, mask)

    def shown(self, views: tuple[Any, ...]) -> dict[str, np.ndarray]:
        x, _, _, mask = views
        return {"visible patches": self.on_screen(hide(patchify(x, self.config.patch), mask))}

    def measure(self, parts: dict[str, DataSet], out: Path) -> dict[str, float]:
        """The loss on test images, and what is painted, at the ratio of the training and at others."""
        images, figures = parts["test"]["images"], {}
        some = parts["test"].some(8)
        rows = {"test image": self.picture(backend.to_host(self.raw(some.arrays)))}  # (8, H, W, 1 or 3) each
        for ratio in sorted({*RATIOS, self.config.mask_ratio}):
            figures[f"masked_mse of test images, {ratio:.0%} hidden"] = self.error(images, ratio)
            rows[f"{ratio:.0%} hidden"], rows[f"{ratio:.0%} painted"] = self.painted(some["images"], ratio)
        title = (
            f"Painted by one network, trained with {self.config.mask_ratio:.0%} hidden. Visible patches are pasted in; "
        )
        title += "the others have the brightness and contrast of the true ones, for only their pattern is predicted"
        viz.image_grid([list(row) for row in rows.values()], out / "painted.png", list(rows), title=title)
        pictures.attention(self, parts["test"], out / "attention.png")
        return figures

    def error(self, images: np.ndarray, ratio: float) -> float:
        """The loss on stored images (n, H, W, C), each with the same mask every time."""
        rng, total = random.seed(self.config.seed), 0.0
        for i in range(0, len(images), 256):
            x = self.prepare(backend.to_device(images[i : i + 256]))
            with no_grad():
                total += self.loss((x, *self.masks(len(x), ratio, rng))).item() * len(x)
        return total / len(images)

    def painted(self, images: np.ndarray, ratio: float) -> tuple[np.ndarray, np.ndarray]:
        """Of stored images (n, H, W, C) what the network sees and what it makes of it, (n, H, W, 1 or 3)."""
        x = self.prepare(backend.to_device(images))
        keep, restore, mask = self.masks(len(x), ratio, random.seed(self.config.seed))
        with no_grad():
            p = self.mae(Tensor(x), keep, restore)  # (n, L, D)
        t = patchify(x, self.config.patch)  # (n, L, D)
        return self.on_screen(hide(t, mask)), self.on_screen(paste(p, t, mask))

    def on_screen(self, patches: Tensor) -> np.ndarray:
        """Patches (n, L, D) of standardised images as images to look at, (n, H, W, 1 or 3) on the host."""
        side = self.config.image_size
        x = unpatchify(patches, self.config.patch, side, side).data
        return self.picture(backend.to_host(augment.unstandardize(x, self.inputs.mean, self.inputs.deviation)))


def hide(t: Tensor, mask: backend.Array) -> Tensor:
    """Patches t (N, L, D) without those that the mask (N, L) hides: NaN, which `image_grid` draws in violet."""
    return ops.where(mask[..., None] == 1, math.nan, t)


def paste(p: Tensor, t: Tensor, mask: backend.Array) -> Tensor:
    """Predictions p (N, L, D) at the scale of the true patches t, their normalisation undone, and t where visible."""
    mean, variance = t.mean(axis=-1, keepdims=True), t.var(axis=-1, keepdims=True, ddof=1)  # (N, L, 1)
    return ops.where(mask[..., None] == 1, p * (variance + 1e-6).sqrt() + mean, t)
