"""The hashed split: fixed for good, whatever else is in the set."""

import numpy as np
import pytest

from minissl.data import hashed_parts

# Written down once: a release that changes these would mix test images into its users' training sets.
KNOWN = {"Forest/Forest_1.jpg": 2, "Forest/Forest_2.jpg": 0, "Forest/Forest_19.jpg": 1, "SeaLake/é.png": 0, "7": 2}
NAMES = [f"class{n % 7}/{n:05}.jpg" for n in range(5000)]


def test_a_part_depends_on_the_name_alone():
    parts = hashed_parts(NAMES)
    np.testing.assert_array_equal(hashed_parts(NAMES[::-3]), parts[::-3])
    assert hashed_parts(list(KNOWN)).tolist() == list(KNOWN.values())


def test_fractions_are_met_in_every_class():
    parts = hashed_parts(NAMES)
    assert parts.dtype == np.uint8
    for label in range(7):
        counts = np.bincount(parts[label::7], minlength=3) / len(parts[label::7])
        np.testing.assert_allclose(counts, (0.7, 0.1, 0.2), atol=0.06)
    assert hashed_parts(NAMES, (0, 0, 1)).tolist() == [2] * len(NAMES)
    assert hashed_parts(NAMES, (1, 0, 0)).tolist() == [0] * len(NAMES)


def test_another_seed_is_another_split():
    assert (hashed_parts(NAMES) != hashed_parts(NAMES, seed=1)).mean() > 0.3


@pytest.mark.parametrize("fractions", [(0.7, 0.2), (0.7, 0.2, 0.2), (1.2, -0.2, 0.0)])
def test_fractions_must_sum_to_one(fractions):
    with pytest.raises(ValueError, match="must not be negative and sum to 1, got"):
        hashed_parts(NAMES, fractions)
