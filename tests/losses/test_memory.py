"""Losses against a memory bank, against their formulas as loops."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minissl.backend import Backend
from minissl.gradcheck import gradcheck
from minissl.losses.memory import instance_softmax, nce
from minissl.tensor import Tensor
from tests.losses.checking import equals_the_loops, gradients, same_on_the_device
from tests.losses.drawing import embeddings, seeds, temperatures
from tests.oracles import memory as oracle

SIZES = st.sampled_from([1, 2, 5, 17, 64])


def unit(z: np.ndarray) -> np.ndarray:
    return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)


@st.composite
def images_and_bank(draw: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit rows v (N, D) and bank (n, D), now and then zero or repeated, and an index (N,)."""
    (v,) = draw(embeddings(count=1))
    rng = np.random.default_rng(draw(seeds))
    bank = rng.standard_normal((draw(SIZES), v.shape[1]))
    if draw(st.booleans()):
        bank[rng.integers(len(bank))] = v[0]
    return unit(v), unit(bank), rng.integers(len(bank), size=len(v))


@st.composite
def dot_products(draw: Any) -> tuple[np.ndarray, np.ndarray]:
    """Cosines (N,) and (N, m), at times all equal."""
    rng = np.random.default_rng(draw(seeds))
    N, m = draw(SIZES), draw(SIZES)
    s = rng.uniform(-1, 1, (N, m + 1))
    if draw(st.booleans()):
        s[:] = s[0, 0]
    return s[:, 0], s[:, 1:]


@given(images_and_bank(), temperatures)
def test_instance_softmax_equals_the_loops(case: Any, temperature: float) -> None:
    v, bank, index = case
    expected = oracle.instance_softmax(v.tolist(), bank.tolist(), index.tolist(), temperature)
    loss = lambda v, bank: instance_softmax(v, bank, index, temperature)
    equals_the_loops(loss, expected, v, bank, single=1e-4 / min(1, temperature))


@given(images_and_bank(), st.sampled_from([0.2, 1.0]))
def test_the_gradient_of_instance_softmax_goes_to_the_images_alone(case: Any, temperature: float) -> None:
    v, bank, index = case[0][:4, :5], case[1][:, :5], case[2][:4]
    gradcheck(lambda v: instance_softmax(v, bank, index, temperature), v)
    assert gradients(lambda v, bank: instance_softmax(v, bank, index), v, bank)[1] is None


def test_equal_rows_of_the_bank_cost_log_n() -> None:
    assert instance_softmax(np.ones((2, 3)), np.ones((7, 3)), [0, 6]).item() == pytest.approx(math.log(7))


@pytest.mark.parametrize("kind", ["int32", "uint8", "bool"])
def test_an_index_of_any_integer_type(kind: str) -> None:
    v, bank = np.random.default_rng(0).normal(size=(2, 3, 4))
    index = np.array([1, 0, 1])
    assert instance_softmax(v, bank, index.astype(kind)).item() == instance_softmax(v, bank, index).item()


@given(dot_products(), temperatures, st.sampled_from([1, 10, 10**6]), st.sampled_from([-3.0, 0.0, 20.0]))
def test_nce_equals_the_loops(case: Any, temperature: float, n: int, log_z: float) -> None:
    positive, noise = case
    expected = oracle.nce(positive.tolist(), noise.tolist(), n, log_z, temperature)
    loss = lambda positive, noise: nce(positive, noise, n, log_z, temperature)
    equals_the_loops(loss, expected, positive, noise)


@given(dot_products(), st.sampled_from([0.2, 1.0]))
def test_the_gradient_of_nce_equals_central_differences(case: Any, temperature: float) -> None:
    gradcheck(lambda positive, noise: nce(positive, noise, 50, 2.0, temperature), case[0][:4], case[1][:4, :5])


def test_a_row_as_likely_as_noise_is_a_guess() -> None:
    """P = m/n for the positive and both noise rows: h = ½ for all three."""
    s, n, m = 0.3, 10, 2
    log_z = s / 0.07 - math.log(m / n)
    assert nce(np.array([s]), np.full((1, m), s), n, log_z).item() == pytest.approx(3 * math.log(2))


def test_log_z_may_be_a_tensor_and_is_a_constant() -> None:
    positive, noise = np.array([0.5, 0.1]), np.array([[0.2], [0.4]])
    log_z = Tensor(np.array(2.5), requires_grad=True)
    loss = nce(Tensor(positive, requires_grad=True), noise, 9, log_z)
    loss.backward()
    assert loss.item() == nce(positive, noise, 9, 2.5).item() and log_z.grad is None


@pytest.mark.parametrize("sign", [1, -1])
def test_small_temperatures_stay_finite(sign: int) -> None:
    """Embeddings that coincide with their row of the bank, or are its opposite, at τ = 0.01."""
    bank = unit(np.random.default_rng(0).normal(size=(9, 4))).astype("float32")
    s = np.full(9, sign, "float32")
    softmax = gradients(lambda v: instance_softmax(v, bank, np.arange(9), 0.01), sign * bank)
    for grad in softmax + gradients(lambda p, noise: nce(p, noise, 9, 0.0, 0.01), s, -s[:, None]):
        assert np.isfinite(grad).all()


def test_the_same_numbers_on_a_device(cupy: Backend) -> None:
    v, bank = (unit(z) for z in np.random.default_rng(0).normal(size=(2, 6, 5)))
    same_on_the_device(cupy, instance_softmax, v, bank, np.array([5, 4, 3, 2, 1, 1]))
    same_on_the_device(cupy, lambda p, noise: nce(p, noise, 6, 1.0), v[:, 0], bank)


V, BANK = np.ones((2, 3)), np.ones((5, 3))
BAD_SOFTMAX: dict[str, tuple[Any, ...]] = {
    "other lengths": (V, np.ones((5, 4)), [0, 1], 1.0, r"a bank \(n, D\), got \(2, 3\) and \(5, 4\)"),
    "an empty batch": (np.ones((0, 3)), BANK, np.zeros(0, int), 1.0, "N at least 1"),
    "an empty bank": (V, np.ones((0, 3)), [0, 1], 1.0, "N at least 1"),
    "an index below": (V, BANK, [0, -1], 1.0, "an index from 0 to 4"),
    "an index above": (V, BANK, [0, 5], 1.0, "an index from 0 to 4"),
    "too few": (V, BANK, [0], 1.0, "one label for each of 2 rows"),
    "NaN": (V * np.nan, BANK, [0, 1], 1.0, "expected finite numbers"),
    "NaN in the bank": (V, BANK * np.nan, [0, 1], 1.0, "expected finite numbers"),
    "no temperature": (V, BANK, [0, 1], 0.0, "temperature above 0"),
}


@pytest.mark.parametrize("case", BAD_SOFTMAX)
def test_bad_input_to_instance_softmax_is_named(case: str) -> None:
    v, bank, index, temperature, message = BAD_SOFTMAX[case]
    with pytest.raises(ValueError, match=f"instance_softmax: .*{message}"):
        instance_softmax(v, bank, index, temperature)


def test_an_index_that_is_no_integer_is_named() -> None:
    with pytest.raises(TypeError, match="instance_softmax: expected integer labels"):
        instance_softmax(V, BANK, [0.0, 1.0])


P, NOISE = np.ones(2), np.ones((2, 3))
BAD_NCE: dict[str, tuple[Any, ...]] = {
    "no noise": (P, np.ones((2, 0)), 5, 0.0, 1.0, "N, m, n at least 1"),
    "an empty batch": (np.ones(0), np.ones((0, 3)), 5, 0.0, 1.0, "N, m, n at least 1"),
    "an empty bank": (P, NOISE, 0, 0.0, 1.0, "got .* n = 0"),
    "other rows": (P, np.ones((3, 3)), 5, 0.0, 1.0, r"got \(2,\), \(3, 3\)"),
    "a column": (np.ones((2, 1)), NOISE, 5, 0.0, 1.0, r"expected a tensor \(N\)"),
    "one row of noise": (P, np.ones(3), 5, 0.0, 1.0, r"expected a tensor \(N, m\)"),
    "a Z per row": (P, NOISE, 5, np.zeros(2), 1.0, "one number as log_z"),
    "NaN": (P * np.nan, NOISE, 5, 0.0, 1.0, "expected finite numbers"),
    "no temperature": (P, NOISE, 5, 0.0, -1.0, "temperature above 0"),
}


@pytest.mark.parametrize("case", BAD_NCE)
def test_bad_input_to_nce_is_named(case: str) -> None:
    *arguments, message = BAD_NCE[case]
    with pytest.raises(ValueError, match=f"nce: .*{message}"):
        nce(*arguments)
