"""Probes of frozen features: what they measure, and what they must not look at."""

import itertools
from typing import Any

import numpy as np
import pytest

from minissl import nn, tensor
from minissl.evaluation import Labelled, extract, knn, linear_probe, standardize
from minissl.evaluation.linear import along_principal_axes, lbfgs, logistic_regression, principal_axes
from minissl.tensor import Tensor


def blobs(rng: np.random.Generator, N: int, spread: float = 0.3, D: int = 6, K: int = 3) -> Labelled:
    """K classes, each around its own axis."""
    y = rng.permutation(np.arange(N) % K)
    return Labelled(5 * np.eye(K, D)[y] + spread * rng.normal(size=(N, D)), y)


def noise(rng: np.random.Generator, N: int, D: int = 6, K: int = 4) -> Labelled:
    return Labelled(rng.normal(size=(N, D)), rng.integers(K, size=N))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


class Encoder(nn.Module):
    """Counts what it sees; its BatchNorm would mix the rows of a batch if it were training."""

    def __init__(self) -> None:
        self.frozen, self.norm = nn.BatchNorm(3), nn.BatchNorm(3)
        self.seen: list[tuple[int, bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        result = self.norm(x)
        self.seen.append((len(x), self.training or self.norm.training, result.requires_grad))
        return result


def test_extract_evaluates_in_batches_and_in_order(rng: np.random.Generator) -> None:
    encoder = Encoder()
    images = rng.normal(2, 3, size=(7, 4, 4, 3)).astype("float32")
    found = extract(encoder, images, lambda batch: 2 * batch, batch_size=3)
    assert encoder.seen == [(3, False, False), (3, False, False), (1, False, False)]
    assert found.shape == (7, 48) and found.dtype == "float32"
    np.testing.assert_allclose(found, (2 * images).reshape(7, -1) / np.sqrt(np.float32(1 + 1e-5)), rtol=1e-5)
    np.testing.assert_array_equal(encoder.norm.running_mean.data, 0)


def test_extract_leaves_every_module_in_its_mode(rng: np.random.Generator) -> None:
    encoder = Encoder()
    encoder.frozen.eval()  # a part that stays in evaluation while the rest trains
    extract(encoder, np.ones((2, 1, 1, 3), "float32"), lambda batch: batch)
    assert (encoder.training, encoder.frozen.training, encoder.norm.training) == (True, False, True)
    encoder.eval()
    extract(encoder, np.ones((2, 1, 1, 3), "float32"), lambda batch: batch)
    assert not any(module.training for module in encoder.modules())


def test_extract_leaves_the_mode_and_the_recording_as_they_were_after_an_error() -> None:
    def fail(batch: Any) -> Any:
        raise KeyError

    encoder = Encoder()
    with pytest.raises(KeyError):
        extract(encoder, np.ones((2, 1, 1, 3), "float32"), fail)
    assert all(module.training for module in encoder.modules()) and tensor._recording


def test_standardize_uses_the_statistics_of_the_first(rng: np.random.Generator) -> None:
    x, other = rng.normal(5, 3, size=(50, 4)), rng.normal(size=(20, 4))
    a, b = standardize(x, other)
    np.testing.assert_allclose(a.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(a.std(axis=0), 1, rtol=1e-12)
    np.testing.assert_allclose(b, (other - x.mean(axis=0)) / x.std(axis=0), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_constant_feature_stays_zero(rng: np.random.Generator, dtype: str) -> None:
    x = rng.normal(size=(1000, 3)).astype(dtype)
    x[:, 1] = 0.1  # its mean is off by rounding, and its deviation not quite 0
    (a,) = standardize(x)
    np.testing.assert_allclose(a[:, 1], 0, atol=1e-6)
    assert np.abs(standardize(np.ones((5, 2)))[0]).max() == 0


def test_knn_of_separate_blobs_is_perfect(rng: np.random.Generator) -> None:
    assert knn(blobs(rng, 90), blobs(rng, 60)) == 1.0


def test_knn_of_noise_is_near_chance(rng: np.random.Generator) -> None:
    accuracy = knn(noise(rng, 400), noise(rng, 1000))  # chance is 1/4, its deviation 0.014
    assert 0.25 - 0.06 < accuracy < 0.25 + 0.06


def brute_force(train: Labelled, test: Labelled, k: int, temperature: float) -> float:
    """The vote, one query and one neighbour at a time."""
    mean, deviation = train.x.mean(axis=0), train.x.std(axis=0)
    bank, queries = (train.x - mean) / deviation, (test.x - mean) / deviation
    correct = 0
    for query, label in zip(queries, test.y, strict=True):
        cosines = [float(row @ query / np.sqrt(row @ row) / np.sqrt(query @ query)) for row in bank]
        votes: dict[int, float] = {}
        for i in sorted(range(len(bank)), key=lambda i: -cosines[i])[:k]:
            votes[int(train.y[i])] = votes.get(int(train.y[i]), 0.0) + float(np.exp(cosines[i] / temperature))
        correct += max(votes, key=lambda c: votes[c]) == label
    return correct / len(queries)


@pytest.mark.parametrize("k", [1, 2, 5, 40])
@pytest.mark.parametrize("temperature", [0.07, 10.0])
def test_knn_equals_brute_force(rng: np.random.Generator, k: int, temperature: float) -> None:
    train, test = blobs(rng, 40, spread=4), blobs(rng, 600, spread=4)  # more than one block of queries
    assert knn(train, test, k, temperature) == brute_force(train, test, k, temperature)


def test_one_near_neighbour_outweighs_two_far_ones_only_at_a_low_temperature() -> None:
    """Around the query's direction: class 0 at 10°, class 1 at ±60°. e^{0.98/τ} against 2 e^{0.5/τ}."""
    angles = np.radians([10, 60, -60, 190, 240, 120])  # each with its opposite, so that the mean is 0
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    x /= x.std(axis=0)
    train = Labelled(x, np.array([0, 1, 1, 2, 2, 2]))
    test = Labelled(x[:1], np.array([0]))
    assert knn(train, test, k=3, temperature=0.07) == 1.0
    assert knn(train, test, k=3, temperature=100.0) == 0.0


@pytest.mark.parametrize("k", [0, -1, 7])
def test_k_outside_the_training_rows_is_an_error(rng: np.random.Generator, k: int) -> None:
    with pytest.raises(ValueError, match=f"knn: expected k between 1 and the 6 training rows, got {k}"):
        knn(blobs(rng, 6), blobs(rng, 6), k)


def test_knn_does_not_care_about_a_features_unit(rng: np.random.Generator) -> None:
    train, test = blobs(rng, 60, spread=3), blobs(rng, 60, spread=3)
    unit = np.array([1, 10, 0.1, 5, 2, 1])
    assert knn(train, test, 5) == knn(Labelled(train.x * unit, train.y), Labelled(test.x * unit, test.y), 5)


def test_a_class_that_was_never_seen_counts_as_missed(rng: np.random.Generator) -> None:
    test = blobs(rng, 60)
    assert knn(blobs(rng, 60), Labelled(test.x, test.y + 7)) == 0.0


def test_the_probe_of_separate_blobs_is_perfect(rng: np.random.Generator) -> None:
    assert linear_probe(blobs(rng, 90), blobs(rng, 60), blobs(rng, 60)).score == 1.0


def test_the_probe_of_noise_is_near_chance(rng: np.random.Generator) -> None:
    accuracy = linear_probe(noise(rng, 400), noise(rng, 400), noise(rng, 1000), penalties=(0.1,)).score
    assert 0.25 - 0.06 < accuracy < 0.25 + 0.06


def objective(W: np.ndarray, x: np.ndarray, y: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
    """Mean cross entropy plus penalty/2 times the squared weights (not the bias, the last row), and its gradient."""
    X, shrunk = np.column_stack([x, np.ones(len(x))]), W * np.append(np.ones(len(W) - 1), 0)[:, None]
    p = np.exp(X @ W)
    p /= p.sum(axis=1, keepdims=True)
    value = -np.log(p[np.arange(len(x)), y]).mean() + 0.5 * penalty * (shrunk**2).sum()
    return float(value), X.T @ (p - np.eye(W.shape[1])[y]) / len(x) + penalty * shrunk


def several_labels(rng: np.random.Generator, N: int) -> Labelled:
    """Labels of which the first two can be told along a feature each, and the third not at all."""
    x = rng.normal(size=(N, 5))
    return Labelled(x, np.stack([x[:, 0] > 0.3, x[:, 1] > 1, rng.random(N) < 0.3], axis=1).astype(np.uint8))


def test_a_probe_of_several_labels_asks_for_each_by_itself(rng: np.random.Generator) -> None:
    data = several_labels(rng, 300)
    x = standardize(data.x)[0]
    together = logistic_regression(x, data.y, 3, 0.01, np.zeros((6, 3)), tolerance=1e-8)
    for k in range(3):
        alone = logistic_regression(x, data.y[:, [k]], 1, 0.01, np.zeros((6, 1)), tolerance=1e-8)
        np.testing.assert_allclose(together[:, [k]], alone, atol=1e-5)
        p = 1 / (1 + np.exp(-(x @ alone[:-1] + alone[-1])))
        gradient = x.T @ (p - data.y[:, [k]]) / len(x) + 0.01 * alone[:-1]
        assert np.abs(gradient).max() < 1e-7 and np.mean(p) == pytest.approx(data.y[:, k].mean(), abs=1e-6)


def test_a_probe_of_several_labels_is_scored_by_mean_average_precision(rng: np.random.Generator) -> None:
    train, validation, test = (several_labels(rng, N) for N in (400, 200, 2000))
    told = [Labelled(data.x, data.y[:, :2]) for data in (train, validation, test)]
    assert linear_probe(*told).score > 0.98
    chance = test.y[:, 2].mean()
    assert linear_probe(train, validation, test).score == pytest.approx((1 + 1 + chance) / 3, abs=0.03)


@pytest.mark.parametrize("penalty", [0.01, 1.0])
def test_logistic_regression_finds_the_optimum_of_a_long_gradient_descent(
    rng: np.random.Generator, penalty: float
) -> None:
    data = blobs(rng, 30, spread=4, D=3)
    x, y = standardize(data.x)[0], data.y
    W = np.zeros((4, 3))
    for _ in range(1500):
        _, gradient = objective(W, x, y, penalty)
        W -= 0.7 * gradient
    best, gradient = objective(W, x, y, penalty)
    assert np.abs(gradient).max() < 1e-6
    found = logistic_regression(x, y, 3, penalty, np.zeros((4, 3)))
    value, gradient = objective(found, x, y, penalty)
    assert np.abs(gradient).max() <= 1e-5 and value - best < 1e-8
    np.testing.assert_allclose(found, W, atol=1e-3)


@pytest.mark.parametrize("penalty", [0.001, 1.0])
def test_among_the_training_rows_lies_the_same_solution(rng: np.random.Generator, penalty: float) -> None:
    """More features than rows, correlated, two of them one and the same and one constant."""
    mixing = rng.normal(size=(100, 100)) * np.geomspace(1, 1e-3, 100)[:, None]
    data = Labelled(rng.normal(size=(30, 100)) @ mixing, rng.integers(3, size=30))
    data.x[:, 40], data.x[:, 50] = data.x[:, 41], 2.0
    x, other = standardize(data.x, rng.normal(size=(20, 100)) @ mixing)
    W = logistic_regression(x, data.y, 3, penalty, np.zeros((101, 3)), tolerance=1e-10)

    spanned, spanned_other = principal_axes(x, other)
    assert spanned.shape == (30, 29)  # centred rows span a dimension less
    found = along_principal_axes(spanned, data.y, 3, penalty, np.zeros((30, 3)), tolerance=1e-10)
    for rows, reduced in ((x, spanned), (other, spanned_other)):
        np.testing.assert_allclose(reduced @ found[:-1] + found[-1], rows @ W[:-1] + W[-1], atol=1e-6)
    assert (found[:-1] ** 2).sum() == pytest.approx((W[:-1] ** 2).sum(), abs=1e-6)


def test_a_probe_of_many_features_is_that_of_the_direct_solution(rng: np.random.Generator) -> None:
    y = [rng.integers(3, size=N) for N in (40, 30, 200)]
    data = [Labelled(rng.normal(size=(len(k), 300)) + 0.35 * np.eye(3)[k].repeat(100, axis=1), k) for k in y]
    x, _, x_test = standardize(*(part.x for part in data))
    W = logistic_regression(x, y[0], 3, 0.1, np.zeros((301, 3)), tolerance=1e-10)
    direct = ((x_test @ W[:-1] + W[-1]).argmax(axis=1) == y[2]).mean()
    assert 0.5 < direct < 0.99
    assert linear_probe(data[0], data[1], data[2], (0.1,)).score == pytest.approx(direct, abs=0.006)  # one test row


def test_along_the_principal_axes_the_search_is_shorter(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = rng.normal(size=(60, 200)) @ (rng.normal(size=(200, 200)) * np.geomspace(1, 1e-3, 200)[:, None])
    axes, y = principal_axes(standardize(x)[0])[0], rng.integers(3, size=60)
    calls: list[int] = []

    def counted(function: Any, *arguments: Any, **options: Any) -> np.ndarray:
        def called(w: np.ndarray) -> tuple[float, np.ndarray]:
            calls[-1] += 1
            return function(w)

        return lbfgs(called, *arguments, **options)

    monkeypatch.setattr("minissl.evaluation.linear.lbfgs", counted)
    for solve in (logistic_regression, along_principal_axes):
        calls.append(0)
        solve(axes, y, 3, 0.1, np.zeros((axes.shape[1] + 1, 3)), 1e-5)
    assert calls[1] < 0.7 * calls[0], calls


@pytest.mark.parametrize("condition", [1.0, 1e3])
def test_lbfgs_minimizes_a_quadratic(rng: np.random.Generator, condition: float) -> None:
    Q = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    A, target = Q @ np.diag(np.geomspace(1, condition, 8)) @ Q.T, rng.normal(size=8)

    def function(w: np.ndarray) -> tuple[float, np.ndarray]:
        g = A @ (w - target)
        return 0.5 * float((w - target) @ g), g

    np.testing.assert_allclose(lbfgs(function, np.zeros(8), tolerance=1e-6), target, atol=1e-5)
    calls: list[int] = []
    lbfgs(lambda w: (calls.append(1), function(w))[1], target)
    assert len(calls) == 1  # at the optimum there is nothing to do


def test_lbfgs_never_goes_up(rng: np.random.Generator) -> None:
    values: list[float] = []

    def function(w: np.ndarray) -> tuple[float, np.ndarray]:
        return float(np.logaddexp(5 * w, -5 * w).sum()), 5 * np.tanh(5 * w)  # log cosh: straight far out

    w = np.array([30.0, -20.0, 0.5])
    for _ in range(20):
        w = lbfgs(function, w, iterations=1)
        values.append(function(w)[0])
    assert all(later <= before for before, later in itertools.pairwise(values))
    np.testing.assert_allclose(lbfgs(function, np.array([30.0, -20.0, 0.5])), 0, atol=1e-5)


def test_the_penalty_is_chosen_on_the_validation_rows_alone(rng: np.random.Generator) -> None:
    """Few rows, many features: a weak penalty fits the training labels by heart, a strong one generalizes.

    Validation rows that repeat the training rows ask for the first, fresh ones for the second, whatever the test is.
    """

    def draw(N: int) -> Labelled:
        y = rng.integers(2, size=N)
        return Labelled(rng.normal(size=(N, 30)) + 1.5 * np.eye(30)[0] * y[:, None], y)

    train, fresh = draw(40), draw(600)
    penalties = (1e-5, 1.0)
    for test in (train, fresh, Labelled(fresh.x, 1 - fresh.y)):
        assert linear_probe(train, train, test, penalties).penalty == 1e-5
        assert linear_probe(train, fresh, test, penalties).penalty == 1.0
    assert linear_probe(train, train, fresh, penalties).validation == 1.0
    chosen = linear_probe(train, train, fresh, penalties).score
    other = linear_probe(train, fresh, fresh, penalties).score
    assert chosen < other  # looking at the test rows would have paid


def test_the_order_of_the_penalties_does_not_matter_and_ties_take_the_strongest(rng: np.random.Generator) -> None:
    train, validation, test = blobs(rng, 60), blobs(rng, 30), blobs(rng, 30)
    found = {linear_probe(train, validation, test, order) for order in [(1e-3, 1e-1, 1e-2), (1e-1, 1e-2, 1e-3)]}
    assert found == {(1.0, 1e-1, 1.0)}


def test_the_probe_is_deterministic_and_leaves_its_data_alone(rng: np.random.Generator) -> None:
    data = [blobs(rng, 60, spread=4) for _ in range(3)]
    saved = [(part.x.copy(), part.y.copy()) for part in data]
    assert linear_probe(*data) == linear_probe(*data)
    for part, (x, y) in zip(data, saved, strict=True):
        np.testing.assert_array_equal(part.x, x)
        np.testing.assert_array_equal(part.y, y)


def test_the_probe_without_penalties_is_an_error(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="at least one penalty"):
        linear_probe(blobs(rng, 6), blobs(rng, 6), blobs(rng, 6), ())
