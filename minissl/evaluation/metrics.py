"""Figures of merit for many classes: from one table of counts, or one ranking, of the WHOLE set.

Averages of per-batch figures are something else: a class that a batch lacks, or has once, distorts the batch's figure.
"""

import numpy as np


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """How often class i was taken for class j: integers (K, K), rows the truth, columns the prediction.

    truth, predicted: class numbers of any one shape, say masks (N, H, W). Leave out what has no truth beforehand:
    `confusion_matrix(truth[known], predicted[known], K)`. Matrices of parts of a set add up to that of the whole.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"confusion_matrix: expected two arrays of one shape, got {truth.shape}, {predicted.shape}")
    for name, numbers in (("truth", truth), ("prediction", predicted)):
        if numbers.dtype.kind not in "iu":
            raise TypeError(f"confusion_matrix: expected class numbers as {name}, got {numbers.dtype}; use argmax")
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < classes:
            raise ValueError(
                f"confusion_matrix: expected a {name} from 0 to {classes - 1}, got {numbers.min()} to {numbers.max()}; "
                "leave out what has no class"
            )
    pairs = truth.astype(np.int64).ravel() * classes + predicted.ravel()
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def accuracy(confusion: np.ndarray) -> float:
    """The part of all that was given its class."""
    total = _counted("accuracy", confusion)
    return float(np.trace(confusion) / total)


def iou(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union of each class, (K,): n_ii / (n_i· + n_·i − n_ii). NaN for a class that is absent.

    Absent is what is neither in the truth nor in the prediction: a class seen where it is not has 0.
    """
    _counted("iou", confusion)
    hits = np.diag(confusion)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
    return np.where(union > 0, hits / np.maximum(union, 1), np.nan)


def mean_iou(confusion: np.ndarray) -> float:
    """The mean of `iou` over the classes that are present."""
    return float(np.nanmean(iou(confusion)))


def mean_average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    """The mean over labels of the average precision  Σ_n (R_n − R_{n−1}) P_n  of ranking the whole set by its score.

    scores: (N, K), the higher the surer; targets: (N, K) of 0 and 1, or bool. P_n and R_n are precision and recall of
    the images with the n-th highest score or a higher one; equal scores count as one. Labels that no image has are
    left out. Raises ValueError for other shapes and values, and where no label is left.
    """
    if scores.ndim != 2 or scores.shape != targets.shape:
        raise ValueError(
            "mean_average_precision: expected scores and targets of one shape (N, K), "
            f"got {scores.shape}, {targets.shape}"
        )
    if not np.isfinite(scores).all() or not np.isin(targets, (0, 1)).all():
        raise ValueError("mean_average_precision: expected finite scores, and targets of 0 and 1, got others")
    present = targets.any(axis=0)
    if not present.any():
        raise ValueError(f"mean_average_precision: none of {targets.shape[1]} labels is true of any image")
    return float(np.mean([_average_precision(scores[:, k], targets[:, k]) for k in np.flatnonzero(present)]))


def _average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    order = np.argsort(-scores, kind="stable")
    hits, ranked = np.cumsum(targets[order].astype(np.int64)), scores[order]
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)  # of each run of equal scores
    precision, recall = hits[last] / (last + 1), hits[last] / hits[-1]
    return float((np.diff(recall, prepend=0) * precision).sum())


def _counted(name: str, confusion: np.ndarray) -> int:
    if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1] or not (total := int(confusion.sum())):
        raise ValueError(
            f"{name}: expected a confusion matrix (K, K) of at least one case, got shape {confusion.shape} "
            f"with {confusion.sum():g} cases"
        )
    return total
