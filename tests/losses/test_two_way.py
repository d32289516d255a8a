"""Losses of two towers, sensors or views, against their formulas as loops."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minissl.gradcheck import gradcheck
from minissl.losses import two_way as losses
from minissl.tensor import Tensor
from tests.losses.drawing import embeddings, temperatures
from tests.oracles import softmax as oracle


def check(loss: Any, arrays: Any, expected: float, temperature: float) -> None:
    """The value in both types, and that each type stays. float32's errors are those of the logits, divided by τ."""
    for dtype, rel, absolute in (("float64", 1e-9, 1e-9), ("float32", 1e-4, 1e-4 / min(1, temperature))):
        found = loss(*(array.astype(dtype) for array in arrays))
        assert found.shape == () and found.dtype == dtype
        assert found.item() == pytest.approx(expected, rel=rel, abs=absolute)


@given(embeddings(2, least=2), temperatures)
def test_clip_equals_the_loops(z: Any, temperature: float) -> None:
    expected = oracle.clip(z[0].tolist(), z[1].tolist(), 1 / temperature)
    check(lambda a, b: losses.clip(a, b, 1 / temperature), z, expected, temperature)


@given(embeddings(3, least=2), temperatures, st.sampled_from(["full", "core"]))
def test_cmc_equals_the_loops(z: Any, temperature: float, graph: str) -> None:
    expected = oracle.cmc([view.tolist() for view in z], temperature, graph)
    check(lambda *views: losses.cmc(views, temperature, graph), z, expected, temperature)


@given(embeddings(2, least=2), temperatures, st.booleans())
def test_cross_sensor_equals_the_loops(z: Any, temperature: float, same_sensor: bool) -> None:
    expected = oracle.cross_sensor(z[0].tolist(), z[1].tolist(), temperature, same_sensor)
    check(lambda a, b: losses.cross_sensor(a, b, temperature, same_sensor), z, expected, temperature)


LOSSES: dict[str, Any] = {
    "clip": lambda a, b: losses.clip(a, b, 3.0),
    "cmc": lambda a, b: losses.cmc([a, b, a * 2 + b], 0.5),
    "cross_sensor": lambda a, b: losses.cross_sensor(a, b),
    "cross_sensor, other sensor only": lambda a, b: losses.cross_sensor(a, b, same_sensor_negatives=False),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_equals_central_differences(name: str) -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 4, 3))
    gradcheck(LOSSES[name], a, b)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_finite_where_all_rows_coincide_or_are_zero(name: str) -> None:
    for value in (1, 0):
        a, b = (Tensor(np.full((4, 3), value, "float32"), requires_grad=True) for _ in range(2))
        LOSSES[name](a, b).backward()
        assert np.isfinite(a.grad).all() and np.isfinite(b.grad).all()


def test_the_learned_scale_receives_its_gradient() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 4, 3))
    gradcheck(lambda a, b, t: losses.clip(a, b, losses.capped_scale(t)), a, b, np.array(1.0))
    gradcheck(lambda t: losses.clip(a, b, losses.capped_scale(t)), np.array([1.0]))


@pytest.mark.parametrize(("t", "scale", "slope"), [(math.log(1 / 0.07), 1 / 0.07, 1 / 0.07), (1e4, 100.0, 0.0)])
def test_the_scale_is_capped_at_100(t: float, scale: float, slope: float) -> None:
    parameter = Tensor(np.array(t, "float32"), requires_grad=True)
    found = losses.capped_scale(parameter)
    found.backward()
    assert found.dtype == "float32" and found.item() == pytest.approx(scale, rel=1e-5)
    assert float(parameter.grad) == pytest.approx(slope, rel=1e-5)


def test_small_temperatures_stay_finite() -> None:
    a = Tensor(np.random.default_rng(0).standard_normal((16, 8)).astype("float32"), requires_grad=True)
    loss = losses.cmc([a, -a.data], 0.01)
    loss.backward()
    assert math.isfinite(loss.item()) and np.isfinite(a.grad).all()


def test_they_run_on_cupy(cupy: Any) -> None:
    arrays = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")
    for name, loss in LOSSES.items():
        there = [Tensor(cupy.to_device(array), requires_grad=True) for array in arrays]
        here = [Tensor(array, requires_grad=True) for array in arrays]
        for tensors in (there, here):
            loss(*tensors).backward()
        np.testing.assert_allclose(cupy.to_host(there[0].grad), here[0].grad, rtol=1e-3, atol=1e-5, err_msg=name)


Z = np.ones((3, 2))
BAD: dict[str, tuple[Any, str]] = {
    "other shapes": (lambda: losses.clip(Z, np.ones((4, 2)), 1.0), "clip: .*of one shape"),
    "one pair": (lambda: losses.clip(Z[:1], Z[:1], 1.0), "clip: .*N at least 2"),
    "a scale of 0": (lambda: losses.clip(Z, Z, 0), "clip: expected a finite logit_scale above 0, got 0"),
    "a negative scale": (lambda: losses.clip(Z, Z, Tensor(-2.0)), "clip: .*logit_scale above 0, got -2.0"),
    "an infinite scale": (lambda: losses.clip(Z, Z, math.inf), "clip: .*logit_scale above 0, got inf"),
    "several scales": (lambda: losses.clip(Z, Z, Tensor(np.ones(3))), r"one element, got shape \(3,\)"),
    "NaN": (lambda: losses.clip(Z, Z * np.nan, 1.0), "clip: expected finite numbers"),
    "one view": (lambda: losses.cmc([Z]), "cmc: expected at least two views, got 1"),
    "views of other shapes": (lambda: losses.cmc([Z, Z, np.ones((3, 4))]), "cmc: .*3 .N, D. of one shape"),
    "an unknown graph": (lambda: losses.cmc([Z, Z], graph="ring"), "cmc: .*'full' or 'core', got 'ring'"),
    "τ = 0": (lambda: losses.cmc([Z, Z], 0), "cmc: .*temperature above 0"),
    "τ < 0": (lambda: losses.cross_sensor(Z, Z, -1), "cross_sensor: .*temperature above 0"),
    "one place": (lambda: losses.cross_sensor(Z[:1], Z[:1]), "cross_sensor: .*N at least 2"),
    "no place": (lambda: losses.cross_sensor(Z[:0], Z[:0]), "cross_sensor: .*N at least 2"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case: str) -> None:
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()
