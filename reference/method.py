"""Method: what the trainer asks of every chapter."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minissl import augment, backend, data, nn, random
from minissl.data import DataSet
from minissl.data.loader import Batch
from minissl.data.scenes.render import RED_GREEN_BLUE, tone
from minissl.optim import Optimizer
from minissl.tensor import Tensor
from reference.settings import Settings, options_of

SENTINEL_2 = (12, 13)  # channels: all bands, or those without B10


@dataclass(frozen=True)
class Inputs:
    """What a method knows of its data: channels C, their mean and deviation over the training images, class names, how
    many training images there are (0: not said), for methods that remember something of each, and the names of several
    labels, where images have them.
    """

    channels: int
    mean: list[float]
    deviation: list[float]
    classes: tuple[str, ...]
    images: int = 0
    tags: tuple[str, ...] = ()


class Method(nn.Module):
    """One way of learning from images. A chapter writes `views` and `loss`, and sets `encoder`, which remains.

    Everything that must survive an interruption is a parameter or a buffer of the method: weights, queues, banks.
    """

    settings: type[Settings] = Settings
    needs_image_size = False  # chapters whose networks are made for squares of config.image_size set it
    learns_from_labels = False  # supervised chapters set it: the comparison with a supervised encoder is then idle
    encoder: nn.Module

    def __init__(self, config: Any, inputs: Inputs) -> None:
        self.config, self.inputs = config, inputs
        self.references: dict[str, float] = {}  # level lines in the picture of the curve, by name
        self.optimizer_options: dict[str, Any] = {}  # the update rule's own arguments, where not its defaults

    @classmethod
    def of_scenes(cls, config: Any) -> dict[str, Any]:
        """What generated scenes should be, beside their number and size: see `scenes.generate`."""
        return {}

    @classmethod
    def open_data(cls, config: Any) -> DataSet:
        """What to learn from; chapters that need more than images override it."""
        return data.open_data(
            config.data,
            config.image_size,
            config.seed,
            config.scenes,
            config.workers,
            config.skip_bad_files,
            config.layout,
            options_of(config.options),
            **cls.of_scenes(config),
        )

    @classmethod
    def open_images(cls, config: Any, channels: int) -> DataSet:
        """What to embed with a trained encoder, of so many channels, which may need less than training does."""
        return cls.open_data(config)

    @property
    def foundation(self) -> nn.Module:
        """What fine-tuning puts its classifier on: the encoder, unless a part of the head is worth keeping."""
        return self.encoder

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[Any, ...]:
        """What one step learns from: a raw batch, images (N, H, W, C) and more, to inputs on the current backend."""
        raise TypeError(f"{type(self).__name__} must define views(batch, rng)")

    def loss(self, views: tuple[Any, ...]) -> Tensor:
        """The scalar to minimise."""
        raise TypeError(f"{type(self).__name__} must define loss(views)")

    def after_step(self) -> None:
        """Momentum encoders, queues and banks follow here, after the weights have moved."""

    def training_step(self, views: tuple[Any, ...], optimizer: Optimizer) -> dict[str, float]:
        """One update; returns what is logged. Methods that play two networks against each other override it."""
        logged = self.gradients(views)
        optimizer.step()
        optimizer.zero_grad()
        self.after_step()
        return logged

    def gradients(self, views: tuple[Any, ...]) -> dict[str, float]:
        """The loss and the way back; returns what is logged."""
        loss = self.loss(views)
        loss.backward()
        return {"loss": loss.item()}

    def before_training(self, data: DataSet, out: Path) -> None:
        """What has to be learned before the first step; called again where a run goes on, with checkpoints in `out`."""

    def start_epoch(self, epoch: int) -> None:
        """Before epoch 0, 1, ..., and again where an interrupted one goes on: schedules, phases."""

    def end_epoch(self, epoch: int, out: Path) -> None:
        """After the last step of an epoch: pictures of how far it has come."""

    def measure(self, parts: dict[str, DataSet], out: Path) -> dict[str, float]:
        """After training: figures beside the probes, by name, and the pictures that the tutorial shows, into `out`.

        parts: "train", "validation" and "test"; what is reported or drawn comes from "test".
        """
        return {}

    def picture(self, images: np.ndarray) -> np.ndarray:
        """Images (N, H, W, C) on the host as `examples.png` shows them, (N, H', W', 1 or 3)."""
        return visible(images)

    def shown(self, views: tuple[Any, ...]) -> dict[str, np.ndarray]:
        """What goes into the network as `examples.png` shows it, below the images: (N, H', W', 1 or 3) by row title."""
        images = [view for view in views if getattr(view, "ndim", 0) == 4]
        mean, deviation = self.inputs.mean, self.inputs.deviation
        return {
            f"view {i}": self.picture(backend.to_host(augment.unstandardize(image, mean, deviation)))
            for i, image in enumerate(images, 1)
        }

    def raw(self, batch: Batch) -> backend.Array:
        """A batch's images on the current backend, float32 in [0, 1] (or in the units of the data)."""
        return augment.to_float(backend.to_device(batch["images"]))

    def standardize(self, images: backend.Array) -> backend.Array:
        """Images with mean 0 and deviation 1 per channel of the training images: what networks take."""
        return augment.standardize(images, self.inputs.mean, self.inputs.deviation)

    def prepare(self, images: backend.Array) -> backend.Array:
        """Stored images to what the encoder takes when it is evaluated: no augmentation."""
        return self.standardize(augment.to_float(images))


def build(chapter: type[Method], config: Settings, inputs: Inputs) -> Method:
    """The method as it starts: the seed alone decides its weights."""
    random.seed(config.seed)
    return chapter(config, inputs)


def visible(images: np.ndarray) -> np.ndarray:
    """Images of any number of channels as three (or one) that a screen shows, in [0, 1].

    Twelve or thirteen are taken for Sentinel-2's, in their order: B4, B3, B2 are shown.
    """
    if images.shape[-1] in SENTINEL_2:
        return tone(images[..., RED_GREEN_BLUE])
    return np.clip(images[..., :3] if images.shape[-1] >= 3 else images[..., :1], 0, 1)
