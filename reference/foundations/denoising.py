"""Stacked denoising autoencoder: destroy part of the input and learn to restore it, layer by layer; then use labels.

Layer d = 1, 2, ... learns alone. Its input h, the output of the finished layers below (h = x for the first), is
corrupted to h̃, and what it rebuilds is compared with h as it was:

    h̃ ~ q(h̃ | h)      z = relu(h̃ W + b)      y = z V + c      loss = ‖y − h‖² / Var(h)

Notice that z may be wider than h: a copy of h̃ keeps the noise, so copying is no longer an answer, and a layer has to
learn what makes up for the missing numbers: how pixels hang together. With `--amount 0` this is the plain autoencoder:
compare the part of a noise that is left, in `denoising.png`. The tutorial's two concepts are both here: a pretext task
(pretend not to know a part of the input), and pre-training (then fine-tune with labels, from these weights or from
random ones: the second table of a run).

Notice too what it does not bring. One layer of 1,200 units on images of 768 numbers, 20 epochs, three seeds, accuracy
of the linear probe on scenes: pixels 34.4 ± 2.0, random weights 39.2 ± 3.1, without noise 39.1 ± 1.7, with gaussian
noise 38.5 ± 1.1, masking 39.6 ± 2.3, salt and pepper 39.9 ± 3.9. Width and ReLU gain on pixels, learning adds
hardly anything, and noise does not change that.

(Vincent et al., 2010, "Stacked Denoising Autoencoders: Learning Useful Representations in a Deep Network with a Local
Denoising Criterion")

Differs from the paper: ReLU, squared error and V of its own, where the paper has logistic units, cross entropy and
V = Wᵀ; the error is divided by the variance, so that layers compare; Adam in place of plain gradient descent; every
number (a channel of a pixel) is hit by itself, in images with colour.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from minissl import augment, backend, losses, models, nn, random, viz
from minissl.augment.corruption import Noise
from minissl.data import DataSet, evenly
from minissl.data.loader import Batch
from minissl.evaluation import extract
from minissl.optim import Optimizer
from minissl.tensor import Tensor, no_grad
from reference.foundations.autoencoder import unexplained
from reference.method import Inputs, Method, build
from reference.report import reduced
from reference.settings import Settings

# Every finished network is tried on these, whatever it was trained on.
TRIALS: dict[Noise, float] = {"gaussian": 0.5, "masking": 0.5, "salt_and_pepper": 0.2}


@dataclass(kw_only=True)
class Config(Settings):
    """The settings of the stacked denoising autoencoder."""

    # Side to which images are reduced before anything else
    side: int = 16
    # Layers of the encoder, each trained for its share of the epochs
    layers: int = 3
    # Units of each layer; above side² · channels the first is wider than the image
    width: int = 1000
    # How the input is corrupted: normal noise on all, or a part set to 0, or to the lowest or highest value
    noise: Noise = "masking"
    # Part of the numbers that is hit; for gaussian the noise's deviation relative to the input's; 0 is no noise
    amount: float = 0.3
    # The second, supervised phase: fine-tune encoder and classifier in the end, on these parts of the labels
    labels: tuple[float, ...] = (0.1, 1.0)
    # How often every training image is seen
    epochs: int = 45
    # Update rule
    optimizer: Literal["sgd", "lars", "adam", "adamw"] = "adam"
    # Learning rate, the same for every layer; with labels the peak, after the warm-up and before half a cosine
    learning_rate: float = 1e-3
    # L2 penalty on matrices and kernels (biases and norm layers have none)
    weight_decay: float = 0.0


class Denoising(Method):
    """Layers that learn to undo noise, the one of this epoch while those below stand still."""

    settings = Config
    config: Config
    encoder: models.StackedDenoisingAutoencoder

    def __init__(self, config: Config, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        if config.epochs < config.layers:
            raise ValueError(f"--epochs: expected at least one for each of {config.layers} layers, got {config.epochs}")
        sizes = (config.side**2 * inputs.channels, *[config.width] * config.layers)
        self.encoder = models.StackedDenoisingAutoencoder(sizes)
        self.layer = 1
        self.references = {"the mean for all": 1.0}

    @classmethod
    def open_data(cls, config: Config) -> DataSet:
        images = super().open_data(config)
        images.arrays["images"] = reduced(images["images"], config.side)
        return images

    def start_epoch(self, epoch: int) -> None:
        self.layer = 1 + epoch * self.config.layers // self.config.epochs

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[backend.Array, backend.Array]:
        h = self.standardize(self.raw(batch))  # (N, H, W, C)
        if self.layer > 1:
            with no_grad():
                h = self.encoder.encode(Tensor(h), self.layer - 1).data  # (N, width)
        return augment.corrupt(h, rng, self.config.noise, self.config.amount), h.reshape(len(h), -1)

    def loss(self, views: tuple[Any, ...]) -> Tensor:
        corrupted, h = views  # h (N, D)
        y = self.encoder.reconstruct(Tensor(corrupted.reshape(h.shape)), self.layer)
        return losses.mse(y, h) / h.var()

    def training_step(self, views: tuple[Any, ...], optimizer: Optimizer) -> dict[str, float]:
        optimizer.learning_rate = self.config.learning_rate  # the schedule would leave the upper layers next to nothing
        return super().training_step(views, optimizer)

    def measure(self, parts: dict[str, DataSet], out: Path) -> dict[str, float]:
        """What the first layer makes of clean and of noisy test images."""
        self.draw_filters(out)
        return self.denoise(parts["test"]["images"], out)

    def denoise(self, images: np.ndarray, out: Path) -> dict[str, float]:
        x = extract(nn.Identity(), images, self.prepare)  # (n, D)
        figures = {"unexplained variance, clean images": unexplained(x, self.restore(x))}
        rows, titles = [x], ["test image"]
        for kind, amount in TRIALS.items():
            noisy = augment.corrupt(x, random.seed(self.config.seed), kind, amount)
            restored = self.restore(noisy)
            figures[f"part of the noise that is left, {kind} {amount}"] = float(
                ((restored - x) ** 2).sum() / ((noisy - x) ** 2).sum()
            )
            rows += [noisy, restored]
            titles += [f"{kind.replace('_', ' ')} {amount}", "restored"]
        shown = np.stack([self.drawn(row[evenly(len(row), 8)], images.shape) for row in rows])  # (7, 8, H, W, 3)
        trained = f"{self.config.noise.replace('_', ' ')} {self.config.amount:g}" if self.config.amount else "no noise"
        title = f"What the first layer restores, trained with {trained}"
        viz.image_grid(shown, out / "denoising.png", titles, title=title)
        return figures

    def restore(self, x: np.ndarray) -> np.ndarray:
        """The first layer's y for rows x (n, D), on the host."""
        with no_grad():
            return backend.to_host(self.encoder.reconstruct(Tensor(backend.to_device(x)), 1).data)

    def drawn(self, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        images = rows.reshape(-1, *shape[1:])
        return self.picture(augment.unstandardize(images, self.inputs.mean, self.inputs.deviation))

    def draw_filters(self, out: Path, rows: int = 3, columns: int = 10) -> None:
        """What training added to the first layer's weights, as images; grey is nothing."""
        started = build(type(self), self.config, self.inputs)
        W, W0 = (backend.to_host(method.encoder.state_dict()["encoders.0.weight"]) for method in (self, started))
        added = (W - W0).T  # (width, D)
        added = added[np.argsort(-np.linalg.norm(added, axis=1))[: rows * columns]]
        scaled = 0.5 + 0.5 * added / abs(added).max()
        filters = self.picture(scaled.reshape(len(added), self.config.side, self.config.side, -1))
        grid = [list(filters[i : i + columns]) for i in range(0, len(filters), columns)]
        title = "What training added to the weights of the first layer (units that changed most)"
        viz.image_grid(grid, out / "filters.png", title=title)
