"""Batch normalization: x is read twice on the way forward, g and x twice on the way back.

Forward: mean and variance in one pass, then the output with its ReLU. Backward: dγ and dβ in one pass, then dx; where
the ReLU was zero is computed again from x instead of being kept.
"""

from typing import Any

from minissl.backend.base import Array, Pool
from minissl.backend.gpu import sums
from minissl.backend.gpu.kernels import Kernel, alike

# y = γ (x − μ)/√(σ² + ε) + β, then max(y, 0) if asked; a NaN stays.
NORMALIZE = Kernel(
    "normalize",
    "T x, T gamma, T beta, T mean, T variance, T epsilon, bool relu",
    "T y",
    """
    const T value = gamma * ((x - mean) / sqrt(variance + epsilon)) + beta;
    y = relu && value < 0 ? T(0) : value;
    """,
)

# dγ = Σ g x̂ and dβ = Σ g of column c, over the numbers i, i + step, ...; g counts where the ReLU let y through.
SUMS = Kernel(
    "batch_norm_sums",
    "raw T g, raw T x, raw T gamma, raw T beta, raw T mean, raw T variance, T epsilon, bool relu, "
    "int32 C, int64 size, int64 step",
    "T dgamma, T dbeta",
    """
    const int c = i % C;
    const T deviation = sqrt(variance[c] + epsilon);
    T sum_gx = 0, sum_g = 0;
    for (ptrdiff_t j = i; j < size; j += step) {
        const T normalized = (x[j] - mean[c]) / deviation;
        if (relu && !(gamma[c] * normalized + beta[c] > 0)) continue;
        sum_gx += g[j] * normalized;
        sum_g += g[j];
    }
    dgamma = sum_gx;
    dbeta = sum_g;
    """,
)

# dx = γ/σ (g − mean g − x̂ mean g·x̂), with the means dβ/M and dγ/M
INPUT_GRADIENT = Kernel(
    "batch_norm_input_gradient",
    "T g, T x, T gamma, T beta, T mean, T variance, T mean_g, T mean_gx, T epsilon, bool relu",
    "T dx",
    """
    const T deviation = sqrt(variance + epsilon), normalized = (x - mean) / deviation;
    const T through = relu && !(gamma * normalized + beta > 0) ? T(0) : g;
    dx = gamma / deviation * (through - mean_g - normalized * mean_gx);
    """,
)


def batch_norm(
    xp: Any, x: Array, gamma: Array, beta: Array, epsilon: float, relu: bool, pool: Pool | None = None
) -> tuple[Array, Array, Array]:
    """See `Backend.batch_norm`."""
    x, gamma, beta = alike(xp, x, gamma, beta)
    rows = x.reshape(-1, x.shape[-1])  # (M, C)
    mean, variance = sums.moments(xp, rows)
    if pool is not None:
        mean, variance = pool(mean, variance)
    y = xp.empty(rows.shape, x.dtype)
    NORMALIZE(xp, rows, gamma, beta, mean, variance, epsilon, relu, y)
    return y.reshape(x.shape), mean, variance


def batch_norm_gradient(
    xp: Any,
    g: Array,
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    variance: Array,
    epsilon: float,
    relu: bool,
    pool: Pool | None = None,
) -> tuple[Array, Array, Array]:
    """See `Backend.batch_norm_gradient`."""
    g, x, gamma, beta, mean, variance = alike(xp, g, x, gamma, beta, mean, variance)
    C = x.shape[-1]
    rows, g_rows = x.reshape(-1, C), g.reshape(-1, C)
    M = len(rows)
    P = sums.parts(M, C)
    partial = xp.empty((2, P, C), x.dtype)
    SUMS(xp, g_rows, rows, gamma, beta, mean, variance, epsilon, relu, C, M * C, P * C, *partial)
    dgamma, dbeta = sums.fold(xp, sums.ADD, partial)
    mean_g, mean_gx = dbeta / M, dgamma / M
    if pool is not None:
        mean_g, mean_gx = pool(mean_g, mean_gx)
    dx = xp.empty(rows.shape, x.dtype)
    INPUT_GRADIENT(xp, g_rows, rows, gamma, beta, mean, variance, mean_g, mean_gx, epsilon, relu, dx)
    return dx.reshape(x.shape), dgamma, dbeta
