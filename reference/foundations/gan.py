"""Generative adversarial network: one network makes images, the other has to tell them from real ones.

The generator G makes an image of random numbers z, the discriminator D says how probable it is that an image is real;
each one's progress is the other's task ("a proxy loss given by a min-max optimization"):

    min_G max_D  E[log D(x)] + E[log(1 − D(G(z)))]        z ~ N(0, 1)
    in practice G minimises −E[log D(G(z))]: the same fixed point, but a slope where D is sure that it sees a fake

Notice that no loss falls to 0 and stays there. At the fixed point D can only guess, D(x) = D(G(z)) = ½, d_loss is
2 log 2 and g_loss log 2; where D(x) is near 1 and D(G(z)) near 0 the discriminator is winning, and with `--saturating`,
the slide's own form, G then stands still. Neither loss says how good the images are: look at `progress.png`, the same z
after more and more epochs. Where all images of a row look alike G has collapsed, and "variety" is near 0.

Notice too the noise on everything that D sees, which fades over the run. Without it D soon tells made images by single
pixels, wins, and G learns to mend pixels; with it shores and furrows come first (`--noise 0`). And notice that the two
circle around each other's mistakes: pictures come from an average of G's weights over many steps, which circles less.

(Goodfellow et al., 2014, "Generative Adversarial Nets"; Radford et al., 2016, "Unsupervised Representation Learning
with Deep Convolutional Generative Adversarial Networks"; the noise: Sønderby et al., 2017, "Amortised MAP Inference
for Image Super-resolution"; the average: Yazıcı et al., 2019, "The Unusual Effectiveness of Averaging in GAN Training")

Differs from the papers: both networks move at the same time, each along its own gradient at where the other stood;
fewer channels, images of 32 pixels, a generator without transposed convolutions; flips and quarter turns, since images
from above have no up. Probes read the means of D's stages, where DCGAN pools each to 4x4.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from minissl import augment, backend, losses, models, nn, ops, random, viz
from minissl.data import DataSet, evenly
from minissl.data.loader import Batch
from minissl.evaluation import extract
from minissl.models.vae import gaussian_noise
from minissl.nn.frozen import frozen
from minissl.optim import Optimizer, WeightAverage
from minissl.tensor import Tensor, stop_gradient
from reference.method import Inputs, Method, visible
from reference.report import reduced
from reference.settings import Settings

SHOWN = 10  # images of the fixed grid


@dataclass(kw_only=True)
class Config(Settings):
    """The generative adversarial network's settings."""

    # Random numbers z from which an image is made
    latent: int = 64
    # Channels beside the image, in both networks; each halving of the side doubles them
    width: int = 32
    # G minimises log(1 − D(G(z))), the slide's game, in place of −log D(G(z))
    saturating: bool = False
    # β₁ of Adam, how long it averages gradients: the target moves, so a short memory
    beta1: float = 0.5
    # Deviation of the noise on all that D sees, in images from −1 to 1; it falls to 0 epoch by epoch
    noise: float = 0.3
    # Momentum of the average of G's weights, which makes the pictures; 0 is G as it stands
    average: float = 0.995
    # Flips and quarter turns, for images from above
    turns: bool = True
    # How many scenes to generate; other data come as they are
    scenes: int = 3800
    # Side of an image in pixels; folders are resized to it, scenes generated at it
    image_size: int = 32
    # How often every training image is seen
    epochs: int = 17
    # Images in a step; small, for many steps
    batch_size: int = 16
    # Update rule
    optimizer: Literal["adam", "adamw"] = "adam"
    # Peak of the learning rate, reached after the warm-up; then half a cosine down to 0
    learning_rate: float = 1e-3
    # L2 penalty on matrices and kernels (biases and norm layers have none)
    weight_decay: float = 0.0


class GAN(Method):
    """generator G, discriminator D, and a step for each."""

    settings = Config
    config: Config
    encoder: "Stages"

    def __init__(self, config: Config, inputs: Inputs) -> None:
        half = [0.5] * inputs.channels
        super().__init__(config, replace(inputs, mean=half, deviation=half))  # (x − ½)/½: [−1, 1], as G's tanh has it
        self.G = models.Generator(config.latent, config.image_size, inputs.channels, config.width)
        self.average_G = WeightAverage(self.G, config.average, buffers="average")
        self.encoder = Stages(models.Discriminator(config.image_size, inputs.channels, config.width))
        self.grid = nn.Buffer(gaussian_noise(SHOWN, config.latent, random.generator()))  # z of progress.png
        self.optimizer_options = {"betas": (config.beta1, 0.999)}
        self.sigma = config.noise
        self.references = {"2 log 2, D can only guess": 2 * math.log(2), "log 2, the same for G": math.log(2)}

    @property
    def D(self) -> models.Discriminator:
        return self.encoder.D

    def start_epoch(self, epoch: int) -> None:
        self.sigma = self.config.noise * (1 - epoch / self.config.epochs)

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[backend.Array, ...]:
        images = self.raw(batch)  # (N, H, W, C)
        if self.config.turns:
            images = augment.quarter_turns(augment.horizontal_flip(images, rng), rng)
        images = self.standardize(images)
        noise = backend.to_device(np.stack([rng.standard_normal(images.shape, "float32") for _ in range(3)]))
        return images, gaussian_noise(len(images), self.config.latent, rng), noise

    def training_step(self, views: tuple[Any, ...], optimizer: Optimizer) -> dict[str, float]:
        x, z, noise = views  # (N, H, W, C), (N, latent), (3, N, H, W, C)
        fake = self.G(Tensor(z))  # (N, H, W, C)
        n1, n2, n3 = self.sigma * noise

        # D's gradient: to it the fakes are given, and G hears nothing of this.
        real_logits, fake_logits = self.D(Tensor(x + n1)), self.D(stop_gradient(fake) + n2)
        d_loss = losses.gan_discriminator(real_logits, fake_logits)
        d_loss.backward()

        # G's gradient runs through D, which must not learn from it.
        with frozen(self.D):
            g_loss = losses.gan_generator(self.D(fake + n3), self.config.saturating)
        g_loss.backward()

        optimizer.step()
        optimizer.zero_grad()
        self.average_G.update(self.G)
        return {
            "d_loss": d_loss.item(),
            "g_loss": g_loss.item(),
            "D(real)": ops.sigmoid(stop_gradient(real_logits)).mean().item(),
            "D(fake)": ops.sigmoid(stop_gradient(fake_logits)).mean().item(),
        }

    def end_epoch(self, epoch: int, out: Path) -> None:
        """After epochs 1, 2, 4, 8, ... and the last, what G makes of the same z: progress.png, a row each."""
        done = epoch + 1
        if done & (done - 1) and done != self.config.epochs:
            return
        np.save(out / f"samples_epoch_{done:04}.npy", self.generated(backend.to_host(self.grid.data)))
        files = sorted(out.glob("samples_epoch_*.npy"))
        rows = [f"epoch {int(file.stem[-4:])}" for file in files]
        title = "What the generator makes of the same ten random vectors z"
        viz.image_grid([list(np.load(file)) for file in files], out / "progress.png", rows, title=title)

    def measure(self, parts: dict[str, DataSet], out: Path) -> dict[str, float]:
        """How much generated images differ from each other, against how much real ones do: 0 has collapsed to one."""
        images = parts["test"].some(500)["images"]
        noise = random.seed(self.config.seed).standard_normal((500, self.config.latent), "float32")
        real, made = visible(reduced(images, self.config.image_size)), self.generated(noise)
        rows = [list(real[evenly(len(real), SHOWN)]), *(list(made[i * SHOWN : (i + 1) * SHOWN]) for i in range(4))]
        titles = ["test images", *["generated"] * 4]
        viz.image_grid(rows, out / "samples.png", titles, title="Real images, and images that the generator made up")
        return {"variety, generated / real": float(made.std(axis=0).mean() / real.std(axis=0).mean())}

    def generated(self, z: np.ndarray) -> np.ndarray:
        """z (n, latent) to images to look at, (n, H, W, 1 or 3), by the average of G."""
        side = self.config.image_size
        images = extract(self.average_G, z, lambda noise: noise).reshape(len(z), side, side, self.inputs.channels)
        return visible((images + 1) / 2)


class Stages(nn.Module):
    """What probes read of D: the mean of each stage over its pixels, side by side, (N, 15·width) with four stages."""

    def __init__(self, D: models.Discriminator) -> None:
        self.D = D

    def forward(self, x: Tensor) -> Tensor:
        return ops.concatenate([h.mean(axis=(1, 2)) for _, h in self.D.run(x)], axis=1)
