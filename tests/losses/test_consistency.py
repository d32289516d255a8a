"""UDA's consistency against its formula as loops, what its mask and its constant keep out, and that it teaches."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minissl import losses, models, ops, optim, random
from minissl.backend import Backend
from minissl.gradcheck import gradcheck
from minissl.losses import consistency
from minissl.tensor import Tensor
from tests.losses.checking import equals_the_loops, gradients, same_on_the_device
from tests.losses.drawing import embeddings, temperatures
from tests.oracles import consistency as oracle

confidences = st.sampled_from([0.0, 0.3, 0.6, 0.8])


@given(embeddings(scaled=False), temperatures, confidences)
def test_it_equals_the_loops(z: Any, temperature: float, confidence: float) -> None:
    logits, t = z
    expected = oracle.consistency(logits.tolist(), t.tolist(), temperature, confidence)
    loss = lambda logits, t: consistency(logits, t, temperature, confidence)
    equals_the_loops(loss, expected, logits, t)


@given(embeddings(scaled=False), temperatures, confidences)
def test_the_gradient_equals_central_differences(z: Any, temperature: float, confidence: float) -> None:
    logits, t = (rows[:4, :5] for rows in z)
    gradcheck(lambda logits: consistency(logits, t, temperature, confidence), logits)


@given(embeddings(scaled=False), temperatures)
def test_it_is_at_least_0_and_0_for_the_sharpened_target(z: Any, temperature: float) -> None:
    logits, t = z
    assert consistency(logits, t, temperature, 0.0).item() >= -1e-12
    assert consistency(t / temperature, t, temperature, 0.0).item() == pytest.approx(0, abs=1e-9)


def test_the_target_receives_no_gradient() -> None:
    logits, t = np.random.default_rng(0).standard_normal((2, 4, 3))
    live, stopped = gradients(lambda a, b: consistency(a, b, confidence=0.0), logits, t)
    assert stopped is None and np.abs(live).min() > 0


def test_unsure_rows_count_as_0_in_a_mean_over_all() -> None:
    """Row 0 is sure by 0.9, row 1 by 0.7: the mask looks at the probabilities before they are sharpened."""
    t = np.log([[0.9, 0.1], [0.7, 0.3]])
    logits = np.zeros((2, 2))
    alone = consistency(logits[:1], t[:1], 0.4, 0.8).item()
    assert alone > 0 and consistency(logits[1:], t[1:], 0.4, 0.8).item() == 0
    assert consistency(logits, t, 0.4, 0.8).item() == pytest.approx(alone / 2, rel=1e-12)
    assert consistency(logits, t, 0.4, 0.6).item() > 0.6 * alone
    (gradient, _) = gradients(lambda a, b: consistency(a, b, 0.4, 0.8), logits, t)
    assert np.abs(gradient[0]).min() > 0 and (gradient[1] == 0).all()


def test_the_target_is_sharpened_by_the_temperature() -> None:
    """q = softmax(t/½) of (0.8, 0.2) is (16, 1)/17; against p = ½ the loss is log 2 − H(q)."""
    q = np.array([16, 1]) / 17
    expected = math.log(2) + (q * np.log(q)).sum()
    found = consistency(np.zeros((1, 2)), np.log([[0.8, 0.2]]), 0.5, 0.5).item()
    assert found == pytest.approx(expected, rel=1e-12)


def test_the_same_numbers_on_a_device(cupy: Backend) -> None:
    loss = lambda a, b: consistency(a, b, confidence=0.4)
    same_on_the_device(cupy, loss, *2 * np.random.default_rng(0).standard_normal((2, 6, 3)))


@pytest.mark.parametrize("place", range(2))
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.ones((3, 3)), "2 .N, D. of one shape"),
        (np.ones((2, 4)), "2 .N, D. of one shape"),
        (np.ones(3), "expected a tensor .N, D."),
        (np.full((2, 3), np.nan), "expected finite numbers"),
    ],
    ids=["rows", "columns", "axes", "NaN"],
)
def test_bad_input_is_named(place: int, bad: np.ndarray, message: str) -> None:
    inputs = [np.ones((2, 3))] * 2
    inputs[place] = bad
    with pytest.raises(ValueError, match=f"consistency: .*{message}"):
        consistency(*inputs)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_that_is_none_is_named(temperature: float) -> None:
    with pytest.raises(ValueError, match="consistency: expected temperature above 0"):
        consistency(np.ones((2, 3)), np.ones((2, 3)), temperature)


@pytest.mark.parametrize("confidence", [-0.1, 1.0, 80.0, math.nan])
def test_a_confidence_that_is_none_is_named(confidence: float) -> None:
    with pytest.raises(ValueError, match="consistency: expected confidence from 0 to below 1"):
        consistency(np.ones((2, 3)), np.ones((2, 3)), 0.4, confidence)


def test_a_classifier_learns_from_images_without_labels() -> None:
    """Two classes, told by the sign of the first of two numbers that agree; one label each. An augmentation hides one
    of the two, so a classifier that has to be consistent learns to read both, and does better where one is missing.
    """
    numbers = np.random.default_rng(0)
    y = np.arange(200) % 2
    x = (2 * y - 1)[:, None] * np.float32([2, 2]) + numbers.normal(0, 0.5, (200, 2)).astype(np.float32)
    labelled = np.float32([[-2, 0], [2, 0]])  # these show the first number only
    second_only = x * np.float32([0, 1])

    def accuracy(weight: float) -> float:
        random.seed(0)
        network = models.mlp(2, 16, 2)
        optimizer = optim.Adam(network.parameters(), 0.02)
        for _ in range(30):
            kept = np.eye(2, dtype=np.float32)[numbers.integers(0, 2, len(x))]
            loss = losses.cross_entropy(network(Tensor(labelled)), np.array([0, 1]))
            loss = loss + weight * consistency(network(Tensor(x * kept)), network(Tensor(x)))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        logits = network(Tensor(second_only))
        return float((ops.softmax(logits).data.argmax(axis=1) == y).mean())

    assert accuracy(1.0) > 0.97
    assert accuracy(0.0) < 0.9
