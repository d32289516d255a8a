"""Figures that show a collapse: each against plain loops, and at the two ends."""

import math

import numpy as np
import pytest

from minissl import backend
from minissl.evaluation import spread


def by_loops(z1: np.ndarray, z2: np.ndarray) -> dict[str, float]:
    a, b = ([[v / math.sqrt(sum(v * v for v in row)) for v in row] for row in z.tolist()] for z in (z1, z2))
    N, D = z1.shape
    pairs = [(i, j) for i in range(N) for j in range(N) if i != j]
    squared = lambda u, v: sum((x - y) ** 2 for x, y in zip(u, v, strict=True))
    deviations = []
    for d in range(D):
        mean = sum(row[d] for row in a) / N
        deviations.append(math.sqrt(sum((row[d] - mean) ** 2 for row in a) / N))
    return {
        "std": sum(deviations) / D * math.sqrt(D),
        "cosine": sum(sum(x * y for x, y in zip(a[i], a[j], strict=True)) for i, j in pairs) / len(pairs),
        "alignment": sum(squared(u, v) for u, v in zip(a, b, strict=True)) / N,
        "uniformity": math.log(sum(math.exp(-2 * squared(a[i], a[j])) for i, j in pairs) / len(pairs)),
    }


def test_against_loops(cupy: backend.Backend) -> None:
    z1, z2 = np.random.default_rng(0).normal(size=(2, 6, 5))
    assert spread(z1, z2) == pytest.approx(by_loops(z1, z2), rel=1e-12)
    assert spread(cupy.to_device(z1), cupy.to_device(z2)) == pytest.approx(by_loops(z1, z2), rel=1e-12)


def test_collapsed_and_spread_evenly() -> None:
    point = np.ones((50, 8)) + 1e-9 * np.random.default_rng(0).normal(size=(50, 8))
    assert spread(point, point) == pytest.approx({"std": 0, "cosine": 1, "alignment": 0, "uniformity": 0}, abs=1e-6)
    sphere = np.random.default_rng(0).normal(size=(512, 64)).astype("float32")
    found = spread(sphere, -sphere)
    assert found["std"] == pytest.approx(1, abs=0.01) and found["cosine"] == pytest.approx(0, abs=0.01)
    assert found["alignment"] == pytest.approx(4) and -4 < found["uniformity"] < -3.7


def test_the_length_of_rows_does_not_count_and_zeros_are_no_nan() -> None:
    z1, z2 = np.random.default_rng(0).normal(size=(2, 6, 5))
    assert spread(z1 * 7, z2 * 0.1) == pytest.approx(spread(z1, z2))
    assert all(math.isfinite(value) for value in spread(z1 * 0, z2).values())


@pytest.mark.parametrize("shapes", [((1, 3), (1, 3)), ((4, 3), (4, 2)), ((4,), (4,))])
def test_other_shapes_are_an_error(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="spread: expected embeddings of two views"):
        spread(*map(np.ones, shapes))
