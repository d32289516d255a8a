"""What the contrastive chapters share: two augmented views, batches larger than memory, and a look at collapse.

A chapter writes `embed`, from views to embeddings, and `compare`, from embeddings to the loss. Between the two, a batch
can be cut: `--accumulate n` gives the loss and gradient of the whole batch with the memory of an n-th of it; and
several processes embed a part of it each, and compare all of it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minissl import augment, evaluation, models, nn, ops, parallel, random
from minissl.backend import Array
from minissl.data import DataSet
from minissl.data.loader import Batch
from minissl.models import Backbone
from minissl.models.resnet import Stem
from minissl.tensor import Tensor, no_grad
from reference import pictures
from reference.method import Inputs, Method
from reference.settings import Settings
from reference.transfer import has_classes


@dataclass(kw_only=True)
class Config(Settings):
    """The backbone and the views, alike for all contrastive chapters. Every augmentation is a switch."""

    # Channels of the ResNet-18's first stage; h has 8 times as many
    width: int = 16
    # First layer: imagenet (7x7, output stride 4), halving (3x3, stride 2) or cifar (3x3, stride 1)
    stem: Stem = "halving"
    # Smallest part of the image's area that a crop keeps; 1 does not crop
    crop: float = 0.25
    # Horizontal flips
    flip: bool = True
    # Vertical flips and quarter turns, for images from above
    turns: bool = True
    # Strength of brightness, contrast and saturation jitter; hue has a quarter of it
    jitter: float = 0.4
    # Probability of turning a view grey
    grey: float = 0.2
    # Probability of blurring a view
    blur: float = 0.5
    # Probability of inverting a view's bright pixels
    solarize: float = 0.0
    # Parts in which a batch goes through the networks: the same loss and gradient with less memory
    accumulate: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size % self.accumulate:
            raise ValueError(f"--accumulate {self.accumulate}: expected a divisor of --batch-size {self.batch_size}")
        own = self.batch_size // parallel.world().size
        if own % self.accumulate:
            raise ValueError(
                f"--accumulate {self.accumulate}: expected a divisor of the {own} images that a process has of "
                f"--batch-size {self.batch_size}"
            )


class Contrastive(Method):
    """A method with two views of every image. A chapter writes `embed` and `compare` in place of `loss`."""

    settings = Config
    config: Config
    encoder: Backbone
    pairs = "Two views"  # what a positive pair is

    def __init__(self, config: Any, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        self.encoder = models.resnet18(config.width, inputs.channels, config.stem)

    @classmethod
    def open_images(cls, config: Any, channels: int) -> DataSet:
        """Images alone: what positives are made of, such as captions, the encoder does not need."""
        return super().open_data(config)

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[Any, ...]:
        images = self.raw(batch)  # (N, H, W, C)
        return self.view(images, rng), self.view(images, rng)

    def view(self, images: Array, rng: np.random.Generator) -> Array:
        """One random view of each image: (N, H, W, C) in [0, 1] to (N, H, W, C) standardised."""
        return self.standardize(augmented(images, rng, self.config))

    def embed(self, views: tuple[Any, ...]) -> tuple[Tensor, ...]:
        """Embeddings, (N, D) each; the first two are those of the two views, which are watched for collapse."""
        raise TypeError(f"{type(self).__name__} must define embed(views)")

    def compare(self, *z: Any, **_: Any) -> Tensor:
        """The scalar to minimise, of what `embed` gave."""
        raise TypeError(f"{type(self).__name__} must define compare(z1, z2, ...)")

    def loss(self, views: tuple[Any, ...]) -> Tensor:
        return self.compared(self.embed(views))

    def compared(self, z: tuple[Tensor, ...]) -> Tensor:
        """The loss of the whole batch; every rank computes it, of the same embeddings."""
        with parallel.alone():
            return self.compare(*z)

    def gradients(self, views: tuple[Any, ...]) -> dict[str, float]:
        if self.config.accumulate > 1:
            loss, z = self.in_parts(views)
        else:
            z = tuple(map(parallel.gather, self.embed(views)))
            loss = self.compared(z)
            loss.backward()
        return {"loss": loss.item(), **evaluation.spread(z[0].data, z[1].data)}

    def in_parts(self, views: tuple[Any, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Loss and embeddings of the whole batch, and its gradient, with the graph of one part in memory at a time.

        The loss L needs all embeddings z at once, but ∂L/∂w = Σ ∂L/∂z · ∂z/∂w is a sum over images:
            1. z of all images, on all ranks, without a graph.    2. L(z) and g = ∂L/∂z.
            3. Part by part z again, with its graph, and back through Σ z·g, whose derivative after z is g.
        Only batch norm differs: it has the statistics of a part, as it has those of a device where there are several.
        """
        size = len(views[0]) // self.config.accumulate
        parts = [slice(i, i + size) for i in range(0, len(views[0]), size)]
        cut = lambda part: tuple(view[part] for view in views)
        norms = [module for module in self.modules() if isinstance(module, nn.BatchNorm)]
        averages = [(mean, mean.data.copy()) for norm in norms for mean in (norm.running_mean, norm.running_var)]
        numbers = random.generator().bit_generator
        drawn = numbers.state
        with no_grad():
            pieces = zip(*(self.embed(cut(part)) for part in parts), strict=True)
            own = [ops.concatenate(list(piece)) for piece in pieces]
            z = tuple(Tensor(parallel.gather(each).data, requires_grad=True) for each in own)
        for average, before in averages:  # each part enters them once, in step 3
            average.data = before
        numbers.state = drawn  # of dropout and the like
        loss = self.compared(z)
        loss.backward()
        g = [parallel.own_gradient(each.grad) if each.grad is not None else None for each in z]
        for part in parts:
            pairs = zip(self.embed(cut(part)), g, strict=True)
            total = sum((piece * gradient[part]).sum() for piece, gradient in pairs if gradient is not None)
            total.backward()
        return loss, z

    def end_epoch(self, epoch: int, out: Path) -> None:
        pictures.keep_encoder(self, epoch, out)

    def measure(self, parts: dict[str, DataSet], out: Path) -> dict[str, float]:
        """Who is near whom: pairs of a batch, neighbours of test images, and their map over the epochs."""
        test = parts["test"]
        pictures.similarities(self, test, out / "similarities.png")
        pictures.neighbours(self, test, out / "neighbours.png")
        if has_classes(test):
            pictures.maps(self, test, out)
        return {}


def augmented(images: Array, rng: np.random.Generator, c: Config) -> Array:
    """One random view of each image, (N, H, W, C) in [0, 1]."""
    return coloured(framed(images, rng, c), rng, c)


def framed(images: Array, rng: np.random.Generator, c: Config) -> Array:
    """Random crops, flips and turns, which leave every colour as it is: (N, H, W, C)."""
    if c.crop < 1:
        images = augment.random_resized_crop(images, rng, scale=(c.crop, 1.0))
    if c.flip:
        images = augment.horizontal_flip(images, rng)
    return augment.quarter_turns(augment.vertical_flip(images, rng), rng) if c.turns else images


def coloured(images: Array, rng: np.random.Generator, c: Config) -> Array:
    """Random colours and blur, which leave every pixel where it is: (N, H, W, C)."""
    hue = c.jitter / 4 if images.shape[-1] == 3 else 0.0
    images = augment.color_jitter(images, rng, c.jitter, c.jitter, c.jitter, hue)
    images = augment.grayscale(images, rng, c.grey)
    images = augment.gaussian_blur(images, rng, (0.1, 1.0), c.blur)
    return augment.solarize(images, rng, probability=c.solarize)
