"""What the loops of several losses need."""

import math
from collections.abc import Sequence

Row = Sequence[float]
Rows = Sequence[Row]


def dot(a: Row, b: Row) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def squared_distance(a: Row, b: Row) -> float:
    return math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def unit(a: Row) -> list[float]:
    """a/‖a‖; a row of zeros stays zero."""
    largest = max(abs(x) for x in a)
    if largest == 0:
        return [0.0 for _ in a]
    length = largest * math.sqrt(math.fsum((x / largest) ** 2 for x in a))
    return [x / max(length, 1e-12) for x in a]


def cosine(a: Row, b: Row) -> float:
    return dot(unit(a), unit(b))


def log_sum_exp(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(math.fsum(math.exp(v - top) for v in values))


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
