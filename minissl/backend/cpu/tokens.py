"""Layer normalization and attention: the textbook forms, on slices that stay in cache, each thread on its own.

Rows are independent of each other, and so are the matrices of different images and heads; only the gradients of γ and β
are sums over all rows.
"""

import numpy as np

from minissl.backend.base import Backend
from minissl.backend.cpu.threads import CHUNK, chunks, split


def layer_norm(home: Backend, x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float) -> np.ndarray:
    """See `Backend.layer_norm`."""
    D = x.shape[-1]
    rows = x.reshape(-1, D)
    y = np.empty(rows.shape, x.dtype)

    def work(start: int, stop: int) -> None:
        for s in chunks(start, stop, max(1, CHUNK // D)):
            y[s] = Backend.layer_norm(home, rows[s], gamma, beta, epsilon)

    split(work, len(rows))
    return y.reshape(x.shape)


def layer_norm_gradient(
    home: Backend, g: np.ndarray, x: np.ndarray, gamma: np.ndarray, epsilon: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See `Backend.layer_norm_gradient`."""
    D = x.shape[-1]
    rows, g_rows = x.reshape(-1, D), g.reshape(-1, D)
    dx = np.empty(rows.shape, x.dtype)

    def work(start: int, stop: int) -> np.ndarray:
        sums = np.zeros((2, D), x.dtype)  # of γ's and β's gradients
        for s in chunks(start, stop, max(1, CHUNK // D)):
            dx[s], dgamma, dbeta = Backend.layer_norm_gradient(home, g_rows[s], rows[s], gamma, epsilon)
            sums += (dgamma, dbeta)
        return sums

    dgamma, dbeta = np.sum(split(work, len(rows)), axis=0)
    return dx.reshape(x.shape), dgamma, dbeta


def images_per_chunk(P_shape: tuple[int, ...]) -> int:
    """How many images' (L, S) matrices fill a slice."""
    return max(1, CHUNK // int(np.prod(P_shape[1:])))


def attention(
    home: Backend, q: np.ndarray, k: np.ndarray, v: np.ndarray, allowed: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """See `Backend.attention`; q, k and v (N, ..., L or S, d)."""
    P = np.empty((*q.shape[:-1], k.shape[-2]), q.dtype)
    y = np.empty((*q.shape[:-1], v.shape[-1]), q.dtype)
    own = allowed is not None and allowed.ndim == P.ndim and len(allowed) == len(P)  # a mask for each image

    def work(start: int, stop: int) -> None:
        for s in chunks(start, stop, images_per_chunk(P.shape)):
            mask = allowed[s] if own else allowed  # type: ignore[index]
            y[s], P[s] = Backend.attention(home, q[s], k[s], v[s], mask)

    split(work, len(P))
    return y, P


def attention_gradient(
    home: Backend, g: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, P: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See `Backend.attention_gradient`."""
    dq, dk, dv = (np.empty(a.shape, a.dtype) for a in (q, k, v))

    def work(start: int, stop: int) -> None:
        for s in chunks(start, stop, images_per_chunk(P.shape)):
            dq[s], dk[s], dv[s] = Backend.attention_gradient(home, g[s], q[s], k[s], v[s], P[s])

    split(work, len(P))
    return dq, dk, dv
