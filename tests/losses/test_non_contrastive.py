"""BYOL's loss against its formula as loops, and its laws."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given

from minissl.backend import Backend
from minissl.gradcheck import gradcheck
from minissl.losses.non_contrastive import byol
from tests.losses.checking import equals_the_loops, gradients, same_on_the_device
from tests.losses.drawing import embeddings, seeds
from tests.oracles import non_contrastive as oracle


@given(embeddings(count=4))
def test_byol_equals_the_loops(z: Any) -> None:
    equals_the_loops(byol, oracle.byol(*(rows.tolist() for rows in z)), *z)


@given(embeddings(count=4))
def test_the_gradient_equals_central_differences(z: Any) -> None:
    rows = [np.where(abs(a).max(1, keepdims=True) > 0, a, 1.0)[:4, :5] for a in z]
    p1, z2, p2, z1 = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in rows)
    gradcheck(lambda p1, p2: byol(p1, z2, p2, z1), p1, p2)


@given(embeddings(count=4))
def test_targets_receive_no_gradient(z: Any) -> None:
    p1, z2, p2, z1 = gradients(byol, *z)
    assert z1 is None and z2 is None and p1 is not None and p2 is not None


@given(embeddings(count=4, scaled=False), seeds)
def test_the_length_of_a_row_does_not_matter(z: Any, seed: int) -> None:
    scale = 10.0 ** np.random.default_rng(seed).uniform(-3, 3, (4, len(z[0]), 1))
    assert byol(*(scale * z)).item() == pytest.approx(byol(*z).item(), rel=1e-9, abs=1e-12)


@given(embeddings(count=4))
def test_each_term_is_from_0_to_4_and_views_may_swap(z: Any) -> None:
    p1, z2, p2, z1 = z
    assert 0 <= byol(*z).item() <= 8 + 1e-12
    assert byol(p2, z1, p1, z2).item() == pytest.approx(byol(*z).item(), rel=1e-12)


def test_equal_directions_cost_0_and_opposite_ones_4_each() -> None:
    p = np.random.default_rng(0).normal(size=(5, 3))
    assert byol(p, 2 * p, p, 3 * p).item() == pytest.approx(0, abs=1e-15)
    assert byol(p, -2 * p, p, -p).item() == pytest.approx(8)
    assert np.isfinite(gradients(byol, p, p, p, -p)[0]).all()


def test_the_same_numbers_on_a_device(cupy: Backend) -> None:
    same_on_the_device(cupy, byol, *np.random.default_rng(0).normal(size=(4, 3, 5)))


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.ones((3, 3)), "4 .N, D. of one shape"),
        (np.ones((2, 4)), "4 .N, D. of one shape"),
        (np.ones(3), "expected a tensor .N, D."),
        (np.full((2, 3), np.nan), "expected finite numbers"),
    ],
    ids=["rows", "columns", "axes", "NaN"],
)
def test_bad_input_is_named(place: int, bad: np.ndarray, message: str) -> None:
    inputs = [np.ones((2, 3))] * 4
    inputs[place] = bad
    with pytest.raises(ValueError, match=f"byol: .*{message}"):
        byol(*inputs)


def test_an_empty_batch_is_named() -> None:
    with pytest.raises(ValueError, match=r"byol: .*N at least 1"):
        byol(*[np.ones((0, 3))] * 4)
