"""Adding rows at places that are named by numbers, some perhaps several times."""

from typing import Any

import numpy as np


def scatter_add(total: np.ndarray, key: Any, values: np.ndarray) -> None:
    """See `Backend.scatter_add`.

    `np.add.at` goes element by element. Rows sorted by their place can be summed in runs instead, and each place be
    written once; where no place comes twice, nothing needs to be summed.
    """
    keys = key if isinstance(key, tuple) else (key,)
    numbers = all(isinstance(k, np.ndarray) and k.dtype.kind in "iu" for k in keys)
    if not numbers or not total.flags.c_contiguous or not values.size:
        np.add.at(total, key, values)
        return
    sides = total.shape[: len(keys)]
    places = np.broadcast_arrays(*(k % n for k, n in zip(keys, sides, strict=True)))  # −1 is the last
    flat = np.ravel_multi_index(places, sides).reshape(-1)  # (M,)
    rows, table = values.reshape(len(flat), -1), total.reshape(int(np.prod(sides)), -1)
    order = np.argsort(flat, kind="stable")
    first = np.flatnonzero(np.diff(flat[order], prepend=-1))  # where a run of equal places begins
    if len(first) == len(flat):
        table[flat] += rows
    else:
        table[flat[order[first]]] += np.add.reduceat(rows[order], first, axis=0)
