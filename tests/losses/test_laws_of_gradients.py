"""Where the gradients of losses point, and where there are none."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minissl import losses
from minissl.tensor import Tensor
from tests.losses.checking import gradients
from tests.losses.drawing import seeds
from tests.losses.table import CALLS, DISTANCES, SCALAR, UNIT, example, function, inputs, real, tensors, value


@pytest.mark.parametrize("name", UNIT)
@given(st.data())
def test_gradients_of_unit_losses_are_orthogonal_to_each_row(name: str, data: Any) -> None:
    """Along itself a row changes its length only, on which the loss does not depend."""
    arrays = data.draw(inputs(name))
    given = tensors(arrays)
    function(name)(**given).backward()
    for array in set(real(arrays)) - set(CALLS[name].constant):
        np.testing.assert_allclose((given[array].grad * arrays[array]).sum(axis=1), 0, atol=1e-9)


@pytest.mark.parametrize("name", DISTANCES)
@given(st.data())
def test_gradients_of_losses_of_distances_sum_to_zero(name: str, data: Any) -> None:
    """A shift of all rows changes no distance: the sum of the gradients is the derivative along it."""
    arrays = data.draw(inputs(name))
    given = tensors(arrays)
    function(name)(**given).backward()
    total = sum(given[array].grad.sum(axis=0) for array in real(arrays))
    np.testing.assert_allclose(total, 0, atol=1e-9)


STOPPED = [name for name in SCALAR if CALLS[name].constant]


@pytest.mark.parametrize("name", STOPPED)
@given(st.data())
def test_stopped_branches_receive_nothing(name: str, data: Any) -> None:
    """Not a gradient of zeros: none at all. Without a live input there is no graph."""
    arrays = data.draw(inputs(name))
    given = tensors(arrays)
    function(name)(**given).backward()
    for array in real(arrays):
        assert (given[array].grad is None) == (array in CALLS[name].constant)


@pytest.mark.parametrize("name", STOPPED)
def test_a_weight_that_moves_all_inputs_is_moved_by_the_live_ones_alone(name: str) -> None:
    """Inputs x + w·v: the gradient of w is the slope along v with the stopped inputs held, by central differences.

    So a network that makes both a prediction and its target learns through the prediction only.
    """
    arrays, numbers, h = example(name), np.random.default_rng(1), 1e-6
    v = {array: numbers.standard_normal(arrays[array].shape) for array in real(arrays)}
    w = Tensor(np.array(0.0), requires_grad=True)
    function(name)(**arrays | {array: w * v[array] + arrays[array] for array in v}).backward()
    live = set(v) - set(CALLS[name].constant)
    ahead, behind = (
        value(name, arrays | {array: arrays[array] + step * v[array] for array in live}) for step in (h, -h)
    )
    assert w.grad.item() == pytest.approx((ahead - behind) / (2 * h), rel=1e-6, abs=1e-7)


@given(seeds, st.integers(2, 20), st.integers(2, 8))
def test_a_smaller_temperature_puts_more_of_the_gradient_on_the_nearest_negative(seed: int, K: int, D: int) -> None:
    """Negative k is pushed by p_k/τ, so its share is softmax(s/τ)_k: of the largest s it falls as τ grows, to 1/K."""
    rows = np.random.default_rng(seed).standard_normal((K + 2, 1, D))
    q, p, *negatives = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    n = np.concatenate(negatives)  # (K, D)
    nearest = int((n @ q[0]).argmax())

    def share(temperature: float) -> float:
        pushes = np.linalg.norm(gradients(lambda q, p, n: losses.info_nce(q, p, n, temperature), q, p, n)[2], axis=1)
        return float(pushes[nearest] / pushes.sum())

    shares = [share(temperature) for temperature in (0.02, 0.1, 0.5, 1.0, 10.0, 1e6)]
    assert all(larger <= smaller + 1e-12 for smaller, larger in pairwise(shares))
    assert shares[0] > shares[-1] == pytest.approx(1 / K, abs=1e-5)
