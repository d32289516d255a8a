"""Layer normalization, and the softmax inside attention: what stands between two reductions is one pass."""

from typing import Any

from minissl.backend.base import Array
from minissl.backend.gpu import sums
from minissl.backend.gpu.kernels import LOWEST, Kernel, alike
from minissl.backend.gpu.normalization import NORMALIZE

LANES = 32  # threads that share one row: what a GPU runs in step, and reads at once

# Σ h and Σ h x̂ of a row, h = γ g: this thread's share, every `lanes`-th number.
ROW_SUMS = Kernel(
    "layer_norm_row_sums",
    "raw T g, raw T x, raw T gamma, raw T mean, raw T variance, T epsilon, int32 D, int32 lanes",
    "T sum_h, T sum_hx",
    """
    const ptrdiff_t row = i / lanes;
    const T deviation = sqrt(variance[row] + epsilon);
    T total_h = 0, total_hx = 0;
    for (int d = i % lanes; d < D; d += lanes) {
        const T h = gamma[d] * g[row * D + d];
        total_h += h;
        total_hx += h * ((x[row * D + d] - mean[row]) / deviation);
    }
    sum_h = total_h;
    sum_hx = total_hx;
    """,
)

# dx = (h − mean h − x̂ mean(h x̂))/σ
INPUT_GRADIENT = Kernel(
    "layer_norm_input_gradient",
    "T g, T x, T gamma, T mean, T variance, T sum_h, T sum_hx, T epsilon, T D",
    "T dx",
    """
    const T deviation = sqrt(variance + epsilon), normalized = (x - mean) / deviation;
    dx = (gamma * g - sum_h / D - normalized * (sum_hx / D)) / deviation;
    """,
)

# dγ = Σ g x̂ and dβ = Σ g down a column: this thread's share, the numbers i, i + step, ...
COLUMN_SUMS = Kernel(
    "layer_norm_column_sums",
    "raw T g, raw T x, raw T mean, raw T variance, T epsilon, int32 D, int64 size, int64 step",
    "T dgamma, T dbeta",
    """
    T sum_gx = 0, sum_g = 0;
    for (ptrdiff_t j = i, row = i / D; j < size; j += step, row += step / D) {
        sum_gx += g[j] * ((x[j] - mean[row]) / sqrt(variance[row] + epsilon));
        sum_g += g[j];
    }
    dgamma = sum_gx;
    dbeta = sum_g;
    """,
)

# e^(scale (logit − largest)), and 0 where nothing is allowed, also in a row of nothing else.
EXPONENTIAL = Kernel(
    "softmax_exponential",
    "T logit, T largest, T scale, T lowest",
    "T e",
    "e = logit == lowest ? T(0) : exp((logit - largest) * scale);",
)
SHARE = Kernel("softmax_share", "T e, T total", "T P", "P = total > 0 ? e / total : e;")

# dS = scale · P (dP − Σ P dP)
SOFTMAX_GRADIENT = Kernel("softmax_gradient", "T P, T dP, T along, T scale", "T dS", "dS = P * (dP - along) * scale;")


def layer_norm(xp: Any, x: Array, gamma: Array, beta: Array, epsilon: float) -> Array:
    """See `Backend.layer_norm`."""
    x, gamma, beta = alike(xp, x, gamma, beta)
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    y = xp.empty(x.shape, x.dtype)
    NORMALIZE(xp, x, gamma, beta, mean, variance, epsilon, False, y)
    return y


def layer_norm_gradient(xp: Any, g: Array, x: Array, gamma: Array, epsilon: float) -> tuple[Array, Array, Array]:
    """See `Backend.layer_norm_gradient`."""
    g, x, gamma = alike(xp, g, x, gamma)
    D = x.shape[-1]
    rows, g_rows = x.reshape(-1, D), g.reshape(-1, D)  # (M, D)
    M = len(rows)
    mean, variance = rows.mean(axis=-1, keepdims=True), rows.var(axis=-1, keepdims=True)  # (M, 1)

    lanes = min(LANES, D)
    along_row = xp.empty((2, M, lanes), x.dtype)
    ROW_SUMS(xp, g_rows, rows, gamma, mean, variance, epsilon, D, lanes, *along_row)
    sum_h, sum_hx = along_row.sum(axis=-1, keepdims=True)
    dx = xp.empty(rows.shape, x.dtype)
    INPUT_GRADIENT(xp, g_rows, rows, gamma, mean, variance, sum_h, sum_hx, epsilon, D, dx)

    P = sums.parts(M, D)
    partial = xp.empty((2, P, D), x.dtype)
    COLUMN_SUMS(xp, g_rows, rows, mean, variance, epsilon, D, M * D, P * D, *partial)
    dgamma, dbeta = sums.fold(xp, sums.ADD, partial)
    return dx.reshape(x.shape), dgamma, dbeta


def attention(xp: Any, q: Array, k: Array, v: Array, allowed: Array | None) -> tuple[Array, Array]:
    """See `Backend.attention`. P is computed in the memory of the logits."""
    P = xp.matmul(q, k.swapaxes(-1, -2))
    if allowed is not None:
        P = xp.where(allowed, P, xp.asarray(LOWEST, P.dtype))
    EXPONENTIAL(xp, P, P.max(axis=-1, keepdims=True), q.shape[-1] ** -0.5, LOWEST, P)
    SHARE(xp, P, P.sum(axis=-1, keepdims=True), P)
    return xp.matmul(P, v), P


def attention_gradient(xp: Any, g: Array, q: Array, k: Array, v: Array, P: Array) -> tuple[Array, Array, Array]:
    """See `Backend.attention_gradient`. dS is computed in the memory of dP."""
    P, dS = alike(xp, P, xp.matmul(g, v.swapaxes(-1, -2)))
    SOFTMAX_GRADIENT(xp, P, dS, (P * dS).sum(axis=-1, keepdims=True), q.shape[-1] ** -0.5, dS)
    return xp.matmul(dS, k), xp.matmul(dS.swapaxes(-1, -2), q), xp.matmul(P.swapaxes(-1, -2), g)
