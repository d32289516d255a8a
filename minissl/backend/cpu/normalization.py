"""Batch normalization in the fewest passes over memory, in slices that stay in cache.

Forward reads x three times (mean, variance, output); backward reads g and x twice, since
dx = γ/σ (g − dβ/M − x̂ dγ/M) is, per channel, a·g + c₁·x + c₀ with three constants.
"""

import numpy as np

from minissl.backend.cpu.threads import CHUNK, chunks, split, workspace


def column_sum(rows: np.ndarray) -> np.ndarray:
    """Sum of (M, C) over M. Several rows are added as one wide row first: long rows are what the adding loop likes."""
    M, C = rows.shape
    wide = max(1, 2048 // C)
    whole = M // wide * wide
    total = rows[whole:].sum(axis=0)
    if whole:
        total += rows[:whole].reshape(-1, wide * C).sum(axis=0).reshape(wide, C).sum(axis=0)
    return total


def _total(parts: list[list[np.ndarray]]) -> np.ndarray:
    """Sum over all slices of all threads, in float64: many partial sums of one channel are added here."""
    return np.sum([np.sum(part, axis=0, dtype=np.float64) for part in parts], axis=0)


def batch_norm(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See `Backend.batch_norm`."""
    C = x.shape[-1]
    rows = x.reshape(-1, C)  # (M, C)
    M = len(rows)
    step = max(1, CHUNK // C)

    def sums(start: int, stop: int) -> list[np.ndarray]:
        return [column_sum(rows[s]) for s in chunks(start, stop, step)]

    mean = (_total(split(sums, M)) / M).astype(x.dtype)

    def squares(start: int, stop: int) -> list[np.ndarray]:
        found = []
        for s in chunks(start, stop, step):
            centred = workspace("slice", rows[s].shape, x.dtype)
            np.subtract(rows[s], mean, out=centred)
            np.multiply(centred, centred, out=centred)
            found.append(column_sum(centred))
        return found

    variance = (_total(split(squares, M)) / M).astype(x.dtype)
    scale = gamma / np.sqrt(variance + x.dtype.type(epsilon))
    shift = beta - mean * scale
    y = np.empty(rows.shape, x.dtype)

    def normalize(start: int, stop: int) -> None:
        for s in chunks(start, stop, step):
            np.multiply(rows[s], scale, out=y[s])
            y[s] += shift

    split(normalize, M)
    return y.reshape(x.shape), mean, variance


def batch_norm_gradient(
    g: np.ndarray, x: np.ndarray, gamma: np.ndarray, mean: np.ndarray, variance: np.ndarray, epsilon: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See `Backend.batch_norm_gradient`."""
    C = x.shape[-1]
    rows, g_rows = x.reshape(-1, C), g.reshape(-1, C)  # (M, C)
    M = len(rows)
    step = max(1, CHUNK // C)
    deviation = np.sqrt(variance + x.dtype.type(epsilon))

    def sums(start: int, stop: int) -> list[np.ndarray]:
        found = []
        for s in chunks(start, stop, step):
            product = workspace("slice", rows[s].shape, x.dtype)
            np.subtract(rows[s], mean, out=product)  # centred first: Σg·x − μΣg would cancel
            product *= g_rows[s]
            found.append(np.stack([column_sum(g_rows[s]), column_sum(product)]))
        return found

    dbeta, dgamma = _total(split(sums, M))
    dgamma /= deviation
    a = gamma / deviation
    c1 = (-a * dgamma / (deviation * M)).astype(x.dtype)
    c0 = (-a * dbeta / M - c1 * mean).astype(x.dtype)
    dx = np.empty(rows.shape, x.dtype)

    def combine(start: int, stop: int) -> None:
        for s in chunks(start, stop, step):
            part = workspace("slice", rows[s].shape, x.dtype)
            np.multiply(rows[s], c1, out=part)
            part += c0
            np.multiply(g_rows[s], a, out=dx[s])
            dx[s] += part

    split(combine, M)
    return dx.reshape(x.shape), dgamma.astype(x.dtype), dbeta.astype(x.dtype)
