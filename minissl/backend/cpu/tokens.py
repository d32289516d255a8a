"""Layer normalization and attention, on slices that stay in cache, each thread on its own.

Rows are independent of each other, and so are the matrices of different images and heads; only the gradients of γ and β
are sums over all rows.
"""

import numpy as np

from minissl.backend.base import Backend
from minissl.backend.cpu.memory import empty
from minissl.backend.cpu.threads import CHUNK, chunks, split, workspace


def layer_norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float) -> np.ndarray:
    """See `Backend.layer_norm`."""
    D = x.shape[-1]
    rows = x.reshape(-1, D)
    y = empty(rows.shape, x.dtype)

    def work(start: int, stop: int) -> None:
        for s in chunks(start, stop, max(1, CHUNK // D)):
            scale = _centred(rows[s], epsilon, out=y[s])  # 1/σ
            y[s] *= scale
            y[s] *= gamma
            y[s] += beta

    split(work, len(rows), rows.size)
    return y.reshape(x.shape)


def layer_norm_gradient(
    g: np.ndarray, x: np.ndarray, gamma: np.ndarray, epsilon: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See `Backend.layer_norm_gradient`. All sums are products with a vector: mean h = g (γ/D), Σ g x̂ = 1ᵀ (g x̂)."""
    D = x.shape[-1]
    rows, g_rows = x.reshape(-1, D), g.reshape(-1, D)
    dx, share = empty(rows.shape, x.dtype), gamma / np.asarray(D, x.dtype)

    def work(start: int, stop: int) -> np.ndarray:
        sums = np.zeros((2, D), x.dtype)  # of γ's and β's gradients
        for s in chunks(start, stop, max(1, CHUNK // D)):
            normalized = workspace("layer norm", dx[s].shape, x.dtype)
            scale = _centred(rows[s], epsilon, out=normalized)  # 1/σ
            normalized *= scale
            np.multiply(g_rows[s], normalized, out=dx[s])
            one = np.ones(len(dx[s]), x.dtype)
            sums += one @ dx[s], one @ g_rows[s]
            normalized *= (dx[s] @ share)[:, None]  # x̂ mean(h x̂)
            normalized += (g_rows[s] @ share)[:, None]  # mean h
            np.multiply(g_rows[s], gamma, out=dx[s])
            dx[s] -= normalized
            dx[s] *= scale
        return sums

    dgamma, dbeta = np.sum(split(work, len(rows), rows.size), axis=0)
    return dx.reshape(x.shape), dgamma, dbeta


def _centred(rows: np.ndarray, epsilon: float, out: np.ndarray) -> np.ndarray:
    """x − μ into `out`; returns 1/√(σ² + ε), (rows, 1)."""
    D = rows.shape[1]
    np.subtract(rows, (rows @ np.full(D, 1 / D, rows.dtype))[:, None], out=out)
    variance = np.einsum("nd,nd->n", out, out) / np.asarray(D, rows.dtype)
    return 1 / np.sqrt(variance + epsilon)[:, None]


def images_per_chunk(P_shape: tuple[int, ...]) -> int:
    """How many images' (L, S) matrices fill a slice."""
    return max(1, CHUNK // int(np.prod(P_shape[1:])))


def attention(
    home: Backend, q: np.ndarray, k: np.ndarray, v: np.ndarray, allowed: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """See `Backend.attention`; q, k and v (N, ..., L or S, d)."""
    P = empty((*q.shape[:-1], k.shape[-2]), q.dtype)
    y = empty((*q.shape[:-1], v.shape[-1]), q.dtype)
    own = allowed is not None and allowed.ndim == P.ndim and len(allowed) == len(P)  # a mask for each image

    def work(start: int, stop: int) -> None:
        for s in chunks(start, stop, images_per_chunk(P.shape)):
            mask = allowed[s] if own else allowed  # type: ignore[index]
            y[s], P[s] = Backend.attention(home, q[s], k[s], v[s], mask)

    split(work, len(P), P.size)
    return y, P


def attention_gradient(
    home: Backend, g: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, P: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See `Backend.attention_gradient`."""
    dq, dk, dv = (empty(a.shape, a.dtype) for a in (q, k, v))

    def work(start: int, stop: int) -> None:
        for s in chunks(start, stop, images_per_chunk(P.shape)):
            dq[s], dk[s], dv[s] = Backend.attention_gradient(home, g[s], q[s], k[s], v[s], P[s])

    split(work, len(P), P.size)
    return dq, dk, dv
