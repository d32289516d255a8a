"""SimCLR v2: a big network learns without labels, a few labels make it a teacher, and a student takes its answers over.

Three steps. First SimCLR, with a deeper head g of three layers, g = W₃ relu(W₂ relu(W₁ h)). Then fine-tuning on few
labels, and not from h but from the head's first layer, σ(W₁ h): it was trained too, and in a deep head the first layer
still knows much of the image. Last, the fine-tuned teacher T answers for images without labels, and a student S of the
same size or a smaller one learns its answers:

    L = −Σ_images Σ_classes P_T(y|x) log P_S(y|x)        P(y|x) = softmax(logits(x) / τ)_y

Notice that no step but the second sees a label, and that it may see few: compare the columns from pretrained and from
random weights at 1%, 10% and 100% of the labels, and then teacher with student. The student sees all images, the
teacher's doubts among classes in place of one answer, and no head.

The slide shows the paper's table, whose first columns slip in its text: 43 and 65 million parameters are depth 101 at
width 1x, 170 and 257 depth 101 at 2x, 58 and 89 depth 152 at 1x. The fewer the labels, the more a big network gains.

(Chen, Kornblith, Swersky, Norouzi and Hinton, 2020, "Big Self-Supervised Models are Strong Semi-Supervised Learners")

Differs from the paper: a ResNet-18 of width 16 for images of 64 pixels, where the paper's largest has depth 152 and
width 192 (see `--depth`, `--width`, `--selective-kernels`); no memory of negatives from a momentum encoder (`moco` has
one; the paper gains 1% by it); one distillation, from random weights, and not first to a student of the same size.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from minissl import backend, losses, models, nn, ops
from minissl.data import DataSet
from minissl.data.loader import Batch
from minissl.models import Backbone
from minissl.tensor import Tensor, no_grad
from reference import contrast, transfer
from reference.method import Inputs
from reference.settings import Settings
from reference.supervised import Supervised
from reference.trainer import train

RESNETS = {
    18: models.resnet18,
    34: models.resnet34,
    50: models.resnet50,
    101: models.resnet101,
    152: models.resnet152,
}


@dataclass(kw_only=True)
class Config(contrast.Config):
    """SimCLR v2's settings."""

    # Layers of the ResNet
    depth: Literal[18, 34, 50, 101, 152] = 18
    # Two convolutions in the place of each block's first, of which every image chooses
    selective_kernels: bool = False
    # τ: the smaller, the more the nearest negatives count
    temperature: float = 0.3
    # Size D of the embedding z
    embedding: int = 128
    # Fine-tuning starts from the first layer of the head; otherwise from h, as SimCLR's does
    from_head: bool = True
    # Fine-tune on these parts of the labels, each time followed by a student
    labels: tuple[float, ...] = (0.01, 0.1, 1.0)
    # Channels of the student's first stage: a ResNet-18 again
    student_width: int = 16
    # τ of the distillation: a large one shows what the teacher holds for possible, too
    distillation_temperature: float = 1.0
    # Epochs of the student, on all training images and no labels
    distillation_epochs: int = 10


class SimCLRv2(contrast.Contrastive):
    """encoder f, head g of three layers, and students."""

    settings = Config
    config: Config

    def __init__(self, config: Config, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        self.encoder = RESNETS[config.depth](
            config.width, inputs.channels, config.stem, selective_kernels=config.selective_kernels
        )
        F = self.encoder.out_features
        self.head = models.mlp(F, F, F, config.embedding, batch_norm=True)
        self.references = {"log(2N − 1), collapsed": math.log(2 * config.batch_size - 1)}

    def embed(self, views: tuple[Any, ...]) -> tuple[Tensor, ...]:
        h = self.encoder(ops.concatenate(list(views)))  # (2N, F)
        return tuple(ops.split(self.head(h), 2))  # (N, D) each

    def compare(self, z1: Tensor, z2: Tensor) -> Tensor:
        return losses.nt_xent(z1, z2, self.config.temperature)

    @property
    def foundation(self) -> Backbone:
        """What fine-tuning puts its classifier on."""
        return FirstLayer(self.encoder, self.head) if self.config.from_head else self.encoder

    def measure(self, parts: dict[str, DataSet], out: Path) -> dict[str, float]:
        """Accuracy of teacher and student on test images, by part of the labels that the teacher has seen."""
        found, c = super().measure(parts, out), self.config
        if not transfer.has_classes(parts["train"]):
            return found
        for fraction in sorted(c.labels):
            _, teacher = next(transfer.fine_tuned(type(self), self, parts, c, out, fraction))  # from its checkpoint
            student = self.distilled(teacher, parts["train"], out, f"student_{100 * fraction:g}_")
            for name, network in (("teacher", teacher), ("student", student)):
                found[f"{name}, {transfer.percent(fraction)} of labels"] = transfer.score(network, parts["test"])
        return found

    def distilled(self, teacher: Supervised, images: DataSet, out: Path, name: str) -> "Student":
        """A student that has learned the teacher's answers for these images."""
        c = self.config
        settings = transfer.recipe(c, len(images))
        settings.epochs = c.distillation_epochs
        encoder = models.resnet18(c.student_width, self.inputs.channels, c.stem)
        student = Student(settings, self.inputs, encoder, teacher, c.distillation_temperature)
        print("A student of this teacher, on images without labels:")
        train(student, images, settings, out, name + transfer.freezing(c))
        return student


class FirstLayer(Backbone):
    """An encoder and the first layer of its head, with norm and ReLU: images -> relu(norm(W₁ h)), (N, F)."""

    def __init__(self, encoder: Backbone, head: nn.Sequential) -> None:
        self.encoder, self.linear, self.norm = encoder, head[0], head[1]
        self.stages, self.out_features = encoder.stages, encoder.out_features

    def run(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        return self.encoder.run(x)

    def classify(self, h: Tensor) -> Tensor:
        return self.norm(self.linear(h))


class Student(Supervised):
    """Learns what the teacher says of images; labels are not looked at."""

    def __init__(
        self, config: Settings, inputs: Inputs, encoder: Backbone, teacher: Supervised, temperature: float
    ) -> None:
        super().__init__(config, inputs, encoder, encoder.out_features)
        network = nn.Sequential(teacher.encoder, teacher.classifier).eval()
        self.teacher = lambda x: network(x)  # a function: neither optimizer nor checkpoint shall find the teacher in it
        self.temperature = temperature

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[backend.Array]:  # type: ignore[override]
        images, _ = super().views(batch, rng)
        return (images,)

    def loss(self, views: tuple[Any, ...]) -> Tensor:
        x = Tensor(views[0])
        with no_grad():
            answers = self.teacher(x)  # (N, K)
        return losses.distillation(self.classifier(self.encoder(x)), answers, self.temperature)
