"""Supervised training of the same encoder on the same labels: the yardstick beside every chapter's number."""

from typing import Any, Literal, TypeVar

import numpy as np

from minissl import augment, backend, evaluation, losses, nn
from minissl.data.loader import Batch
from minissl.tensor import Tensor
from reference.method import Inputs, Method

Self = TypeVar("Self", bound="Downstream")
Target = Literal["labels", "multi_labels"]  # arrays of a data set: a class (N,), or 0 and 1 for each of K labels (N, K)


class Downstream(Method):
    """What learns a task on top of an encoder. Parts that `evaluation.freeze` has frozen stand still."""

    def train(self: Self, mode: bool = True) -> Self:
        super().train(mode)
        evaluation.eval_frozen(self)
        return self


class Supervised(Downstream):
    """Cross entropy of a linear classifier on the encoder, with crops, flips and quarter turns.

    With several labels an image, each is a question of its own: binary cross entropy.
    """

    def __init__(
        self, config: Any, inputs: Inputs, encoder: nn.Module, features: int, target: Target = "labels"
    ) -> None:
        super().__init__(config, inputs)
        self.encoder, self.target = encoder, target
        self.classifier = nn.Linear(features, len(inputs.classes if target == "labels" else inputs.tags))

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[backend.Array, backend.Array]:
        images = augment.random_resized_crop(self.raw(batch), rng, scale=(0.5, 1.0))
        images = augment.horizontal_flip(images, rng)
        if images.shape[1] == images.shape[2]:
            images = augment.quarter_turns(images, rng)
        return self.standardize(images), backend.to_device(batch[self.target])

    def loss(self, views: tuple[Any, ...]) -> Tensor:
        images, labels = views
        logits = self.classifier(self.encoder(Tensor(images)))  # (N, K)
        if self.target == "labels":
            return losses.cross_entropy(logits, labels)
        return losses.binary_cross_entropy_with_logits(logits, labels)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """(N, K) of stored images (N, H, W, C)."""
        return evaluation.extract(nn.Sequential(self.encoder, self.classifier), images, self.prepare)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The class (N,) that the classifier gives to each of the stored images (N, H, W, C)."""
        return self.logits(images).argmax(axis=1)
