"""Features of a data set under an encoder."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minissl import backend, parallel
from minissl.nn import Module
from minissl.tensor import Tensor, no_grad


class Labelled(NamedTuple):
    """Features x (N, D), or images (N, H, W, C), and class numbers y (N,), or labels (N, K) of 0 and 1, on the host."""

    x: np.ndarray
    y: np.ndarray


def extract(
    encoder: Module, images: np.ndarray, prepare: Callable[[backend.Array], backend.Array], batch_size: int = 256
) -> np.ndarray:
    """encoder(prepare(images)) for images (N, H, W, C), as float32 (N, D) on the host; see `by_batch`.

    Several ranks, which all call it with the same images, take a part of them each, and all get the whole.
    """
    world, N = parallel.world(), len(images)
    if world.size > 1:
        share = -(-N // world.size)
        own = np.arange(world.rank * share, (world.rank + 1) * share).clip(max=N - 1)  # the last ones repeat an image
        images = images[own]
    batches = by_batch(encoder, lambda x: backend.to_host(encoder(x).data), images, prepare, batch_size)
    return world.all_gather(np.concatenate(batches))[:N].reshape(N, -1)


def by_batch(
    network: Module,
    function: Callable[[Tensor], Any],
    images: np.ndarray,
    prepare: Callable[[backend.Array], backend.Array],
    batch_size: int = 256,
) -> list[Any]:
    """function(x), which uses `network`, for each batch x of prepare(images), in a list.

    The network runs in evaluation mode (BatchNorm uses its running averages), without a graph, and is left in the mode
    in which it was found.
    """
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with no_grad(), backend.current().training_run():
            return [
                function(Tensor(prepare(backend.to_device(images[i : i + batch_size]))))
                for i in range(0, len(images), batch_size)
            ]
    finally:
        for module, training in modes:
            module.training = training


def standardize(x: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """Features with mean 0 and deviation 1 in x (N, D), and the others by x's statistics: no test row is looked at."""
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    deviation = np.where(
        deviation > 1e-6 * max(1e-12, float(deviation.max())), deviation, 1
    )  # constant features stay 0
    return tuple((a - mean) / deviation for a in (x, *others))
