"""Parts of the labels: of every class, one inside the other, and the same again."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minissl.evaluation import label_fraction

LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 7], [500, 300, 30, 1]))


def test_every_class_gives_its_part_and_at_least_one() -> None:
    for fraction, counts in {0.01: [5, 3, 1, 1], 0.1: [50, 30, 3, 1], 1.0: [500, 300, 30, 1]}.items():
        rows = label_fraction(LABELS, fraction)
        assert len(set(rows)) == len(rows)
        assert np.unique(LABELS[rows], return_counts=True)[1].tolist() == counts


@given(st.floats(0.001, 1), st.floats(0.001, 1), st.integers(0, 100))
def test_a_smaller_part_lies_inside_a_larger_one(one: float, other: float, seed: int) -> None:
    small, large = (set(label_fraction(LABELS, fraction, seed)) for fraction in sorted((one, other)))
    assert small <= large <= set(label_fraction(LABELS, 1.0, seed)) == set(range(len(LABELS)))


def test_the_seed_decides_which() -> None:
    first = label_fraction(LABELS, 0.1, 0)
    np.testing.assert_array_equal(first, label_fraction(LABELS, 0.1, 0))
    assert set(first) != set(label_fraction(LABELS, 0.1, 1))
    assert set(first[LABELS[first] == 0]) != set(np.flatnonzero(LABELS == 0)[:50])  # not just the first ones


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, float("nan")])
def test_parts_outside_0_to_1_are_an_error(fraction: float) -> None:
    with pytest.raises(ValueError, match="label_fraction: expected a fraction above 0 and at most 1, got"):
        label_fraction(LABELS, fraction)


@pytest.mark.parametrize("labels", [np.ones(5), np.ones((5, 2), int)])
def test_labels_that_are_no_class_numbers_are_an_error(labels: Any) -> None:
    with pytest.raises(ValueError, match=r"label_fraction: expected class numbers \(N,\), got"):
        label_fraction(labels, 0.5)
