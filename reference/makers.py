"""Makers of positives: from images to an anchor x^a and its positive x^+, images in [0, 1] both, (N, H, W, C).

One for each way of the tutorial; those that must learn first, SelfAugment's judge and the conditional GAN, stand below.
"""

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from minissl import augment, backend, evaluation, losses, models, nn, ops
from minissl.augment import cutmix, mixup
from minissl.augment.filtering import interpolation_matrix, separable
from minissl.augment.policies import Policy, apply_policy
from minissl.backend import Array
from minissl.data.loader import Batch
from minissl.evaluation import Labelled
from minissl.models.gan import doublings
from minissl.models.vae import gaussian_noise
from minissl.nn.frozen import frozen
from minissl.optim import Optimizer
from minissl.tensor import Tensor, no_grad, stop_gradient
from reference.contrast import Config, augmented
from reference.method import Inputs, Method

Pair = tuple[Array, Array]
PROBED = 1000  # images whose turns are told
CODE, LATENT = 64, 16  # numbers that the painter has of an anchor, and random ones
NOISE = 0.3  # deviation of the noise on what D judges, as in the GAN's own chapter; it falls to 0


def augmentation(images: Array, rng: np.random.Generator, c: Config) -> Pair:
    """Two random augmentations t(x) and t'(x): the chapters' usual views."""
    return augmented(images, rng, c), augmented(images, rng, c)


def geometry(images: Array, rng: np.random.Generator, c: Config) -> Array:
    """An augmentation that leaves every colour as it is: crop, flips, turns."""
    return augmented(images, rng, replace(c, jitter=0.0, grey=0.0, blur=0.0, solarize=0.0))


def overlap(images: Array, rng: np.random.Generator, area: float) -> Pair:
    """Two windows of one size, a part `area` of the image each, that share at least a quarter of themselves."""
    place, (N, H, W, _) = backend.of(images), images.shape
    h, w = (max(1, round(side * area**0.5)) for side in (H, W))
    tops, lefts = windows(rng, N, h, H), windows(rng, N, w, W)  # (2, N)

    def cut(top: np.ndarray, left: np.ndarray) -> Array:
        rows = interpolation_matrix(place.to_device(top), place.xp.full(N, h), H, H)
        columns = interpolation_matrix(place.to_device(left), place.xp.full(N, w), W, W)
        return separable(rows, columns, images)

    return cut(tops[0], lefts[0]), cut(tops[1], lefts[1])


def windows(rng: np.random.Generator, count: int, length: int, side: int) -> np.ndarray:
    """Where two windows start along one side of each image, (2, count): at most half a length apart."""
    most = length // 2
    first = (rng.random(count) * (side - length + 1)).astype(int)
    moved = (rng.random(count) * (2 * most + 1)).astype(int) - most
    return np.stack([first, (first + moved).clip(0, side - length)])


def mixture(kind: Literal["mixup", "cutmix"], images: Array, rng: np.random.Generator, c: Config, alpha: float) -> Pair:
    """t(x), and t'(x) with another image laid over it or pasted into it; half of it or more stays t'(x)."""
    anchor, view = augmentation(images, rng, c)
    mixed, _, _ = {"mixup": mixup, "cutmix": cutmix}[kind](view, rng, alpha, mostly_own=True)
    return anchor, mixed


def policy(images: Array, rng: np.random.Generator, c: Config, recipe: Policy) -> Pair:
    """Two draws from a policy, each after a crop and a flip, as AutoAugment has it."""
    upright = replace(c, turns=False)
    anchor, positive = (apply_policy(geometry(images, rng, upright), recipe, rng) for _ in range(2))
    return anchor, positive


def turns_told(method: Method, images: np.ndarray) -> float:
    """How often a linear probe on frozen features says by how many quarter turns an image was turned; chance is ¼.

    Of stored images (n, H, W, C) at most 1,000, in all four turns; 60% of them train the probe, 20% choose its penalty,
    20% are asked. (Reed et al., 2021: it goes along with what the labels would say)
    """
    images = images[:PROBED]
    turned = (np.rot90(images, r, axes=(1, 2)) for r in range(4))
    h = np.stack([evaluation.extract(method.encoder, x, method.prepare) for x in turned], axis=1)  # (n, 4, D)
    parts = np.split(h, [6 * len(h) // 10, 8 * len(h) // 10])
    labelled = [Labelled(part.reshape(-1, h.shape[2]), np.tile(np.arange(4), len(part))) for part in parts]
    return evaluation.linear_probe(labelled[0], labelled[1], labelled[2]).score


def own_nearest(anchors: Array, positives: Array) -> float:
    """How often a positive is nearer to its own anchor than to any other, as images of 8x8 pixels."""
    small = [backend.to_host(augment.resize(x, 8)).reshape(len(x), -1) for x in (anchors, positives)]
    distance = ((small[1][:, None] - small[0]) ** 2).sum(axis=2)  # (N, N)
    return float((distance.argmin(axis=1) == np.arange(len(distance))).mean())


class Painter(nn.Module):
    """Code E and generator G: y = v + ½ G(z, E(v)) changes a view v, by random numbers z. (N, H, W, C), v in [−1, 1].

    G paints the change only, which starts near 0 and is at most a quarter of the range from black to white: y still
    shows v's place. (The generator of Antoniou et al. has skip connections for the same reason.)
    """

    def __init__(self, image: int, channels: int, width: int) -> None:
        self.E = models.ConvEncoder(image, channels, width, doublings("Generator", image), CODE)
        self.G = models.Generator(LATENT + CODE, image, channels, width)

    def forward(self, v: Tensor, z: Tensor) -> Tensor:
        return v + 0.5 * self.G(ops.concatenate([z, self.E(v)], axis=1))

    def positives(self, views: Array, rng: np.random.Generator) -> Array:
        """What it makes of views in [0, 1], a constant in [0, 1]: no gradient gets here from what reads it."""
        self.eval()
        with no_grad():
            y = self(Tensor(2 * views - 1), Tensor(gaussian_noise(len(views), LATENT, rng)))
        return ((y.data + 1) / 2).clip(0, 1)


class ConditionalGAN(Method):
    """A painter, and a discriminator D that looks at pairs: are the two of one place, in two natural colours?

        D minimises        −E[log D(v, x)] − E[log(1 − D(v, y))]        v, x: a crop in two random colours
        E and G minimise   −E[log D(v, y)]                              y = v + ½ G(z, E(v))

    A D that saw y alone would be content with any image of anything. The two of a real pair lie pixel on pixel, as v
    and y do: if they did not, that would give a painted pair away.
    (Antoniou et al., 2017, "Data Augmentation Generative Adversarial Networks": there pairs are of one class)
    """

    config: Config

    def __init__(self, config: Config, inputs: Inputs) -> None:
        half = [0.5] * inputs.channels
        super().__init__(config, replace(inputs, mean=half, deviation=half))  # [−1, 1], as G's tanh has it
        self.painter = Painter(config.image_size, inputs.channels, config.width)
        self.D = models.Discriminator(config.image_size, 2 * inputs.channels, config.width)
        self.optimizer_options = {"betas": (0.5, 0.999)}
        self.sigma = NOISE

    def start_epoch(self, epoch: int) -> None:
        self.sigma = NOISE * (1 - epoch / self.config.epochs)

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[Array, ...]:
        still = replace(self.config, crop=1.0, flip=False, turns=False)
        cropped = geometry(self.raw(batch), rng, self.config)
        v, x = (self.standardize(augmented(cropped, rng, still)) for _ in range(2))
        noise = backend.to_device(np.stack([rng.standard_normal(v.shape, "float32") for _ in range(3)]))
        return v, x, gaussian_noise(len(v), LATENT, rng), noise

    def training_step(self, views: tuple[Any, ...], optimizer: Optimizer) -> dict[str, float]:
        v, x, z, noise = views  # (N, H, W, C) twice, (N, LATENT), (3, N, H, W, C)
        y = self.painter(Tensor(v), Tensor(z))  # (N, H, W, C)
        n1, n2, n3 = self.sigma * noise
        judged = lambda second: self.D(ops.concatenate([Tensor(v), second], axis=3))  # (N,)

        # D's gradient: to it the painted views are given, and the painter hears nothing of this.
        d_loss = losses.gan_discriminator(judged(Tensor(x + n1)), judged(stop_gradient(y) + n2))
        d_loss.backward()

        # The painter's gradient runs through D, which must not learn from it.
        with frozen(self.D):
            g_loss = losses.gan_generator(judged(y + n3))
        g_loss.backward()

        optimizer.step()
        optimizer.zero_grad()
        return {"d_loss": d_loss.item(), "g_loss": g_loss.item()}
