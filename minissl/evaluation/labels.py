"""Parts of a labelled set, for learning from few labels."""

import numpy as np


def label_fraction(labels: np.ndarray, fraction: float, seed: int = 0) -> np.ndarray:
    """Rows (n,), ascending, with this part of every class, and at least one row of each.

    labels (N,): class numbers. Nested: the rows of a smaller fraction are among those of a larger one, and 1.0 has all.
    The same seed draws the same rows. Raises ValueError for a fraction outside (0, 1] and for labels without a class.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"label_fraction: expected a fraction above 0 and at most 1, got {fraction}")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"label_fraction: expected class numbers (N,), got {labels.dtype} {labels.shape}")
    chosen = [np.empty(0, np.int64)]
    for k in np.unique(labels):
        of_class = np.random.default_rng((seed, int(k))).permutation(np.flatnonzero(labels == k))
        chosen.append(of_class[: max(1, round(fraction * len(of_class)))])  # nested: ever longer parts of one order
    return np.sort(np.concatenate(chosen))
