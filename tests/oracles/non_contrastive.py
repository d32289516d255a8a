"""Losses that compare positives only, as loops."""

from tests.oracles.vectors import Rows, squared_distance, unit


def byol(p1: Rows, z2: Rows, p2: Rows, z1: Rows) -> float:
    """Mean over N of ‖p̂1 − ẑ2‖² + ‖p̂2 − ẑ1‖²."""
    total = 0.0
    for n in range(len(p1)):
        total += squared_distance(unit(p1[n]), unit(z2[n]))
        total += squared_distance(unit(p2[n]), unit(z1[n]))
    return total / len(p1)
