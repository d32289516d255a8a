"""NT-Xent against its formula as loops, and its laws."""

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minissl import losses
from minissl.gradcheck import gradcheck
from minissl.tensor import Tensor
from tests.oracles.softmax import nt_xent as oracle

temperatures = st.sampled_from([0.01, 0.05, 0.2, 0.5, 1.0, 10.0])


@st.composite
def views(draw: Any) -> tuple[np.ndarray, np.ndarray]:
    """Two (N, D), now and then with duplicate rows, a zero row, or norms from tiny to huge."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    N, D = draw(st.integers(2, 12)), draw(st.sampled_from([1, 2, 5, 64]))
    z1, z2 = rng.standard_normal((2, N, D))
    kind = draw(st.sampled_from(["plain", "plain", "duplicates", "zero row", "scaled"]))
    if kind == "duplicates":
        z1[1], z2[0] = z1[0], z1[0]
    elif kind == "zero row":
        z1[0] = 0
    elif kind == "scaled":
        z1 *= 10.0 ** rng.uniform(-8, 8, (N, 1))
    return z1, z2


def value(z1: Any, z2: Any, temperature: float = 0.5) -> float:
    return losses.nt_xent(z1, z2, temperature).item()


@given(views(), temperatures)
def test_equals_the_loops(z: Any, temperature: float) -> None:
    expected = oracle(z[0].tolist(), z[1].tolist(), temperature)
    assert value(*z, temperature) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    single = value(z[0].astype("float32"), z[1].astype("float32"), temperature)
    assert single == pytest.approx(expected, rel=1e-4, abs=1e-4 / min(1.0, temperature))


@given(st.integers(2, 40), temperatures)
def test_collapse_gives_log_of_the_candidates(N: int, temperature: float) -> None:
    """All similarities are equal, so the positive's share is 1/(2N − 1)."""
    z = np.broadcast_to(np.array([0.3, -2.0, 1.0]), (N, 3))
    assert value(z, z, temperature) == pytest.approx(math.log(2 * N - 1), rel=1e-12)


@given(views(), temperatures, st.integers(0, 999))
def test_the_order_of_images_and_of_views_does_not_matter(z: Any, temperature: float, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(z[0]))
    assert value(z[0][order], z[1][order], temperature) == pytest.approx(value(*z, temperature), rel=1e-9, abs=1e-9)
    assert value(z[1], z[0], temperature) == pytest.approx(value(*z, temperature), rel=1e-9, abs=1e-9)


@given(views(), temperatures, st.integers(0, 999))
def test_the_length_of_a_row_does_not_matter(z: Any, temperature: float, seed: int) -> None:
    scale = 10.0 ** np.random.default_rng(seed).uniform(-2, 2, (len(z[0]), 1))
    assert value(z[0] * scale, z[1], temperature) == pytest.approx(value(*z, temperature), rel=1e-9, abs=1e-9)


@given(views(), temperatures)
def test_the_gradient_is_orthogonal_to_each_row(z: Any, temperature: float) -> None:
    """Moving a row along itself changes its length only, on which the loss does not depend."""
    z1, z2 = Tensor(z[0] / (1e-300 + abs(z[0]).max(1, keepdims=True)), requires_grad=True), Tensor(z[1])
    losses.nt_xent(z1, z2, temperature).backward()
    gradient = z1.grad[abs(z1.data).max(1) > 0]
    rows = z1.data[abs(z1.data).max(1) > 0]
    along = (gradient * rows).sum(1) / np.maximum(np.linalg.norm(gradient, axis=1) * np.linalg.norm(rows, axis=1), 1e-9)
    np.testing.assert_allclose(along, 0, atol=1e-6)


@given(views(), st.sampled_from([0.2, 1.0]))
def test_the_gradient_equals_central_differences(z: Any, temperature: float) -> None:
    usual = [np.where(abs(a).max(1, keepdims=True) > 0, a, 1.0)[:4, :5] for a in z]
    rows = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in usual]
    gradcheck(lambda a, b: losses.nt_xent(a, b, temperature), *rows, tolerance=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_small_temperatures_stay_finite(dtype: str) -> None:
    rng = np.random.default_rng(0)
    z1 = Tensor(rng.standard_normal((64, 16)).astype(dtype), requires_grad=True)
    loss = losses.nt_xent(z1, -z1.data, 0.01)  # each positive is the farthest candidate
    loss.backward()
    assert math.isfinite(loss.item()) and np.isfinite(z1.grad).all()


@given(views(), temperatures, st.integers(1, 30))
def test_chunks_change_neither_value_nor_gradient(z: Any, temperature: float, chunk: int) -> None:
    """The norms are left as they are, from 1e-8 to 1e8: gradients are compared after scaling by them."""
    whole, pieces = ([Tensor(rows, requires_grad=True) for rows in z] for _ in range(2))
    expected, found = losses.nt_xent(*whole, temperature), losses.nt_xent(*pieces, temperature, chunk=chunk)
    expected.backward()
    found.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-12, abs=1e-12)
    for a, b in zip(whole, pieces, strict=True):
        length = np.maximum(np.linalg.norm(a.data, axis=1, keepdims=True), 1e-12)
        np.testing.assert_allclose(b.grad * length, a.grad * length, rtol=1e-6, atol=1e-9)


def test_in_chunks_the_similarities_are_never_held_whole() -> None:
    z = Tensor(np.random.default_rng(0).standard_normal((512, 8)).astype("float32"), requires_grad=True)

    def peak(chunk: int | None) -> int:
        tracemalloc.start()
        losses.nt_xent(z, z.data[::-1].copy(), chunk=chunk).backward()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    matrix = 4 * (2 * 512) ** 2  # bytes
    assert peak(None) > matrix > peak(64)


def test_the_self_is_no_candidate_and_the_positive_is() -> None:
    """Two images with orthogonal views: a row has candidates (1, 0, 0), so the loss is −log e/(e + 2) at τ = 1."""
    z = np.eye(2)
    assert value(z, z, 1.0) == pytest.approx(-math.log(math.e / (math.e + 2)))


@pytest.mark.parametrize(
    ("z1", "z2", "temperature", "message"),
    [
        (np.ones((3, 2)), np.ones((4, 2)), 0.5, "2 .N, D. of one shape"),
        (np.ones((1, 2)), np.ones((1, 2)), 0.5, "N at least 2"),
        (np.ones((0, 2)), np.ones((0, 2)), 0.5, "N at least 2"),
        (np.ones(3), np.ones(3), 0.5, "expected a tensor .N, D."),
        (np.ones((3, 2)), np.ones((3, 2)), 0.0, "temperature above 0"),
        (np.ones((3, 2)), np.ones((3, 2)), float("nan"), "temperature above 0"),
    ],
)
def test_bad_input_is_named(z1: Any, z2: Any, temperature: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        losses.nt_xent(z1, z2, temperature)


def test_a_chunk_of_no_row_is_named() -> None:
    with pytest.raises(ValueError, match="nt_xent: expected a chunk of at least one row, got 0"):
        losses.nt_xent(np.ones((2, 2)), np.ones((2, 2)), chunk=0)
