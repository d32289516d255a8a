"""NumPy on the host: the textbook kernels of `base.py`, and faster forms of those that gain."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minissl.backend.base import Array, Backend, Pool
from minissl.backend.cpu import activations, convolution, indexing, memory, normalization, threads, tokens
from minissl.backend.windows import Window


class NumpyBackend(Backend):
    name = "numpy"
    xp = np

    def to_host(self, array: Array) -> np.ndarray:
        return np.asarray(array)

    def to_device(self, array: Any) -> np.ndarray:
        return np.asarray(array)

    @contextmanager
    def training_run(self) -> Iterator[None]:
        with threads.one_blas_thread(), memory.reuse():
            yield

    def elementwise(self, function: Callable[..., Array], *arrays: Array) -> Array:
        return threads.elementwise(function, *arrays)

    def update(self, function: Callable[..., None], *arrays: Array) -> None:
        threads.update(function, *arrays)

    def gelu(self, x: Array) -> Array:
        return activations.gelu(x) if x.size >= threads.CHUNK else super().gelu(x)

    def gelu_gradient(self, g: Array, x: Array) -> Array:
        if x.size < threads.CHUNK:
            return super().gelu_gradient(g, x)
        return activations.gelu_gradient(g, x)

    def scatter_add(self, total: Array, key: Any, values: Array) -> None:
        indexing.scatter_add(total, key, values)

    def matmul(self, a: Array, b: Array) -> Array:
        return threads.matmul(a, b)

    def conv2d(self, x: Array, w: Array, window: Window, groups: int = 1) -> Array:
        if groups > 1:
            return super().conv2d(x, w, window, groups)
        return convolution.conv2d(x, w, window)

    def conv2d_input_gradient(
        self, g: Array, w: Array, shape: tuple[int, ...], window: Window, groups: int = 1
    ) -> Array:
        if groups > 1:
            return super().conv2d_input_gradient(g, w, shape, window, groups)
        return convolution.input_gradient(g, w, shape, window)

    def conv2d_weight_gradient(self, x: Array, g: Array, window: Window, groups: int = 1) -> Array:
        if groups > 1:
            return super().conv2d_weight_gradient(x, g, window, groups)
        return convolution.weight_gradient(x, g, window)

    def linear(self, x: Array, w: Array, b: Array) -> Array:
        return threads.linear(x, w, b)

    def column_sum(self, x: Array) -> Array:
        return threads.column_sum(x)

    def squared_distances(self, a: Array, b: Array) -> Array:
        parent = super().squared_distances
        return np.concatenate(threads.split(lambda i, j: parent(a[i:j], b), len(a), a.size * len(b)))

    def attention(self, q: Array, k: Array, v: Array, allowed: Array | None) -> tuple[Array, Array]:
        if q.ndim < 3:  # one matrix: nothing to share
            return super().attention(q, k, v, allowed)
        return tokens.attention(self, q, k, v, allowed)

    def attention_gradient(self, g: Array, q: Array, k: Array, v: Array, P: Array) -> tuple[Array, Array, Array]:
        if q.ndim < 3:
            return super().attention_gradient(g, q, k, v, P)
        return tokens.attention_gradient(self, g, q, k, v, P)

    def layer_norm(self, x: Array, gamma: Array, beta: Array, epsilon: float) -> Array:
        return tokens.layer_norm(x, gamma, beta, epsilon)

    def layer_norm_gradient(self, g: Array, x: Array, gamma: Array, epsilon: float) -> tuple[Array, Array, Array]:
        return tokens.layer_norm_gradient(g, x, gamma, epsilon)

    def batch_norm(
        self, x: Array, gamma: Array, beta: Array, epsilon: float, relu: bool = False, pool: Pool | None = None
    ) -> tuple[Array, Array, Array]:
        return normalization.batch_norm(x, gamma, beta, epsilon, relu, pool)

    def batch_norm_gradient(
        self,
        g: Array,
        x: Array,
        gamma: Array,
        beta: Array,
        mean: Array,
        variance: Array,
        epsilon: float,
        relu: bool = False,
        pool: Pool | None = None,
    ) -> tuple[Array, Array, Array]:
        return normalization.batch_norm_gradient(g, x, gamma, beta, mean, variance, epsilon, relu, pool)
