"""Hypothesis strategies for embeddings, labels and temperatures, awkward ones included."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

seeds = st.integers(0, 2**32 - 1)
temperatures = st.sampled_from([0.01, 0.05, 0.2, 0.5, 1.0, 10.0])


@st.composite
def embeddings(draw: Any, count: int = 2, least: int = 1, scaled: bool = True) -> tuple[np.ndarray, ...]:
    """`count` matrices (N, D) in float64, N from `least` to 64; now and then with duplicate rows, a zero row, or norms
    from 1e-8 to 1e8 (where `scaled`: for losses whose value does not depend on norms)."""
    rng = np.random.default_rng(draw(seeds))
    N, D = max(least, draw(st.sampled_from([1, 2, 3, 5, 8, 17, 64]))), draw(st.sampled_from([1, 2, 5, 64]))
    z = rng.standard_normal((count, N, D))
    kind = draw(st.sampled_from(["plain", "plain", "duplicates", "zero row", *(["scaled"] if scaled else [])]))
    if kind == "duplicates":
        z[:, rng.integers(0, N, N // 2 + 1)] = z[0, 0]
    elif kind == "zero row":
        z[0, rng.integers(N)] = 0
    elif kind == "scaled":
        z *= 10.0 ** rng.uniform(-8, 8, (count, N, 1))
    return tuple(z)


@st.composite
def labels(draw: Any, N: int) -> np.ndarray:
    """(N,) classes: some, one only, or every class once."""
    rng = np.random.default_rng(draw(seeds))
    classes = draw(st.sampled_from([1, max(1, N // 3) + 1, None]))
    return rng.permutation(N) if classes is None else rng.integers(0, classes, N)
