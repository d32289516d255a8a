"""Supervised training of the same encoder on the same labels: the yardstick beside every chapter's number."""

from typing import Any, TypeVar

import numpy as np

from minissl import augment, backend, evaluation, losses, nn
from minissl.data.loader import Batch
from minissl.tensor import Tensor
from reference.method import Inputs, Method

Self = TypeVar("Self", bound="Downstream")


class Downstream(Method):
    """What learns a task on top of an encoder. Parts that `evaluation.freeze` has frozen stand still."""

    def train(self: Self, mode: bool = True) -> Self:
        super().train(mode)
        evaluation.eval_frozen(self)
        return self


class Supervised(Downstream):
    """Cross entropy of a linear classifier on the encoder, with crops, flips and quarter turns."""

    def __init__(self, config: Any, inputs: Inputs, encoder: nn.Module, features: int) -> None:
        super().__init__(config, inputs)
        self.encoder = encoder
        self.classifier = nn.Linear(features, len(inputs.classes))

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[backend.Array, backend.Array]:
        images = augment.random_resized_crop(self.raw(batch), rng, scale=(0.5, 1.0))
        images = augment.horizontal_flip(images, rng)
        if images.shape[1] == images.shape[2]:
            images = augment.quarter_turns(images, rng)
        return self.standardize(images), backend.to_device(batch["labels"])

    def loss(self, views: tuple[Any, ...]) -> Tensor:
        images, labels = views
        return losses.cross_entropy(self.classifier(self.encoder(Tensor(images))), labels)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The class (N,) that the classifier gives to each of the stored images (N, H, W, C)."""
        network = nn.Sequential(self.encoder, self.classifier)
        return evaluation.extract(network, images, self.prepare).argmax(axis=1)
