"""The training steps that are measured, as minissl runs them: methods and networks on random inputs.

A new method is one function here that builds it and its line in WORKLOADS; a new network is a line in MODELS. The same
in PyTorch stands under the same name in `peers.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minissl import augment, losses, models, nn, random
from minissl.data.loader import Batch
from minissl.models.mae import normalize_patches, patchify, random_mask
from minissl.optim import SGD, Adam, AdamW, Optimizer
from minissl.tensor import Tensor
from reference.contrastive.simclr import Config, SimCLR
from reference.method import Inputs, Method
from reference.settings import Settings

CHANNELS, BANDS, CLASSES = 3, 13, 10
PATCH, DEPTH = 8, 12
EMBEDDING, TEMPERATURE = 128, 0.2
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.03, 0.9, 1e-4
ADAM_RATE = 1e-3
HIDDEN, DECODER_DEPTH = 0.75, 2
HIDDEN_UNITS, WINDOW = 512, 4  # of AlexNet and VGG, eight times less than published; of Swin, dividing all maps
ADAMW_DECAY, ADAMW_BETAS = 0.05, (0.9, 0.95)


@dataclass(frozen=True)
class Size:
    """How large a step is.

    images: images in a batch (or sequences). width: the network's: a ResNet's channels in its first stage, a
    transformer's features, hidden units. side: the image's in pixels (of a sequence, its steps).
    """

    images: int = 64
    width: int = 64
    side: int = 32


Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Workload:
    """One training step: a line about it, its usual size, what goes in, and who learns from it how.

    inputs: host arrays, images as (N, H, W, C), the same at every call.
    method: with weights drawn from `minissl.random` onto the current backend.
    views: whether a step first makes its views, so that the inputs are raw images.
    layout: whether there are images, which PyTorch holds in one of two layouts.
    """

    summary: str
    size: Size
    inputs: Callable[[Size], Arrays]
    method: Callable[[Size], Method]
    optimizer: Callable[[Method], Optimizer]
    views: bool = False
    layout: bool = True


def sgd(method: Method) -> Optimizer:
    return SGD(method.parameters(), LEARNING_RATE, MOMENTUM, WEIGHT_DECAY)


def adam(method: Method) -> Optimizer:
    return Adam(method.parameters(), ADAM_RATE)


def adamw(method: Method) -> Optimizer:
    return AdamW(method.parameters(), ADAM_RATE, ADAMW_BETAS, weight_decay=ADAMW_DECAY)


def normal(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def with_labels(x: np.ndarray) -> Arrays:
    return x, np.random.default_rng(3).integers(0, CLASSES, len(x))


def images(size: Size) -> Arrays:
    """Images as a loader and an augmentation would give them: standard normal (N, H, W, C) in float32."""
    return with_labels(normal(size.images, size.side, size.side, CHANNELS))


def two_views(size: Size) -> Arrays:
    shape = (size.images, size.side, size.side, CHANNELS)
    return normal(*shape, seed=1), normal(*shape, seed=2)


def labelled_pixels(size: Size) -> Arrays:
    x = normal(size.images, size.side, size.side, CHANNELS)
    return x, np.random.default_rng(3).integers(0, CLASSES, x.shape[:3])


def raw_images(size: Size) -> Arrays:
    """Images as they are stored."""
    shape = (size.images, size.side, size.side, CHANNELS)
    return (np.random.default_rng(1).integers(0, 256, shape, np.uint8),)


class Learner(Method):
    """A network, and what its output is compared with: classes of images or of pixels, or the images themselves."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(Settings(), plain_inputs())
        self.network = network

    def loss(self, views: tuple[Any, ...]) -> Tensor:
        x, target = views
        y = self.network(Tensor(x))
        if target.dtype.kind == "f":
            return losses.mse(y, target)
        return losses.cross_entropy(y.reshape(-1, CLASSES), target.reshape(-1))


def resnet(size: Size) -> Method:
    return Learner(models.resnet18(size.width, CHANNELS, "cifar", CLASSES))


def heads(width: int) -> int:
    return max(1, width // 64)


def vit(size: Size) -> Method:
    """At width 192 it is `models.vit_tiny`, at 384 `models.vit_small`."""
    network = models.VisionTransformer(
        size.side, PATCH, CHANNELS, size.width, DEPTH, heads(size.width), classes=CLASSES
    )
    return Learner(network)


def plain_inputs() -> Inputs:
    """Images whose channels have mean 0 and deviation 1, without labels."""
    return Inputs(CHANNELS, [0.0] * CHANNELS, [1.0] * CHANNELS, ())


def simclr(size: Size) -> Method:
    config = Config(width=size.width, stem="cifar", embedding=EMBEDDING, temperature=TEMPERATURE)
    return SimCLR(config, plain_inputs())


class MAE(Method):
    """A masked autoencoder that predicts the normalized pixels of hidden patches; crops and flips are its views."""

    def __init__(self, size: Size) -> None:
        super().__init__(Settings(), plain_inputs())
        width, narrow = size.width, decoder_width(size.width)
        self.autoencoder = models.MaskedAutoencoder(
            size.side, PATCH, CHANNELS, width, DEPTH, heads(width), narrow, DECODER_DEPTH, heads(width)
        )

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[Any, ...]:
        images = augment.horizontal_flip(augment.random_resized_crop(self.raw(batch), rng), rng)
        N, H, W, _ = images.shape
        return self.standardize(images), *random_mask(N, (H // PATCH) * (W // PATCH), HIDDEN, rng)

    def loss(self, views: tuple[Any, ...]) -> Tensor:
        images, keep, restore, mask = views
        predicted = self.autoencoder(Tensor(images), keep, restore)  # (N, L, PATCH²·C)
        return losses.masked_mse(predicted, normalize_patches(patchify(images, PATCH)), mask)


def decoder_width(width: int) -> int:
    """Half the encoder's features, in steps of 4 for sines and cosines of rows and columns: 96 for ViT-Tiny."""
    return 4 * max(1, width // 8)


def lstm(size: Size) -> Method:
    return Learner(models.SequenceClassifier(BANDS, size.width, CLASSES))


def pixels(size: Size) -> int:
    return size.side**2 * CHANNELS


def mlp(size: Size) -> Method:
    return Learner(models.mlp(pixels(size), size.width, size.width, CLASSES))


SIMCLR = "ResNet-18 with a 3x3 stem at stride 1, MLP head with batch norm, NT-Xent, SGD with momentum"
WORKLOADS = {
    "resnet": Workload(
        "Classification: ResNet-18 with a 3x3 stem at stride 1, cross entropy, SGD with momentum",
        Size(128, 64, 32),
        images,
        resnet,
        sgd,
    ),
    "vit": Workload(
        "Classification: ViT-Tiny on patches of 8x8, cross entropy, SGD with momentum",
        Size(64, 192, 64),
        images,
        vit,
        sgd,
    ),
    "simclr": Workload(f"SimCLR: {SIMCLR}", Size(64, 64, 32), two_views, simclr, sgd),
    "simclr_augmented": Workload(
        f"SimCLR with making the views, which is minissl's code in both libraries: {SIMCLR}",
        Size(64, 64, 32),
        raw_images,
        simclr,
        sgd,
        views=True,
    ),
    "mae": Workload(
        "MAE with making the views, which is minissl's code in both libraries: ViT-Tiny on patches of 8x8, 75% of them "
        "hidden, a decoder of 2 blocks, normalized pixels, AdamW",
        Size(64, 192, 64),
        raw_images,
        MAE,
        adamw,
        views=True,
    ),
    "lstm": Workload(
        f"Classification of seasons: LSTM over sequences of {BANDS} bands, last state, cross entropy, Adam",
        Size(256, 128, 12),
        lambda size: with_labels(normal(size.images, size.side, BANDS)),
        lstm,
        adam,
        layout=False,
    ),
    "mlp": Workload(
        "Classification: linear layers with ReLU on all pixels, two hidden, cross entropy, Adam",
        Size(256, 1024, 32),
        lambda size: with_labels(normal(size.images, pixels(size))),
        mlp,
        adam,
        layout=False,
    ),
}


MODELS = {
    "resnet18": Workload(
        "ResNet-18, SGD",
        Size(32, 64, 64),
        images,
        lambda size: Learner(models.resnet18(size.width, CHANNELS, classes=CLASSES)),
        sgd,
    ),
    "resnet50": Workload(
        "ResNet-50, SGD",
        Size(16, 64, 64),
        images,
        lambda size: Learner(models.resnet50(size.width, CHANNELS, classes=CLASSES)),
        sgd,
    ),
    "alexnet": Workload(
        f"AlexNet at stride 2, fc6 and fc7 of {HIDDEN_UNITS}, SGD",
        Size(32, 64, 64),
        images,
        lambda size: Learner(models.AlexNet(CHANNELS, CLASSES, size.width, HIDDEN_UNITS, 2, dropout=0)),
        sgd,
    ),
    "vgg16": Workload(
        f"VGG-16, fc6 and fc7 of {HIDDEN_UNITS}, SGD",
        Size(16, 64, 64),
        images,
        lambda size: Learner(models.VGG16(CHANNELS, CLASSES, size.width, HIDDEN_UNITS, dropout=0)),
        sgd,
    ),
    "vit_tiny": Workload("ViT-Tiny, patches of 8, AdamW", Size(32, 192, 64), images, vit, adamw),
    "vit_small": Workload("ViT-Small, patches of 8, AdamW", Size(16, 384, 64), images, vit, adamw),
    "swin_tiny": Workload(
        f"Swin-T, patches of 2, windows of {WINDOW}, AdamW",
        Size(16, 96, 64),
        images,
        lambda size: Learner(models.swin_tiny(CHANNELS, CLASSES, size.width, WINDOW, patch=2)),
        adamw,
    ),
    "unet": Workload(
        "U-Net, a class for every pixel, SGD",
        Size(16, 32, 64),
        labelled_pixels,
        lambda size: Learner(models.UNet(CLASSES, CHANNELS, size.width)),
        sgd,
    ),
    "conv_autoencoder": Workload(
        f"Convolutional autoencoder, codes of {EMBEDDING}, Adam",
        Size(32, 32, 64),
        lambda size: images(size)[:1] * 2,
        lambda size: Learner(models.ConvAutoencoder(size.side, CHANNELS, size.width, latent=EMBEDDING)),
        adam,
    ),
    "lstm": WORKLOADS["lstm"],
}
EVERY = WORKLOADS | MODELS


def build(name: str, size: Size) -> Method:
    """The method of a step as it starts: every process that calls this has the same weights."""
    random.seed(0)
    return EVERY[name].method(size)
