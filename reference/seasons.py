"""Several dates of each place beside the images of a data set: "seasons" (N, T, H, W, C)."""

import numpy as np

from minissl.data import DataSet


def drawn(seasons: np.ndarray, rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """So many dates of each place, all different, in random order: (N, H, W, C) each."""
    N, T = seasons.shape[:2]
    dates = rng.permuted(np.tile(np.arange(T), (N, 1)), axis=1)[:, :count].T  # (count, N)
    return [seasons[np.arange(N), t] for t in dates]


def check(data: DataSet, asked_by: str, least: int) -> None:
    """Raise ValueError where there are not so many dates of every place."""
    if "seasons" not in data or data["seasons"].ndim != 5 or data["seasons"].shape[1] < least:
        found = f"has shape {data['seasons'].shape}" if "seasons" in data else "is not there"
        raise ValueError(
            f"{asked_by}: expected an array 'seasons' (N, T, H, W, C) with at least {least} dates of each place, "
            f"in data {data.name!r}; it {found}"
        )
