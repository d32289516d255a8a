"""The linear probe: how well a linear classifier separates the classes in a frozen feature space.

An image has one class, y (N,), or several labels, y (N, K) of 0 and 1, each of which is asked for by itself:

    one class       p = softmax(x W + b)     scored by accuracy
    several labels  p = sigmoid(x W + b)     scored by mean average precision
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from minissl.evaluation.features import Labelled, standardize
from minissl.evaluation.metrics import mean_average_precision

PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


class Probe(NamedTuple):
    """The score of the test rows (0 to 1), the L2 penalty that was best on the validation rows, and the score there."""

    score: float
    penalty: float
    validation: float


def linear_probe(
    train: Labelled, validation: Labelled, test: Labelled, penalties: tuple[float, ...] = PENALTIES
) -> Probe:
    """Logistic regression on standardised features; the penalty is chosen on the validation rows.

    The test rows are looked at once, with the chosen penalty. Deterministic: a convex problem, solved from zero. With
    more features than rows (D > N) it is solved among the N directions that the rows span.
    """
    K = train.y.shape[1] if train.y.ndim == 2 else int(max(train.y.max(), validation.y.max(), test.y.max())) + 1
    x, x_validation, x_test = standardize(train.x.astype(np.float64), validation.x, test.x)
    solve: Callable[..., np.ndarray] = logistic_regression
    if x.shape[1] > len(x):
        x, x_validation, x_test = principal_axes(x, x_validation, x_test)
        solve = along_principal_axes
    best: tuple[float, float, np.ndarray] | None = None
    weights = np.zeros((x.shape[1] + 1, K))
    for penalty in sorted(penalties, reverse=True):  # each solution starts the search for the next, weaker penalty
        weights = solve(x, train.y, K, penalty, weights)
        score = _score(x_validation, validation.y, weights)
        if best is None or score > best[0]:
            best = score, penalty, weights
    if best is None:
        raise ValueError("linear_probe: expected at least one penalty, got none")
    return Probe(_score(x_test, test.y, best[2]), best[1], best[0])


def _score(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    logits = x @ weights[:-1] + weights[-1]  # (N, K)
    return mean_average_precision(logits, y) if y.ndim == 2 else float((logits.argmax(axis=1) == y).mean())


def logistic_regression(
    x: np.ndarray,
    y: np.ndarray,
    K: int,
    penalty: float | np.ndarray,
    start: np.ndarray,
    tolerance: float = 1e-5,
) -> np.ndarray:
    """argmin over W (D + 1, K) of mean cross entropy(x W[:-1] + W[-1], y) + ½ Σ penalty·W[:-1]².

    y: classes (N,), or 0 and 1 (N, K), whose K cross entropies are added.
    penalty: one number, or one for each feature, (D, 1).
    """
    N = len(x)
    target = y.astype(x.dtype) if y.ndim == 2 else np.eye(K)[y]  # (N, K)

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        W = flat.reshape(start.shape)
        logits = x @ W[:-1] + W[-1]
        if y.ndim == 2:
            log_p, log_q = -np.logaddexp(0, -logits), -np.logaddexp(0, logits)  # q = 1 − p
            likelihood = target * log_p + (1 - target) * log_q
        else:
            logits -= logits.max(axis=1, keepdims=True)
            log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            likelihood = target * log_p
        error = (np.exp(log_p) - target) / N  # (N, K)
        gradient = np.concatenate([x.T @ error + penalty * W[:-1], error.sum(axis=0, keepdims=True)])
        return -likelihood.sum() / N + 0.5 * (penalty * W[:-1] ** 2).sum(), gradient.ravel()

    return lbfgs(value_and_gradient, start.ravel(), tolerance=tolerance).reshape(start.shape)


def principal_axes(x: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """Rows x (N, D) in coordinates along their own principal axes, (N, r), r <= N; the others along the same axes.

    With x = U S Vᵀ they are x V = U S, and z V = z xᵀ U S⁻¹ for other rows z; U and S² come from x xᵀ, (N, N). No
    solution is lost: what W has at right angles to every row changes no training logit and costs penalty, so the best
    W has none, and V leaves lengths as they are.
    """
    squares, U = np.linalg.eigh(x @ x.T)
    kept = squares > 1e-12 * squares[-1]  # x is centred: at least one is 0
    S, U = np.sqrt(squares[kept]), U[:, kept]
    return U * S, *((z @ x.T) @ (U / S) for z in others)


def along_principal_axes(
    x: np.ndarray, y: np.ndarray, K: int, penalty: float, start: np.ndarray, tolerance: float = 1e-4
) -> np.ndarray:
    """`logistic_regression` for uncorrelated features of very unequal size, in fewer steps.

    Each feature is measured in a unit in which the curvature of the objective is at most about 1: the cross entropy's
    is at most ½ E[x²] (Böhning, 1992), the penalty's is the penalty.
    """
    unit = np.sqrt(0.5 * (x**2).mean(axis=0) + penalty)[:, None]  # (r, 1)
    units = np.vstack([unit, [[1.0]]])  # the bias keeps its own
    return logistic_regression(x / unit.T, y, K, penalty / unit**2, start * units, tolerance) / units


def lbfgs(
    function: Callable[[np.ndarray], tuple[float, np.ndarray]],
    start: np.ndarray,
    iterations: int = 200,
    memory: int = 10,
    tolerance: float = 1e-5,
) -> np.ndarray:
    """Minimise a smooth convex function that returns its value and gradient.

    Newton's direction −H⁻¹g, with H⁻¹ built from the last `memory` steps s and gradient changes y (the two-loop
    recursion), and a step that is halved until the value falls enough. Stops when no |gradient| is above `tolerance`.
    (Liu and Nocedal, 1989)
    """
    w, (value, g) = start.copy(), function(start)
    history: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(iterations):
        if np.abs(g).max() <= tolerance:
            break
        direction, alphas = -g, []
        for s, y in reversed(history):
            alphas.append(s @ direction / (s @ y))
            direction = direction - alphas[-1] * y
        if history:
            s, y = history[-1]
            direction = direction * (s @ y / (y @ y))
        else:
            direction = direction / max(1.0, np.abs(g).sum())
        for (s, y), alpha in zip(history, reversed(alphas), strict=True):
            direction = direction + (alpha - y @ direction / (s @ y)) * s
        slope, length = g @ direction, 1.0
        while True:
            new, (new_value, new_g) = w + length * direction, function(w + length * direction)
            if new_value <= value + 1e-4 * length * slope or length < 1e-10:
                break
            length *= 0.5
        s, y = new - w, new_g - g
        if s @ y > 1e-12 * (y @ y):  # curvature must be positive, as it is for a convex function
            history = [*history, (s, y)][-memory:]
        w, value, g = new, new_value, new_g
    return w
