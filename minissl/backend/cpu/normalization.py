"""Batch normalization in the fewest passes over memory, in slices that stay in cache.

Forward reads x three times (mean, variance, output); backward reads g and x twice, since
dx = γ/σ (g − dβ/M − x̂ dγ/M) is, per channel, a·g + c₁·x + c₀ with three constants.

NumPy's inner loop runs along the last axis, and C = 16 numbers are too few for it. So several pixels are laid side by
side, (M, C) seen as (M/r, r·C), and the per-channel constants repeated r times.
"""

from collections.abc import Callable

import numpy as np

from minissl.backend.cpu.threads import CHUNK, chunks, split, workspace

WIDE = 2048  # numbers in a row that keep the inner loop busy


def pixels_side_by_side(M: int, C: int) -> int:
    """r: how many of M pixels make one wide row; a power of 2 that divides M."""
    r = 1
    while 2 * r * C <= WIDE and M % (2 * r) == 0:
        r *= 2
    return r


def over_slices(work: Callable[[slice], list[np.ndarray] | None], rows: np.ndarray, C: int) -> np.ndarray:
    """work(slice) for slices of wide rows (M/r, r·C), on all threads; the sums (k, C) of what it returns, if anything.

    Each slice returns k sums over its rows, (r·C,) each. They are added in float64: there are many.
    """
    step = max(1, CHUNK // rows.shape[1])
    per_thread = split(lambda a, b: [work(s) for s in chunks(a, b, step)], len(rows))
    found = [sums for results in per_thread for sums in results if sums is not None]
    if not found:
        return np.zeros(0)
    total = np.asarray(np.sum(found, axis=0, dtype=np.float64))  # (k, r·C)
    return total.reshape(len(total), -1, C).sum(axis=1)


def batch_norm(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See `Backend.batch_norm`."""
    C = x.shape[-1]
    M = x.size // C
    r = pixels_side_by_side(M, C)
    rows = x.reshape(M // r, r * C)

    def sums(s: slice) -> list[np.ndarray]:
        return [rows[s].sum(axis=0)]

    mean = (over_slices(sums, rows, C)[0] / M).astype(x.dtype)
    wide_mean = np.tile(mean, r)

    def squares(s: slice) -> list[np.ndarray]:
        centred = workspace("slice", rows[s].shape, x.dtype)
        np.subtract(rows[s], wide_mean, out=centred)
        np.multiply(centred, centred, out=centred)
        return [centred.sum(axis=0)]

    variance = (over_slices(squares, rows, C)[0] / M).astype(x.dtype)
    scale = gamma / np.sqrt(variance + x.dtype.type(epsilon))
    wide_scale, wide_shift = np.tile(scale, r), np.tile(beta - mean * scale, r)
    y = np.empty(rows.shape, x.dtype)

    def normalize(s: slice) -> None:
        np.multiply(rows[s], wide_scale, out=y[s])
        y[s] += wide_shift

    over_slices(normalize, rows, C)
    return y.reshape(x.shape), mean, variance


def batch_norm_gradient(
    g: np.ndarray, x: np.ndarray, gamma: np.ndarray, mean: np.ndarray, variance: np.ndarray, epsilon: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See `Backend.batch_norm_gradient`."""
    C = x.shape[-1]
    M = x.size // C
    r = pixels_side_by_side(M, C)
    rows, g_rows = x.reshape(M // r, r * C), g.reshape(M // r, r * C)
    deviation = np.sqrt(variance + x.dtype.type(epsilon))
    wide_mean = np.tile(mean, r)

    def sums(s: slice) -> list[np.ndarray]:
        product = workspace("slice", rows[s].shape, x.dtype)
        np.subtract(rows[s], wide_mean, out=product)  # centred first: Σg·x − μΣg would cancel
        product *= g_rows[s]
        return [g_rows[s].sum(axis=0), product.sum(axis=0)]

    dbeta, dgamma = over_slices(sums, rows, C)
    dgamma /= deviation
    a = gamma / deviation
    c1 = -a * dgamma / (deviation * M)
    c0 = -a * dbeta / M - c1 * mean
    wide_a, wide_c1, wide_c0 = (np.tile(v.astype(x.dtype), r) for v in (a, c1, c0))
    dx = np.empty(rows.shape, x.dtype)

    def combine(s: slice) -> None:
        part = workspace("slice", rows[s].shape, x.dtype)
        np.multiply(rows[s], wide_c1, out=part)
        part += wide_c0
        np.multiply(g_rows[s], wide_a, out=dx[s])
        dx[s] += part

    over_slices(combine, rows, C)
    return dx.reshape(x.shape), dgamma.astype(x.dtype), dbeta.astype(x.dtype)
