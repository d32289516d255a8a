"""Sums down the columns of (M, C), many threads to a column yet in an order that never changes.

(M, C) is read as a stream of M·C numbers. With a step that is a multiple of C, the numbers i, i + step, i + 2 step, ...
all belong to column i % C, and threads beside each other read numbers beside each other. So P·C threads leave P partial
results per column, (P, C), and the same pattern again makes one of FAN_IN of those, until one is left.
"""

from typing import Any

from minissl.backend.base import Array
from minissl.backend.gpu.kernels import Kernel

THREADS = 1 << 17  # that a first pass is shared among: enough to hide how long memory takes to answer
FAN_IN = 64  # partial results that one thread puts together

ADD = Kernel(
    "add_partial_sums",
    "raw T a, raw T b, int64 size, int64 step",
    "T sum_a, T sum_b",
    """
    T total_a = 0, total_b = 0;
    for (ptrdiff_t j = i; j < size; j += step) {
        total_a += a[j];
        total_b += b[j];
    }
    sum_a = total_a;
    sum_b = total_b;
    """,
)

# Mean and Σ(x − mean)², one number after the other, which does not cancel (Welford, 1962).
MOMENTS = Kernel(
    "moments",
    "raw T x, int64 size, int64 step",
    "T count, T mean, T squares",
    """
    T n = 0, m = 0, s = 0;
    for (ptrdiff_t j = i; j < size; j += step) {
        const T from_mean = x[j] - m;
        n += 1;
        m += from_mean / n;
        s += from_mean * (x[j] - m);
    }
    count = n;
    mean = m;
    squares = s;
    """,
)

# The same of sets that are put together:  Σ = Σ_a + Σ_b + (m_b − m_a)² n_a n_b / (n_a + n_b)  (Chan et al., 1979).
MERGE = Kernel(
    "merge_moments",
    "raw T counts, raw T means, raw T all_squares, int64 size, int64 step",
    "T count, T mean, T squares",
    """
    T n = 0, m = 0, s = 0;
    for (ptrdiff_t j = i; j < size; j += step) {
        const T before = n, from_mean = means[j] - m;
        n += counts[j];
        m += from_mean * (counts[j] / n);
        s += all_squares[j] + from_mean * from_mean * before * (counts[j] / n);
    }
    count = n;
    mean = m;
    squares = s;
    """,
)


def parts(M: int, C: int) -> int:
    """P: how many partial results per column a first pass over (M, C) leaves."""
    return max(1, min(M, THREADS // C))


def fold(xp: Any, kernel: Kernel, partial: Array) -> Array:
    """Partial results (k, P, C), k arrays of them, to (k, C)."""
    k, P, C = partial.shape
    while P > 1:
        fewer = xp.empty((k, -(-P // FAN_IN), C), partial.dtype)
        kernel(xp, *partial, P * C, fewer.shape[1] * C, *fewer)
        partial, P = fewer, fewer.shape[1]
    return partial[:, 0]


def moments(xp: Any, rows: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each column, (C,), in one pass over rows (M, C)."""
    M, C = rows.shape
    P = parts(M, C)
    partial = xp.empty((3, P, C), rows.dtype)
    MOMENTS(xp, rows, M * C, P * C, *partial)
    _, mean, squares = fold(xp, MERGE, partial)
    return mean, squares / M
