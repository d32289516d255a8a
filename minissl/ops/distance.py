"""Distances between all rows of two matrices."""

from typing import Any

from minissl.ops.checks import dimensions, floating, one_backend
from minissl.tensor import Tensor, record


def squared_distances(a: Any, b: Any) -> Tensor:
    """y_ij = ‖a_i − b_j‖² for rows (N, D) and (M, D): -> (N, M).  da_i = 2 Σ_j dy_ij (a_i − b_j), db_j its opposite.

    Computed from the differences: ‖a‖² + ‖b‖² − 2ab is faster, and leaves of a small distance only rounding errors.
    """
    a, b = floating("squared_distances", a), floating("squared_distances", b)
    dimensions("squared_distances", a, "N D")
    dimensions("squared_distances", b, "M D")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"squared_distances: expected rows of one length, got {a.shape} and {b.shape}")
    home, A, B = one_backend("squared_distances", a, b), a.data, b.data
    return record(
        home.squared_distances(A, B),
        (a, lambda g: 2 * (g.sum(axis=1)[:, None] * A - home.matmul(g, B))),
        (b, lambda g: 2 * (g.sum(axis=0)[:, None] * B - home.matmul(g.T, A))),
    )
