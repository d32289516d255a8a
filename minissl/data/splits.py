"""A fixed split for a set that comes without one."""

import hashlib
from collections.abc import Iterable

import numpy as np

FRACTIONS = (0.7, 0.1, 0.2)


def hashed_parts(names: Iterable[str], fractions: tuple[float, float, float] = FRACTIONS, seed: int = 0) -> np.ndarray:
    """The part of each name, (N,) uint8 into PARTS, in about these fractions of train, validation, test.

    A name's part depends on the name and the seed alone, by a hash that is the same on every machine: it never changes
    when other files come or go, so a test image never wanders into the training set. Give rows that show the same
    place the same name, and they stay together. Raises ValueError if the fractions don't sum to 1.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions of (train, validation, test) must not be negative and sum to 1, got {fractions}")
    hashes = [hashlib.blake2b(f"{seed}/{name}".encode("utf-8", "surrogateescape"), digest_size=8) for name in names]
    uniform = np.array([int.from_bytes(h.digest(), "big") for h in hashes], np.float64) / 2**64  # (N,) in [0, 1)
    return np.searchsorted(np.cumsum(fractions)[:2], uniform, side="right").astype(np.uint8)
