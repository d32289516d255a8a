"""Confusion matrix, mIoU and mAP: against loops, and over the whole set, which per-batch averages are not."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minissl.evaluation import accuracy, confusion_matrix, iou, mean_average_precision, mean_iou


@st.composite
def cases(draw: Any) -> tuple[np.ndarray, np.ndarray, int]:
    K = draw(st.integers(1, 5))
    numbers = st.lists(st.tuples(st.integers(0, K - 1), st.integers(0, K - 1)), min_size=1, max_size=30)
    truth, predicted = np.array(draw(numbers)).T
    return truth, predicted, K


@given(cases())
def test_the_confusion_matrix_counts_pairs(case: tuple[np.ndarray, np.ndarray, int]) -> None:
    truth, predicted, K = case
    counts = np.zeros((K, K), int)
    for t, p in zip(truth, predicted, strict=True):
        counts[t, p] += 1
    found = confusion_matrix(truth.astype("uint8"), predicted, K)
    np.testing.assert_array_equal(found, counts)
    assert found.sum() == len(truth) and accuracy(found) == (truth == predicted).mean()


@given(cases())
def test_iou_is_intersection_over_union_of_sets_of_pixels(case: tuple[np.ndarray, np.ndarray, int]) -> None:
    truth, predicted, K = case
    expected = []
    for k in range(K):
        a, b = set(np.flatnonzero(truth == k)), set(np.flatnonzero(predicted == k))
        expected.append(len(a & b) / len(a | b) if a | b else np.nan)
    confusion = confusion_matrix(truth, predicted, K)
    np.testing.assert_allclose(iou(confusion), expected)
    present = [value for value in expected if not np.isnan(value)]
    assert mean_iou(confusion) == pytest.approx(sum(present) / len(present))


def test_an_absent_class_is_left_out_and_an_invented_one_counts_as_missed() -> None:
    truth = np.array([0, 0, 1, 1])
    assert mean_iou(confusion_matrix(truth, truth, 3)) == 1
    assert mean_iou(confusion_matrix(truth, np.array([0, 0, 1, 2]), 3)) == pytest.approx((1 + 1 / 2 + 0) / 3)


def test_masks_of_batches_add_up_and_their_mean_iou_does_not_average() -> None:
    """A class that fills the first image and is one wrong pixel in the second."""
    truth, predicted = np.zeros((2, 4, 4), "uint8"), np.zeros((2, 4, 4), "uint8")
    truth[0] = predicted[0] = 1
    truth[1, 0, 0] = 1
    whole = confusion_matrix(truth, predicted, 2)
    batches = [confusion_matrix(truth[i], predicted[i], 2) for i in range(2)]
    np.testing.assert_array_equal(whole, batches[0] + batches[1])
    assert mean_iou(whole) == pytest.approx((16 / 17 + 15 / 16) / 2)
    assert np.mean([mean_iou(batch) for batch in batches]) == pytest.approx((1 + (0 + 15 / 16) / 2) / 2)  # 0.73


def test_many_pixels_are_counted_without_overflow() -> None:
    truth = np.full(70_000, 254, "uint8")
    assert confusion_matrix(truth, truth, 255)[254, 254] == 70_000


@pytest.mark.parametrize(
    ("truth", "predicted", "kind", "message"),
    [
        (np.zeros(3, int), np.zeros((3, 1), int), ValueError, r"two arrays of one shape, got \(3,\), \(3, 1\)"),
        (
            np.array([0, 3]),
            np.array([0, 1]),
            ValueError,
            "a truth from 0 to 2, got 0 to 3; leave out what has no class",
        ),
        (np.array([0, 1]), np.array([-1, 1]), ValueError, "a prediction from 0 to 2, got -1 to 1"),
        (np.array([0, 1]), np.array([0.2, 0.8]), TypeError, "class numbers as prediction, got float64; use argmax"),
    ],
)
def test_what_is_no_class_is_named(truth: Any, predicted: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        confusion_matrix(truth, predicted, 3)


@pytest.mark.parametrize("matrix", [np.zeros((3, 3), int), np.ones((2, 3), int), np.ones(3, int)])
@pytest.mark.parametrize("figure", [accuracy, iou, mean_iou])
def test_figures_of_nothing_are_an_error(figure: Any, matrix: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected a confusion matrix \(K, K\) of at least one case, got shape"):
        figure(matrix)


# -- average precision ------------------------------------------------------------------------------------------------


def average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    """Every score as a threshold: precision there, times what it adds to recall."""
    total, recall_above = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        retrieved = scores >= threshold
        precision = targets[retrieved].sum() / retrieved.sum()
        recall = targets[retrieved].sum() / targets.sum()
        total, recall_above = total + (recall - recall_above) * precision, recall
    return total


@given(st.integers(1, 25), st.integers(1, 4), st.integers(1, 6), st.integers(0, 10_000))
def test_mean_average_precision_equals_loops_also_with_ties(N: int, K: int, values: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, targets = rng.integers(values, size=(N, K)) / 4 - 1, rng.integers(2, size=(N, K))
    targets[0, 0] = 1
    expected = [average_precision(scores[:, k], targets[:, k]) for k in range(K) if targets[:, k].any()]
    assert mean_average_precision(scores, targets) == pytest.approx(np.mean(expected))
    assert mean_average_precision(scores.astype("float32"), targets == 1) == pytest.approx(np.mean(expected))


def test_a_known_example() -> None:
    """Relevant at ranks 1, 3 and 4: (1/1 + 2/3 + 3/4) / 3."""
    scores, targets = np.array([[0.9], [0.8], [0.7], [0.6], [0.1]]), np.array([[1], [0], [1], [1], [0]])
    assert mean_average_precision(scores, targets) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


def test_the_average_over_batches_is_another_figure() -> None:
    """Each half ranks its own images perfectly, but scores of the second are lower throughout."""
    scores, targets = np.array([[4.0], [3.0], [2.0], [1.0]]), np.array([[1], [0], [1], [0]])
    halves = [mean_average_precision(scores[rows], targets[rows]) for rows in (slice(2), slice(2, 4))]
    assert halves == [1, 1]
    assert mean_average_precision(scores, targets) == pytest.approx((1 + 2 / 3) / 2)


def test_only_the_order_of_scores_matters_and_labels_without_images_are_left_out() -> None:
    rng = np.random.default_rng(0)
    scores, targets = rng.standard_normal((40, 3)), rng.integers(2, size=(40, 3))
    found = mean_average_precision(scores, targets)
    assert mean_average_precision(np.exp(scores) * [1, 7, 1e-3], targets) == found
    more = np.column_stack([scores, rng.standard_normal(40)]), np.column_stack([targets, np.zeros(40, int)])
    assert mean_average_precision(*more) == found


@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        (np.ones(3), np.ones(3), r"of one shape \(N, K\), got \(3,\), \(3,\)"),
        (np.ones((3, 2)), np.ones((3, 1)), r"got \(3, 2\), \(3, 1\)"),
        (np.array([[np.nan]]), np.array([[1]]), "expected finite scores, and targets of 0 and 1"),
        (np.ones((2, 1)), np.array([[2], [0]]), "expected finite scores, and targets of 0 and 1"),
        (np.ones((2, 3)), np.zeros((2, 3)), "none of 3 labels is true of any image"),
    ],
)
def test_bad_rankings_are_named(scores: np.ndarray, targets: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean_average_precision(scores, targets)
