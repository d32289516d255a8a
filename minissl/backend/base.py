"""What a backend is: an array module, copies between host and device, and the few computations that need speed.

Each kernel stands here in its textbook form, a few lines of `xp` that any backend can run and that a reader can check
against the equation. `cpu/` and `gpu/` override those that gain; a test holds every override equal to the form here.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from minissl.backend.windows import Window, crop, pad

GELU_A = (2 / math.pi) ** 0.5
GELU_B = 0.044715 * GELU_A
DIFFERENCES = 1 << 18  # numbers that `squared_distances` holds at a time

Array = Any  # a numpy.ndarray or a cupy.ndarray: no type covers both
Pool = Callable[[Array, Array], tuple[Array, Array]]  # two statistics of a part of a batch -> those of the whole


class Backend(ABC):
    """One place where arrays live. `xp` is its array module, numpy or cupy."""

    name: str
    xp: Any

    @abstractmethod
    def to_host(self, array: Array) -> np.ndarray:
        """The array in host memory; no copy where it is there already."""

    @abstractmethod
    def to_device(self, array: Any) -> Array:
        """A host array on this backend; no copy where it is here already."""

    def synchronize(self) -> None:
        """Wait until everything that was asked for has been computed (needed before reading a clock)."""
        return  # on the host it has been

    def training_run(self) -> AbstractContextManager[None]:
        """Enter around a loop of many steps: settings that pay off when made once instead of once per kernel."""
        return nullcontext()

    # -- elementwise --------------------------------------------------------------------------------------------------

    def elementwise(self, function: Callable[..., Array], *arrays: Array) -> Array:
        """function(*arrays) for a function that treats every element alike, so that it may run slice by slice."""
        return function(*arrays)

    def update(self, function: Callable[..., None], *arrays: Array) -> None:
        """As `elementwise`, for a function that writes into its arrays (an optimizer's rule)."""
        function(*arrays)

    def gelu(self, x: Array) -> Array:
        """y = x (½ + ½ tanh u),  u = √(2/π) (x + 0.044715 x³)."""
        xp = self.xp
        return self.elementwise(lambda x: 0.5 * x * (1 + xp.tanh(x * (GELU_A + GELU_B * (x * x)))), x)

    def gelu_gradient(self, g: Array, x: Array) -> Array:
        """dx = g (½ + ½ t + ½ x (1 − t²) u′),  t = tanh u,  u′ = √(2/π) (1 + 3·0.044715 x²)."""
        xp = self.xp

        def gradient(g: Array, x: Array) -> Array:
            square = x * x
            t = xp.tanh(x * (GELU_A + GELU_B * square))
            return g * (0.5 + 0.5 * t + 0.5 * x * (1 - t * t) * (GELU_A + 3 * GELU_B * square))

        return self.elementwise(gradient, g, x)

    def scatter_add(self, total: Array, key: Any, values: Array) -> None:
        """total[key] += values, where a place that `key` names several times receives all of its values."""
        self.xp.add.at(total, key, values)

    # -- matrix product -----------------------------------------------------------------------------------------------

    def matmul(self, a: Array, b: Array) -> Array:
        """(..., M, K) @ (..., K, N) -> (..., M, N), leading axes broadcast."""
        return self.xp.matmul(a, b)

    def linear(self, x: Array, w: Array, b: Array) -> Array:
        """y = x w + b: (M, K), (K, N), (N,) -> (M, N)."""
        return self.xp.matmul(x, w) + b

    def column_sum(self, x: Array) -> Array:
        """Σ over the rows: (M, N) -> (N,), the gradient of b above."""
        return x.sum(axis=0)

    def squared_distances(self, a: Array, b: Array) -> Array:
        """y_ij = ‖a_i − b_j‖²: (N, D), (M, D) -> (N, M); some rows at a time, since the differences fill (N, M, D)."""
        y = self.xp.empty((len(a), len(b)), self.xp.result_type(a, b))
        step = max(1, DIFFERENCES // max(1, b.size))
        for i in range(0, len(a), step):
            d = a[i : i + step, None] - b
            d *= d
            y[i : i + step] = d.sum(axis=-1)
        return y

    # -- convolution: x (N, H, W, C), w (kh, kw, C/groups, O), y (N, OH, OW, O) ---------------------------------------

    def conv2d(self, x: Array, w: Array, window: Window, groups: int = 1) -> Array:
        """y[n,i,j,o] = Σ_pqc x[n, i·s + p·d, j·s + q·d, c] w[p,q,c,o], x padded with zeros."""
        windows = window.view(self.xp, pad(self.xp, x, window.padding))  # (N, OH, OW, kh, kw, C)
        if groups == 1:
            return self.xp.tensordot(windows, w, ((3, 4, 5), (0, 1, 2)))
        windows = windows.reshape(*windows.shape[:5], groups, -1)  # (N, OH, OW, kh, kw, G, C/G)
        w = w.reshape(*w.shape[:3], groups, -1)  # (kh, kw, C/G, G, O/G)
        y = self.xp.einsum("nijpqgc,pqcgo->nijgo", windows, w)
        return y.reshape(*y.shape[:3], -1)

    def conv2d_input_gradient(
        self, g: Array, w: Array, shape: tuple[int, ...], window: Window, groups: int = 1
    ) -> Array:
        """dx: every output gradient goes back, through the weight's transpose, to the pixels it was computed from."""
        N, _H, _W, C = shape
        _, OH, OW, O = g.shape
        dx = pad(self.xp, self.xp.zeros(shape, g.dtype), window.padding)
        for p in range(window.size[0]):
            for q in range(window.size[1]):
                wt = w[p, q].reshape(-1, groups, O // groups)  # (C/G, G, O/G)
                back = self.xp.einsum("nijgo,cgo->nijgc", g.reshape(N, OH, OW, groups, -1), wt)
                dx[window.tap(p, q, OH, OW)] += back.reshape(N, OH, OW, C)
        return crop(dx, window.padding)

    def conv2d_weight_gradient(self, x: Array, g: Array, window: Window, groups: int = 1) -> Array:
        """dw[p,q,c,o] = Σ_nij x[n, i·s + p·d, j·s + q·d, c] g[n,i,j,o]"""
        windows = window.view(self.xp, pad(self.xp, x, window.padding))  # (N, OH, OW, kh, kw, C)
        if groups == 1:
            return self.xp.tensordot(windows, g, ((0, 1, 2), (0, 1, 2)))
        windows = windows.reshape(*windows.shape[:5], groups, -1)  # (N, OH, OW, kh, kw, G, C/G)
        dw = self.xp.einsum("nijpqgc,nijgo->pqcgo", windows, g.reshape(*g.shape[:3], groups, -1))
        return dw.reshape(*dw.shape[:3], -1)

    # -- pooling ------------------------------------------------------------------------------------------------------

    def max_pool2d(self, x: Array, window: Window) -> Array:
        """The largest value of each window: (N, H, W, C) -> (N, OH, OW, C). A border never wins."""
        return window.view(self.xp, pad(self.xp, x, window.padding, -self.xp.inf)).max(axis=(3, 4))

    def max_pool2d_gradient(self, g: Array, x: Array, y: Array, window: Window) -> Array:
        """The gradient goes to the pixel that won; where several tie, to the first in reading order."""
        padded = pad(self.xp, x, window.padding, -self.xp.inf)
        dx = self.xp.zeros(padded.shape, g.dtype)
        unclaimed = self.xp.ones(y.shape, bool)
        for p in range(window.size[0]):
            for q in range(window.size[1]):
                tap = window.tap(p, q, *y.shape[1:3])
                won = (padded[tap] == y) & unclaimed
                dx[tap] += g * won
                unclaimed &= ~won
        return crop(dx, window.padding)

    # -- attention: q (..., L, d), k (..., S, d), v (..., S, e) -------------------------------------------------------

    def attention(self, q: Array, k: Array, v: Array, allowed: Array | None) -> tuple[Array, Array]:
        """y = P v with P = softmax(q kᵀ/√d) over S, 0 where not `allowed`. Returns y (..., L, e) and P (..., L, S)."""
        xp = self.xp
        logits = xp.matmul(q, k.swapaxes(-1, -2)) * q.shape[-1] ** -0.5
        if allowed is not None:
            logits = xp.where(allowed, logits, xp.asarray(-xp.inf, logits.dtype))
        largest = logits.max(axis=-1, keepdims=True)
        P = xp.exp(logits - xp.where(xp.isfinite(largest), largest, xp.zeros_like(largest)))
        total = P.sum(axis=-1, keepdims=True)
        P = P / xp.where(total > 0, total, xp.ones_like(total))  # a row with nothing allowed gives 0
        return xp.matmul(P, v), P

    def attention_gradient(self, g: Array, q: Array, k: Array, v: Array, P: Array) -> tuple[Array, Array, Array]:
        """dv = Pᵀ g,  dP = g vᵀ,  dS = P (dP − Σ P dP)/√d,  dq = dS k,  dk = dSᵀ q."""
        xp = self.xp
        dP = xp.matmul(g, v.swapaxes(-1, -2))
        dS = P * (dP - (P * dP).sum(axis=-1, keepdims=True)) * q.shape[-1] ** -0.5
        return xp.matmul(dS, k), xp.matmul(dS.swapaxes(-1, -2), q), xp.matmul(P.swapaxes(-1, -2), g)

    # -- layer normalization: x (..., D), γ and β (D,) ----------------------------------------------------------------

    def layer_norm(self, x: Array, gamma: Array, beta: Array, epsilon: float) -> Array:
        """y = γ (x − μ)/√(σ² + ε) + β, with μ and σ² of each row."""
        centred = x - x.mean(axis=-1, keepdims=True)
        return gamma * centred / self.xp.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon) + beta

    def layer_norm_gradient(self, g: Array, x: Array, gamma: Array, epsilon: float) -> tuple[Array, Array, Array]:
        """With x̂ = (x − μ)/σ and h = γ g:  dx = (h − mean h − x̂ mean(h x̂))/σ,  dγ = Σ g x̂,  dβ = Σ g."""
        centred = x - x.mean(axis=-1, keepdims=True)
        deviation = self.xp.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
        normalized, h = centred / deviation, gamma * g
        along = (h * normalized).mean(axis=-1, keepdims=True)
        rows = tuple(range(x.ndim - 1))
        dx = (h - h.mean(axis=-1, keepdims=True) - normalized * along) / deviation
        return dx, (g * normalized).sum(axis=rows), g.sum(axis=rows)

    # -- batch normalization: x (N, ..., C), statistics (C,) ----------------------------------------------------------

    def batch_norm(
        self, x: Array, gamma: Array, beta: Array, epsilon: float, relu: bool = False, pool: Pool | None = None
    ) -> tuple[Array, Array, Array]:
        """y = γ (x − μ)/√(σ² + ε) + β over all axes but the last, then max(y, 0) if asked. Returns y, μ, biased σ².

        Where x is one part of a batch, `pool` makes the whole batch's μ and σ² of those of the part.
        """
        axes = tuple(range(x.ndim - 1))
        mean = x.mean(axis=axes)
        variance = ((x - mean) ** 2).mean(axis=axes)
        if pool is not None:
            mean, variance = pool(mean, variance)
        y = gamma * (x - mean) / self.xp.sqrt(variance + epsilon) + beta
        return self.xp.maximum(y, 0) if relu else y, mean, variance

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
        """With x̂ = (x − μ)/σ:  dβ = Σg,  dγ = Σg·x̂,  dx = γ/σ (g − dβ/M − x̂ dγ/M),  M values per channel.

        After a ReLU, g counts where γ x̂ + β > 0. Where x is one part of a batch, `pool` makes the whole batch's means
        dβ/M and dγ/M of those of the part; dγ and dβ stay those of the part.
        """
        axes = tuple(range(x.ndim - 1))
        M = x.size // x.shape[-1]
        deviation = self.xp.sqrt(variance + epsilon)
        normalized = (x - mean) / deviation
        if relu:
            g = g * (gamma * normalized + beta > 0)
        dbeta = g.sum(axis=axes)
        dgamma = (g * normalized).sum(axis=axes)
        mean_g, mean_gx = dbeta / M, dgamma / M
        if pool is not None:
            mean_g, mean_gx = pool(mean_g, mean_gx)
        return gamma / deviation * (g - mean_g - normalized * mean_gx), dgamma, dbeta
