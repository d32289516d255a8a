"""The training steps that are measured, as minissl runs them: the chapters of `reference/` on random inputs.

A new step is one function here that builds method and optimizer, its line in WORKLOADS, and one function of the same
name in `peers.py` that builds the same in PyTorch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minissl import random
from minissl.optim import SGD, Optimizer
from reference.contrastive.simclr import Config, SimCLR
from reference.method import Inputs, Method

CHANNELS = 3
EMBEDDING = 128
TEMPERATURE = 0.2
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.03, 0.9, 1e-4


@dataclass(frozen=True)
class Size:
    """How large a step is: images in a batch, the network's width, the image's side in pixels."""

    images: int = 64
    width: int = 64
    side: int = 32


@dataclass(frozen=True)
class Workload:
    """One training step: a line about it, what goes in, and who learns from it.

    inputs: host arrays, images as (N, H, W, C), the same at every call.
    build: the method and its optimizer, with weights drawn from `minissl.random` onto the current backend.
    """

    summary: str
    inputs: Callable[[Size], tuple[np.ndarray, ...]]
    build: Callable[[Size], tuple[Method, Optimizer]]


def two_views(size: Size) -> tuple[np.ndarray, ...]:
    """Two views of each image, as a loader would give them: standard normal (N, H, W, C) in float32."""
    rng = np.random.default_rng(1)
    shape = (size.images, size.side, size.side, CHANNELS)
    return rng.standard_normal(shape, np.float32), rng.standard_normal(shape, np.float32)


def simclr(size: Size) -> tuple[Method, Optimizer]:
    config = Config(width=size.width, stem="cifar", embedding=EMBEDDING, temperature=TEMPERATURE)
    method = SimCLR(config, Inputs(CHANNELS, [0.0] * CHANNELS, [1.0] * CHANNELS, ()))
    return method, SGD(method.parameters(), LEARNING_RATE, MOMENTUM, WEIGHT_DECAY)


WORKLOADS = {
    "simclr": Workload(
        "SimCLR: ResNet-18 with a 3x3 stem at stride 1, MLP head with batch norm, NT-Xent, SGD with momentum",
        two_views,
        simclr,
    )
}


def build(name: str, size: Size) -> tuple[Method, Optimizer]:
    """Method and optimizer of a step as it starts: every process that calls this has the same weights."""
    random.seed(0)
    return WORKLOADS[name].build(size)
