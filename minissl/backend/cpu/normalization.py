"""Batch normalization in the fewest passes over memory, in slices that stay in cache.

Forward reads x twice: for mean and variance together, and for the output with its ReLU. Backward reads g and x twice,
since dx = γ/σ (g − dβ/M − x̂ dγ/M) is, per channel, a·g + c₁·x + c₀ with three constants; where the ReLU was zero is
computed again from x instead of being read.

NumPy's inner loop runs along the last axis, and C = 16 numbers are too few for it. So r pixels are laid side by side,
(M, C) seen as (M/r, r·C), and the per-channel constants repeated r times.
"""

from collections.abc import Callable

import numpy as np

from minissl.backend.base import Pool
from minissl.backend.cpu.memory import empty
from minissl.backend.cpu.threads import CHUNK, Result, chunks, split, workspace

WIDE = 2048  # numbers in a row that keep the inner loop busy


def pixels_side_by_side(M: int, C: int) -> int:
    """r: how many of M pixels make one wide row; a power of 2 that divides M."""
    r = 1
    while 2 * r * C <= WIDE and M % (2 * r) == 0:
        r *= 2
    return r


def over_slices(work: Callable[[slice], Result], rows: np.ndarray) -> list[Result]:
    """work(slice) for slices of wide rows (M/r, r·C) that fill a chunk, on all threads; the results in order."""
    step = max(1, CHUNK // rows.shape[1])
    per_thread = split(lambda a, b: [work(s) for s in chunks(a, b, step)], len(rows), rows.size)
    return [result for results in per_thread for result in results]


def column_sum(rows: np.ndarray, C: int) -> np.ndarray:
    """Sum of wide rows (n, r·C) per channel, (C,), in float64: there are many to add."""
    return rows.sum(axis=0).reshape(-1, C).sum(axis=0, dtype=np.float64)


def batch_norm(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float, relu: bool, pool: Pool | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See `Backend.batch_norm`."""
    C = x.shape[-1]
    M = x.size // C
    r = pixels_side_by_side(M, C)
    rows = x.reshape(M // r, r * C)
    mean, variance = moments(rows, C)
    if pool is not None:
        mean, variance = pool(mean, variance)
    mean, variance = mean.astype(x.dtype), variance.astype(x.dtype)
    scale, shift = scale_and_shift(gamma, beta, mean, variance, epsilon, r)
    y = empty(rows.shape, x.dtype)

    def normalize(s: slice) -> None:
        np.multiply(rows[s], scale, out=y[s])
        y[s] += shift
        if relu:
            np.maximum(y[s], 0, out=y[s])

    over_slices(normalize, rows)
    return y.reshape(x.shape), mean, variance


def moments(rows: np.ndarray, C: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance per channel in one pass: those of every slice, then put together.

    Σ(x − μ)² = Σ_slices [Σ(x − μ_s)² + n_s (μ_s − μ)²]  (Chan et al., 1979), which does not cancel.
    """

    def of_slice(s: slice) -> tuple[int, np.ndarray, np.ndarray]:
        part = rows[s]
        n = part.size // C
        mean = column_sum(part, C) / n
        centred = workspace("slice", part.shape, part.dtype)
        np.subtract(part, np.tile(mean.astype(part.dtype), part.shape[1] // C), out=centred)
        np.multiply(centred, centred, out=centred)
        return n, mean, column_sum(centred, C)

    counts, means, squares = (np.array(v) for v in zip(*over_slices(of_slice, rows), strict=True))
    M = counts.sum()
    mean = counts @ means / M  # (C,)
    return mean, (squares.sum(axis=0) + counts @ (means - mean) ** 2) / M


def scale_and_shift(
    gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, variance: np.ndarray, epsilon: float, r: int
) -> tuple[np.ndarray, np.ndarray]:
    """y = scale·x + shift, each repeated for r pixels."""
    scale = gamma / np.sqrt(variance + variance.dtype.type(epsilon))
    return np.tile(scale, r), np.tile(beta - mean * scale, r)


def batch_norm_gradient(
    g: np.ndarray,
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    epsilon: float,
    relu: bool,
    pool: Pool | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See `Backend.batch_norm_gradient`."""
    C = x.shape[-1]
    M = x.size // C
    r = pixels_side_by_side(M, C)
    rows, g_rows = x.reshape(M // r, r * C), g.reshape(M // r, r * C)
    wide_mean = np.tile(mean, r)
    scale, shift = scale_and_shift(gamma, beta, mean, variance, epsilon, r)

    def through_relu(s: slice) -> np.ndarray:
        """g where the output was above 0, as `batch_norm` computed it."""
        if not relu:
            return g_rows[s]
        y = workspace("masked", rows[s].shape, x.dtype)
        np.multiply(rows[s], scale, out=y)
        y += shift
        return np.multiply(g_rows[s], y > 0, out=y)

    def sums(s: slice) -> tuple[np.ndarray, np.ndarray]:
        part = through_relu(s)
        product = workspace("slice", rows[s].shape, x.dtype)
        np.subtract(rows[s], wide_mean, out=product)  # centred first: Σg·x − μΣg would cancel
        product *= part
        return column_sum(part, C), column_sum(product, C)

    dbeta, dgamma = (np.sum(v, axis=0) for v in zip(*over_slices(sums, rows), strict=True))
    deviation = np.sqrt(variance + x.dtype.type(epsilon))
    dgamma /= deviation
    sum_g, sum_gx = dbeta, dgamma
    if pool is not None:
        sum_g, sum_gx = (M * mean for mean in pool(dbeta / M, dgamma / M))
    a = gamma / deviation
    c1 = -a * sum_gx / (deviation * M)
    c0 = -a * sum_g / M - c1 * mean
    wide_a, wide_c1, wide_c0 = (np.tile(v.astype(x.dtype), r) for v in (a, c1, c0))
    dx = empty(rows.shape, x.dtype)

    def combine(s: slice) -> None:
        part = workspace("slice", rows[s].shape, x.dtype)
        np.multiply(rows[s], wide_c1, out=part)
        part += wide_c0
        np.multiply(through_relu(s), wide_a, out=dx[s])
        dx[s] += part

    over_slices(combine, rows)
    return dx.reshape(x.shape), dgamma.astype(x.dtype), dbeta.astype(x.dtype)
