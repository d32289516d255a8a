"""Embeddings that outlive their batch: negatives that need not be computed anew. They are saved with a run."""

from typing import Any

from minissl import backend, ops, random
from minissl.backend import Array
from minissl.nn.module import Buffer, Module
from minissl.tensor import Tensor


class Queue(Module):
    """The last K embeddings, first in, first out: `rows` (K, D), a constant for the loss. Starts as random unit rows.

    (He et al., 2020, "Momentum Contrast for Unsupervised Visual Representation Learning")
    """

    def __init__(self, length: int, features: int) -> None:
        if min(length, features) < 1:
            raise ValueError(f"Queue: expected a length and features of at least 1, got {length} and {features}")
        self.rows = Buffer(unit_rows(length, features))
        self.written = Buffer(backend.current().xp.zeros((), "int64"))  # how many embeddings there have been

    def enqueue(self, z: Any) -> None:
        """Put embeddings (N, D) in the place of the N oldest, for any N: at the end it goes on at the beginning."""
        z, (K, D) = data_of(z), self.rows.shape
        if z.ndim != 2 or z.shape[1] != D:
            raise ValueError(f"enqueue: expected embeddings (N, {D}), got {z.shape}")
        home, start = backend.of(self.rows.data), int(self.written.data)
        new = z[-K:]  # of more than K only the last would be left
        first = start + len(z) - len(new)
        places = (first + home.xp.arange(len(new))) % K
        self.rows.data[places] = new
        self.written.data += len(z)

    @property
    def full(self) -> bool:
        """Whether every row has been an embedding: at first some are the random rows of the start."""
        return int(self.written.data) >= len(self.rows)


class MemoryBank(Module):
    """A unit row for each of n images: `rows` (n, D), a constant for the loss. Starts as random unit rows.

    (Wu et al., 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination")
    """

    def __init__(self, images: int, features: int, momentum: float = 0.5) -> None:
        if min(images, features) < 1 or not 0 <= momentum <= 1:
            raise ValueError(
                "MemoryBank: expected at least 1 image and 1 feature and a momentum from 0 to 1, "
                f"got {images}, {features} and {momentum}"
            )
        self.rows = Buffer(unit_rows(images, features))
        self.momentum = momentum

    def update(self, index: Array, z: Any) -> None:
        """rows[i] ← μ rows[i] + (1 − μ) ẑ, brought back to unit length. index (N,), each once; z (N, D)."""
        z, rows = data_of(z), self.rows.data
        if z.shape != (len(index), rows.shape[1]):
            raise ValueError(f"update: expected embeddings ({len(index)}, {rows.shape[1]}), got {z.shape}")
        unit = lambda v: ops.l2_normalize(v).data
        rows[index] = unit(self.momentum * rows[index] + (1 - self.momentum) * unit(z))


def unit_rows(count: int, features: int) -> Array:
    """Random rows of length 1, (count, features), spread evenly over the sphere."""
    rows = random.generator().standard_normal((count, features), "float32")
    return backend.to_device(ops.l2_normalize(rows).data)


def data_of(z: Any) -> Array:
    return z.data if isinstance(z, Tensor) else z
