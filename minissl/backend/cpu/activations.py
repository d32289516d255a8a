"""GELU in place: each line of the textbook form is one pass over a slice in cache, without a temporary of its own."""

import numpy as np

from minissl.backend.base import GELU_A, GELU_B
from minissl.backend.cpu.memory import empty
from minissl.backend.cpu.threads import CHUNK, chunks, split, workspace


def gelu(x: np.ndarray) -> np.ndarray:
    """See `Backend.gelu`."""
    y = empty(x.shape, x.dtype)
    X, Y = x.reshape(-1), y.reshape(-1)

    def work(start: int, stop: int) -> None:
        for s in chunks(start, stop, CHUNK):
            _tanh_u(X[s], np.square(X[s], out=Y[s]), out=Y[s])
            Y[s] += 1
            Y[s] *= X[s]
            Y[s] *= 0.5

    split(work, x.size, x.size)
    return y


def gelu_gradient(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    """See `Backend.gelu_gradient`."""
    dx = empty(x.shape, x.dtype)
    G, X, DX = g.reshape(-1), x.reshape(-1), dx.reshape(-1)

    def work(start: int, stop: int) -> None:
        for s in chunks(start, stop, CHUNK):
            d = np.square(X[s], out=DX[s])
            t = _tanh_u(X[s], d, out=workspace("gelu t", d.shape, d.dtype))
            slope = np.square(t, out=workspace("gelu slope", d.shape, d.dtype))
            np.subtract(1, slope, out=slope)  # 1 − t²
            d *= 3 * GELU_B
            d += GELU_A  # u′
            d *= X[s]
            d *= slope
            d += t
            d += 1
            d *= 0.5
            d *= G[s]

    split(work, x.size, x.size)
    return dx


def _tanh_u(x: np.ndarray, square: np.ndarray, out: np.ndarray) -> np.ndarray:
    """tanh(√(2/π) (x + 0.044715 x³)), given x²."""
    np.multiply(square, GELU_B, out=out)
    out += GELU_A
    out *= x
    return np.tanh(out, out=out)
