"""Losses that pick the positive out of candidates, against their formulas as loops."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minissl.gradcheck import gradcheck
from minissl.losses import softmax as losses
from minissl.tensor import Tensor
from tests.losses.drawing import embeddings, labels, seeds, temperatures
from tests.oracles import softmax as oracle


def check(loss: Any, arrays: Any, expected: float, temperature: float = 1.0) -> None:
    """The value in both types, and that each type stays. float32's errors are those of the logits, divided by τ."""
    for dtype, rel, absolute in (("float64", 1e-9, 1e-9), ("float32", 1e-4, 1e-4 / min(1, temperature))):
        found = loss(*(array.astype(dtype) for array in arrays))
        assert found.shape == () and found.dtype == dtype
        assert found.item() == pytest.approx(expected, rel=rel, abs=absolute)


@st.composite
def labelled(draw: Any, scaled: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Rows and labels, of which at least two are equal."""
    (z,) = draw(embeddings(1, least=2, scaled=scaled))
    y = draw(labels(len(z)))
    y[-1] = y[0]
    return z, y


@given(embeddings(2, scaled=False), st.sampled_from([1, 2, 7]), seeds)
def test_n_pair_equals_the_loops(z: Any, K: int, seed: int) -> None:
    a, p = z
    n = np.random.default_rng(seed).standard_normal((len(a), K, a.shape[1]))
    check(losses.n_pair, (a, p, n), oracle.n_pair(a.tolist(), p.tolist(), n.tolist()))


@given(embeddings(2, least=2, scaled=False), st.sampled_from([0.0, 0.02]))
def test_n_pair_mc_equals_the_loops(z: Any, l2: float) -> None:
    check(lambda a, p: losses.n_pair_mc(a, p, l2=l2), z, oracle.n_pair_mc(z[0].tolist(), z[1].tolist(), l2))


@given(embeddings(2, scaled=False), st.sampled_from([1, 3, 9]), st.booleans(), temperatures, seeds)
def test_info_nce_equals_the_loops(z: Any, K: int, shared: bool, temperature: float, seed: int) -> None:
    (q, p), rng = z, np.random.default_rng(seed)
    n = rng.standard_normal((K, q.shape[1]) if shared else (len(q), K, q.shape[1]))
    own = [n.tolist()] * len(q) if shared else n.tolist()
    expected = oracle.info_nce(q.tolist(), p.tolist(), own, temperature)
    check(lambda q, p, n: losses.info_nce(q, p, n, temperature), (q, p, n), expected, temperature)


@given(embeddings(2, least=2, scaled=False), temperatures)
def test_info_nce_in_batch_takes_the_other_rows_as_negatives(z: Any, temperature: float) -> None:
    q, p = z
    others = [[p[k].tolist() for k in range(len(p)) if k != i] for i in range(len(p))]
    expected = oracle.info_nce(q.tolist(), p.tolist(), others, temperature)
    check(lambda q, p: losses.info_nce(q, p, temperature=temperature), (q, p), expected, temperature)


@given(labelled(scaled=False), temperatures)
def test_soft_nearest_neighbor_equals_the_loops(case: Any, temperature: float) -> None:
    z, y = case
    expected = oracle.soft_nearest_neighbor(z.tolist(), y.tolist(), temperature)
    check(lambda z: losses.soft_nearest_neighbor(z, y, temperature), (z,), expected, temperature)


@given(labelled(), temperatures, st.sampled_from(["out", "in"]))
def test_sup_con_equals_the_loops(case: Any, temperature: float, form: str) -> None:
    z, y = case
    expected = oracle.sup_con(z.tolist(), y.tolist(), temperature, form)
    check(lambda z: losses.sup_con(z, y, temperature, form), (z,), expected, temperature)


Y = np.array([0, 1, 0, 2, 1, 0])
LOSSES: dict[str, Any] = {
    "n_pair": lambda z, w, n: losses.n_pair(z, w, n),
    "n_pair_mc": lambda z, w, n: losses.n_pair_mc(z, w, l2=0.1),
    "info_nce own": lambda z, w, n: losses.info_nce(z, w, n, 0.5),
    "info_nce shared": lambda z, w, n: losses.info_nce(z, w, n[0], 0.5),
    "info_nce in batch": lambda z, w, n: losses.info_nce(z, w, temperature=0.5),
    "soft_nearest_neighbor": lambda z, w, n: losses.soft_nearest_neighbor(z, Y, 0.7),
    "sup_con": lambda z, w, n: losses.sup_con(z, Y, 0.5),
    "sup_con in": lambda z, w, n: losses.sup_con(z, Y, 0.5, "in"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_equals_central_differences(name: str) -> None:
    rng = np.random.default_rng(0)
    gradcheck(LOSSES[name], rng.normal(size=(6, 3)), rng.normal(size=(6, 3)), rng.normal(size=(6, 2, 3)))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_finite_where_all_rows_coincide(name: str) -> None:
    z, w, n = (Tensor(np.ones(shape, "float32"), requires_grad=True) for shape in ((6, 3), (6, 3), (6, 2, 3)))
    loss = LOSSES[name](z, w, n)
    loss.backward()
    assert math.isfinite(loss.item()) and np.isfinite(z.grad).all()


@pytest.mark.parametrize("loss", [losses.info_nce, losses.sup_con, losses.soft_nearest_neighbor])
def test_small_temperatures_stay_finite(loss: Any) -> None:
    z = np.random.default_rng(0).standard_normal((6, 16)).astype("float32")
    z = Tensor(z / np.linalg.norm(z, axis=1, keepdims=True), requires_grad=True)
    second = -z.data if loss is losses.info_nce else Y  # each positive the farthest candidate
    value = loss(z, second, temperature=0.01)
    value.backward()
    assert math.isfinite(value.item()) and np.isfinite(z.grad).all()


def test_info_nce_stops_no_gradient_by_itself() -> None:
    rng = np.random.default_rng(0)
    q, p, n = (Tensor(rng.normal(size=shape), requires_grad=True) for shape in ((4, 3), (4, 3), (5, 3)))
    losses.info_nce(q, p, n).backward()
    assert all(t.grad is not None and t.grad.any() for t in (q, p, n))


@given(labelled(), temperatures)
def test_anchors_without_a_positive_are_left_out_but_remain_candidates(case: Any, temperature: float) -> None:
    z, y = case
    lonely = np.append(y, y.max() + 1)
    z = np.concatenate([z, z[:1]])
    with_it, without = (losses.sup_con(z[:n], lonely[:n], temperature).item() for n in (len(z), len(z) - 1))
    assert math.isfinite(with_it) and with_it >= without - 1e-9


def test_the_in_form_is_never_larger() -> None:
    z = np.random.default_rng(0).normal(size=(12, 4))
    y = np.arange(12) % 3
    assert losses.sup_con(z, y, form="in").item() < losses.sup_con(z, y, form="out").item()


def test_they_run_on_cupy(cupy: Any) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype("float32") for shape in ((6, 3), (6, 3), (6, 2, 3))]
    for name, loss in LOSSES.items():
        there = [Tensor(cupy.to_device(array), requires_grad=True) for array in arrays]
        here = [Tensor(array, requires_grad=True) for array in arrays]
        for tensors in (there, here):
            value = loss(*tensors)
            value.backward()
        np.testing.assert_allclose(cupy.to_host(there[0].grad), here[0].grad, rtol=1e-3, atol=1e-5, err_msg=name)


Z, NAN = np.ones((3, 2)), np.full((3, 2), np.nan)
BAD: dict[str, tuple[Any, str]] = {
    "other shapes": (lambda: losses.n_pair_mc(Z, np.ones((4, 2))), "n_pair_mc: .*of one shape"),
    "one pair": (lambda: losses.n_pair_mc(Z[:1], Z[:1]), "n_pair_mc: .*N at least 2"),
    "shared for n_pair": (lambda: losses.n_pair(Z, Z, Z), r"n_pair: expected negatives \(3, K, 2\) with"),
    "no negatives": (lambda: losses.n_pair(Z, Z, np.ones((3, 0, 2))), "n_pair: .*K at least 1"),
    "negatives of other queries": (lambda: losses.info_nce(Z, Z, np.ones((4, 5, 2))), r"info_nce: .* or \(K, 2\)"),
    "negatives of another D": (lambda: losses.info_nce(Z, Z, np.ones((5, 3))), r"info_nce: .*got shape \(5, 3\)"),
    "NaN negatives": (lambda: losses.info_nce(Z, Z, NAN), "info_nce: expected finite numbers.*input 3"),
    "an empty batch": (lambda: losses.info_nce(Z[:0], Z[:0], Z), "info_nce: .*N at least 1"),
    "one query in batch": (lambda: losses.info_nce(Z[:1], Z[:1]), "info_nce: .*N at least 2"),
    "τ = 0": (lambda: losses.info_nce(Z, Z, temperature=0), "info_nce: .*temperature above 0"),
    "τ < 0": (lambda: losses.sup_con(Z, [0, 0, 1], -1), "sup_con: .*temperature above 0"),
    "τ = 0 for distances": (lambda: losses.soft_nearest_neighbor(Z, [0, 0, 1], 0), "soft_nearest_neighbor: .*above 0"),
    "too few labels": (lambda: losses.sup_con(Z, [0, 0]), "sup_con: expected one label for each of 3 rows"),
    "no positive": (lambda: losses.sup_con(Z, [0, 1, 2]), "sup_con: expected two rows or more with one label"),
    "no partner": (lambda: losses.soft_nearest_neighbor(Z, [0, 1, 2]), "soft_nearest_neighbor: expected two rows"),
    "one row": (lambda: losses.sup_con(Z[:1], [0]), "sup_con: .*N at least 2"),
    "NaN": (lambda: losses.sup_con(NAN, [0, 0, 1]), "sup_con: expected finite numbers"),
    "an unknown form": (lambda: losses.sup_con(Z, [0, 0, 1], form="both"), "form 'out' or 'in', got 'both'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case: str) -> None:
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()
