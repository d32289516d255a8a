"""Losses over distances against their formulas as loops, their laws, and what happens where distances are 0."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from minissl import backend
from minissl.backend.base import Backend
from minissl.gradcheck import gradcheck
from minissl.losses.pairs import contrastive, lifted_structured, mine_triplets, triplet
from minissl.tensor import Tensor
from tests.losses import drawing
from tests.losses.drawing import seeds
from tests.oracles import pairs as oracle

HINGES = ["squared_distance", "distance"]
KINDS = ["all", "hard", "semi_hard"]
NAN = float("nan")
margins = st.sampled_from([0.1, 1.0, 10.0])
# All rows times one number: 1e8 and 1e-8 beside a margin near 1 are batches that are far too wide, and collapsed ones.
scales = st.sampled_from([1.0, 1.0, 1.0, 1e-8, 1e8])


@st.composite
def matrices(draw: Any, count: int) -> tuple[np.ndarray, ...]:
    """`count` matrices (N, D) with duplicate rows, zero rows, huge or tiny norms now and then."""
    scale = draw(scales)
    return tuple(z * scale for z in draw(drawing.embeddings(count, scaled=False)))


@st.composite
def pairs(draw: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """a and b (P, D), and which of the P pairs are of one class: some, none or all."""
    a, b = draw(matrices(2))
    share = draw(st.sampled_from([0.0, 0.5, 1.0]))
    return a, b, np.random.default_rng(draw(seeds)).random(len(a)) < share


@st.composite
def classes(draw: Any, some_pair: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """z (N, D) and labels (N,): some classes, one only, or every class once (not where `some_pair` is asked for)."""
    (z,) = draw(drawing.embeddings(1, least=2 if some_pair else 1, scaled=False))
    y = draw(drawing.labels(len(z)))
    if some_pair:
        y[1] = y[0]
    return z * draw(scales), y


def agree(loss: Callable[..., Tensor], arrays: Any, expected: float, largest: float) -> None:
    """Equal to the loops, in both types.

    Hinges subtract distances from a margin or from each other, so what is rounded is the terms and not the result:
    errors are measured against the largest term.
    """
    for dtype, tolerance in (("float64", 1e-9), ("float32", 1e-4)):
        found = loss(*(array.astype(dtype) for array in arrays))
        assert found.dtype == dtype and found.shape == ()
        assert found.item() == pytest.approx(expected, rel=tolerance, abs=tolerance * largest)


def widest(*arrays: np.ndarray) -> float:
    """No two rows are farther apart."""
    return 2 * max(float(np.linalg.norm(array, axis=1).max()) for array in arrays)


def gradients(loss: Callable[..., Tensor], *arrays: np.ndarray) -> list[np.ndarray]:
    tensors = [Tensor(array, requires_grad=True) for array in arrays]
    loss(*tensors).backward()
    assert all(tensor.grad.dtype == tensor.dtype for tensor in tensors)
    return [tensor.grad for tensor in tensors]


def rigid_motion(seed: int, D: int) -> Callable[[np.ndarray], np.ndarray]:
    """A rotation (or reflection) and a translation."""
    rng = np.random.default_rng(seed)
    rotation, shift = np.linalg.qr(rng.standard_normal((D, D)))[0], rng.standard_normal(D)
    return lambda z: z @ rotation + shift


def small(seed: int, count: int, N: int, D: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, N, D))


BATCH = small(0, 1, 64, 8)[0], np.arange(64) % 5


@pytest.mark.parametrize("hinge", HINGES)
@given(case=pairs(), margin=margins)
def test_contrastive_equals_the_loops(hinge: Any, case: Any, margin: float) -> None:
    a, b, same = case
    expected = oracle.contrastive(a.tolist(), b.tolist(), same.tolist(), margin, hinge)
    largest = max(margin, widest(a, b) ** 2 if same.any() else margin**2)
    agree(lambda a, b: contrastive(a, b, same, margin, hinge), (a, b), expected, largest)


@pytest.mark.parametrize("hinge", HINGES)
@given(seed=seeds, margin=st.sampled_from([0.5, 2.0]), D=st.integers(1, 5))
def test_contrastive_gradient_equals_central_differences(hinge: Any, seed: int, margin: float, D: int) -> None:
    a, b = small(seed, 2, 4, D)
    d2 = ((a - b) ** 2).sum(1)
    assume(abs(d2 - margin).min() > 1e-3 and d2.min() > 1e-3)
    same = np.array([True, False, False, False])
    gradcheck(lambda a, b: contrastive(a, b, same, margin, hinge), a, b)


@pytest.mark.parametrize("hinge", HINGES)
@given(case=pairs(), margin=margins, seed=seeds)
def test_contrastive_laws(hinge: Any, case: Any, margin: float, seed: int) -> None:
    """Motion of all rows, order of the pairs and swap of the views change nothing; the forces on a pair cancel."""
    a, b, same = case
    loss = lambda a, b, same=same: contrastive(a, b, same, margin, hinge).item()
    value, tolerance = loss(a, b), 1e-9 * (margin + margin**2 + (widest(a, b) + 1) ** 2)
    order, move = np.random.default_rng(seed).permutation(len(a)), rigid_motion(seed, a.shape[1])
    assert loss(move(a), move(b)) == pytest.approx(value, abs=tolerance)
    assert loss(a[order], b[order], same[order]) == pytest.approx(value, rel=1e-12)
    assert loss(b, a) == value
    on_a, on_b = gradients(lambda a, b: contrastive(a, b, same, margin, hinge), a, b)
    assert np.isfinite(on_a).all()
    np.testing.assert_array_equal(on_a, -on_b)


def push(d: float, hinge: Any, dtype: str = "float64") -> float:
    """How hard two rows of different classes at distance d push each other, at margin 1."""
    a, b = np.array([[0.0, d]], dtype), np.zeros((1, 2), dtype)
    return float(np.linalg.norm(gradients(lambda a, b: contrastive(a, b, [False], 1.0, hinge), a, b)[0]))


def test_the_two_hinges_at_distance_0_9() -> None:
    a, b = np.array([[0.9, 0.0]]), np.zeros((1, 2))
    assert contrastive(a, b, [False], 1.0).item() == pytest.approx(0.19)
    assert contrastive(a, b, [False], 1.0, hinge="distance").item() == pytest.approx(0.01)
    assert contrastive(a, b, [True], 1.0).item() == contrastive(a, b, [True], 1.0, "distance").item()


def test_the_first_hinge_is_weak_near_zero_and_jumps_at_the_margin_the_second_the_reverse() -> None:
    near, inside, outside = 1e-6, 1 - 1e-6, 1 + 1e-6
    assert [push(d, "squared_distance") for d in (near, inside, outside)] == pytest.approx([0, 2, 0], abs=1e-5)
    assert [push(d, "distance") for d in (near, inside, outside)] == pytest.approx([2, 0, 0], abs=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hinge", HINGES)
def test_coinciding_pairs_and_pairs_at_the_margin_have_finite_gradients(hinge: Any, dtype: str) -> None:
    assert push(0.0, hinge, dtype) == 0.0
    assert math.isfinite(push(1.0, hinge, dtype))


def test_flags_of_any_integer_type_are_the_same_flags() -> None:
    a, b = small(0, 2, 3, 2)
    values = {contrastive(a, b, same).item() for same in ([True, False, True], [1, 0, 1], np.array([1, 0, 1], "uint8"))}
    assert len(values) == 1


@given(matrices(3), margins)
def test_triplet_equals_the_loops(z: Any, margin: float) -> None:
    expected, N = oracle.triplet(*(rows.tolist() for rows in z), margin), len(z[0])
    largest = margin + widest(*z) ** 2
    agree(lambda a, p, n: triplet(a, p, n, margin), z, expected, N * largest)
    agree(lambda a, p, n: triplet(a, p, n, margin, reduction="mean"), z, expected / N, largest)


@given(seeds, st.sampled_from([0.5, 2.0]), st.integers(1, 5), st.sampled_from(["sum", "mean"]))
def test_triplet_gradient_equals_central_differences(seed: int, margin: float, D: int, reduction: Any) -> None:
    a, p, n = small(seed, 3, 4, D)
    assume(abs(((a - p) ** 2).sum(1) - ((a - n) ** 2).sum(1) + margin).min() > 1e-3)
    gradcheck(lambda a, p, n: triplet(a, p, n, margin, reduction), a, p, n)


@given(matrices(3), margins, seeds)
def test_triplet_laws(z: Any, margin: float, seed: int) -> None:
    """Motion of all rows and order of the triplets change nothing; the forces on a triplet cancel."""
    value, largest = triplet(*z, margin).item(), margin + (widest(*z) + 1) ** 2
    order, move = np.random.default_rng(seed).permutation(len(z[0])), rigid_motion(seed, z[0].shape[1])
    assert triplet(*map(move, z), margin).item() == pytest.approx(value, abs=1e-9 * len(order) * largest)
    assert triplet(*(rows[order] for rows in z), margin).item() == pytest.approx(value, rel=1e-12)
    forces = gradients(lambda a, p, n: triplet(a, p, n, margin), *z)
    np.testing.assert_allclose(sum(forces), 0, atol=1e-12 * widest(*z))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_triplet_at_its_kink_and_where_rows_coincide(dtype: str) -> None:
    """Coinciding rows are pushed nowhere and lose ε each; at the kink (d² of 0 and 1, ε = 1) the loss is 0."""
    zeros, one = np.zeros((2, 1), dtype), np.ones((2, 1), dtype)
    collapsed = triplet(zeros, zeros, zeros, 1.0)
    assert collapsed.item() == 2.0 and triplet(zeros, zeros, one, 1.0).item() == 0.0
    assert not any(force.any() for force in gradients(triplet, zeros, zeros, zeros))
    assert all(np.isfinite(force).all() for force in gradients(triplet, zeros, zeros, one))


def mined(z: Any, y: Any, margin: float, kind: Any) -> list[tuple[int, ...]]:
    return list(zip(*(rows.tolist() for rows in mine_triplets(z, y, margin, kind)), strict=True))


@pytest.mark.parametrize("kind", KINDS)
@given(case=classes(), margin=margins)
@example(case=BATCH, margin=1.0)
def test_mined_triplets_are_those_of_the_loops_in_their_order(kind: Any, case: Any, margin: float) -> None:
    z, y = case
    assert mined(z, y, margin, kind) == oracle.mine_triplets(z.tolist(), y.tolist(), margin, kind)


def test_kinds_of_triplets_on_a_line() -> None:
    """For row 0 and its positive at 1, ε = 3: d² of 1 (a tie) is hard, 2.25 semi-hard, 4 (at the margin) neither."""
    z, y = np.array([[0.0], [1.0], [-1.0], [1.5], [2.0]]), [0, 0, 1, 2, 3]
    assert mined(z, y, 3.0, "hard") == [(0, 1, 2), (1, 0, 3), (1, 0, 4)]
    assert mined(z, y, 3.0, "semi_hard") == [(0, 1, 3)]


@given(classes(some_pair=True), margins)
def test_hard_and_semi_hard_triplets_are_those_with_a_loss(case: Any, margin: float) -> None:
    z, y = case[0][:12], case[1][:12]
    z = z / np.abs(z).max()  # beside distances of 1e8 or 1e-8 the margin, or all else, is lost in rounding
    losses = {t: triplet(*(z[[row]] for row in t), margin).item() for t in mined(z, y, margin, "all")}
    hard, semi_hard = set(mined(z, y, margin, "hard")), set(mined(z, y, margin, "semi_hard"))
    assert not hard & semi_hard
    assert all(losses[t] >= margin for t in hard) and all(0 < losses[t] < margin for t in semi_hard)
    assert all(losses[t] == 0 for t in losses.keys() - hard - semi_hard)


@given(seeds, st.sampled_from(KINDS))
def test_mined_triplets_follow_the_rows(seed: int, kind: Any) -> None:
    """Motion changes none of them; rows in another order give the same triplets under their new numbers."""
    z, y = small(seed, 1, 8, 3)[0], np.random.default_rng(seed).integers(0, 3, 8)
    triplets, order = mined(z, y, 1.0, kind), np.random.default_rng(seed).permutation(8)
    assert mined(rigid_motion(seed, 3)(z), y, 1.0, kind) == triplets
    assert {tuple(order[list(t)]) for t in mined(z[order], y[order], 1.0, kind)} == set(triplets)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("y", [[0, 0, 0], [0, 1, 2]], ids=["one class", "every class once"])
def test_without_any_triplet_the_rows_are_empty_and_the_loss_says_so(kind: Any, y: list[int]) -> None:
    z = Tensor(small(0, 1, 3, 2)[0], requires_grad=True)
    a, p, n = mine_triplets(z, y, 1.0, kind)
    assert all(rows.shape == (0,) and rows.dtype.kind == "i" for rows in (a, p, n))
    with pytest.raises(ValueError, match="triplet: expected at least one triplet, got none; skip"):
        triplet(z[a], z[p], z[n])


def test_mined_rows_index_a_tensor() -> None:
    z, y = Tensor(small(0, 1, 6, 2)[0], requires_grad=True), [0, 0, 1, 1, 2, 2]
    a, p, n = mine_triplets(z, y, 0.2, kind="hard")
    loss = triplet(z[a], z[p], z[n], 0.2)
    loss.backward()
    assert loss.item() > 0 and z.grad is not None
    np.testing.assert_allclose(z.grad.sum(0), 0, atol=1e-12)


@given(classes(some_pair=True), margins)
@example(BATCH, 1.0)
def test_lifted_structured_equals_the_loops(case: Any, margin: float) -> None:
    z, y = case
    expected = oracle.lifted_structured(z.tolist(), y.tolist(), margin)
    largest = (margin + widest(z) + math.log(2 * len(z))) ** 2
    agree(lambda z: lifted_structured(z, y, margin), (z,), expected, largest)


@given(seeds, st.sampled_from([0.5, 2.0]), st.integers(1, 5))
def test_lifted_structured_gradient_equals_central_differences(seed: int, margin: float, D: int) -> None:
    (z,) = small(seed, 1, 6, D)
    assume(min(np.linalg.norm(z[i] - z[j]) for i in range(6) for j in range(i)) > 1e-2)
    gradcheck(lambda z: lifted_structured(z, [0, 0, 1, 1, 1, 2], margin), z)


@given(classes(some_pair=True), margins, seeds)
def test_lifted_structured_laws(case: Any, margin: float, seed: int) -> None:
    """Motion of all rows, their order and the names of classes change nothing; the forces on the batch cancel."""
    z, y = case
    order, move = np.random.default_rng(seed).permutation(len(z)), rigid_motion(seed, z.shape[1])
    value, largest = lifted_structured(z, y, margin).item(), margin + widest(z) + 1 + math.log(2 * len(z))
    assert lifted_structured(move(z), y, margin).item() == pytest.approx(value, abs=1e-9 * largest**2)
    assert lifted_structured(z[order], y[order], margin).item() == pytest.approx(value, abs=1e-9 * largest**2)
    assert lifted_structured(z, 7 - 3 * y, margin).item() == value
    (force,) = gradients(lambda z: lifted_structured(z, y, margin), z)
    assert np.isfinite(force).all()
    np.testing.assert_allclose(force.sum(0), 0, atol=1e-9 * largest)


def test_lifted_structured_of_three_rows_on_a_line() -> None:
    """Pair at 0 and 1, negative at 3: J = 1 + log(e^(1−3) + e^(1−2)), and the loss J²/2."""
    J = 1 + math.log(math.exp(-2) + math.exp(-1))
    assert lifted_structured(np.array([[0.0], [1.0], [3.0]]), [5, 5, 2]).item() == pytest.approx(J * J / 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("y", [[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]], ids=str)
def test_lifted_structured_where_rows_coincide(y: list[int], dtype: str) -> None:
    """J = log(number of negatives of both) + ε; a single class has none, and no loss."""
    z = np.ones((4, 3), dtype)
    J = 0.0 if y[-1] == 0 else math.log(4 if y[2] else 2) + 0.5
    assert lifted_structured(z, y, 0.5).item() == pytest.approx(J * J / 2)
    assert not gradients(lambda z: lifted_structured(z, y, 0.5), z)[0].any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e8, 1e15])
def test_lifted_structured_stays_finite_at_any_distance(scale: float, dtype: str) -> None:
    z = (small(0, 1, 8, 4)[0] * scale).astype(dtype)
    y = np.arange(8) // 2
    assert math.isfinite(lifted_structured(z, y).item())
    assert np.isfinite(gradients(lambda z: lifted_structured(z, y), z)[0]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_on_the_gpu(cupy: Backend, dtype: str) -> None:
    a, b, c = small(0, 3, 6, 4).astype(dtype)
    y = np.array([0, 0, 1, 1, 2, 2])

    def run() -> list[Any]:
        x = [Tensor(backend.to_device(array), requires_grad=True) for array in (a, b, c)]
        rows = mine_triplets(x[0], y, 5.0)
        losses = [*(contrastive(x[0], x[1], y == 0, 9.0, hinge) for hinge in HINGES), triplet(*x)]
        losses += [triplet(*(x[0][index] for index in rows)), lifted_structured(x[0], y)]
        for loss in losses:
            loss.backward()
        assert {backend.of(index) for index in rows} == {backend.current()}
        assert {loss.dtype for loss in losses} == {np.dtype(dtype)}
        return [*map(backend.to_host, rows), *(loss.item() for loss in losses), *(backend.to_host(t.grad) for t in x)]

    expected = run()
    with backend.use("cupy"):
        found = run()
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


CALLS: dict[str, Callable[..., Any]] = {
    "contrastive": lambda z, margin=1.0: contrastive(z, np.zeros_like(z), [False] * len(z), margin),
    "triplet": lambda z, margin=1.0: triplet(np.zeros_like(z), np.zeros_like(z), z, margin),
    "mine_triplets": lambda z, margin=1.0: mine_triplets(z, [0] * len(z), margin),
    "lifted_structured": lambda z, margin=1.0: lifted_structured(z, [0] * len(z), margin),
}


@pytest.mark.parametrize("margin", [0.0, -1.0, NAN, float("inf")])
@pytest.mark.parametrize("name", CALLS)
def test_a_margin_that_is_none_is_named(name: str, margin: float) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected a finite margin above 0, got {margin}; usual"):
        CALLS[name](np.ones((2, 3)), margin)


@pytest.mark.parametrize("bad", [NAN, float("inf")])
@pytest.mark.parametrize("name", CALLS)
def test_nan_is_never_hidden_by_the_hinge(name: str, bad: float) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected finite numbers, 1 of 4"):
        CALLS[name](np.array([[1.0, 2.0], [bad, 3.0]]))


@pytest.mark.parametrize("z", [np.ones((0, 3)), np.ones((2, 0)), np.ones(3), np.ones((2, 3, 4))], ids=np.shape)
@pytest.mark.parametrize("name", CALLS)
def test_bad_shapes_are_named(name: str, z: np.ndarray) -> None:
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        CALLS[name](z)


@pytest.mark.parametrize("name", CALLS)
def test_integer_embeddings_are_named(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name}: expected floating-point numbers"):
        CALLS[name](np.ones((2, 3), int))


ROWS, FEWER = np.ones((4, 2)), np.ones((3, 2))
BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "contrastive shapes": (lambda: contrastive(ROWS, FEWER, [True] * 4), r"contrastive: expected 2 \(N, D\) of one"),
    "contrastive length": (
        lambda: contrastive(ROWS, ROWS, [True] * 3),
        "contrastive: expected one label for each of 4",
    ),
    "contrastive classes": (lambda: contrastive(ROWS, ROWS, [0, 1, 2, 1]), "same to be booleans.*labels_a == labels_b"),
    "contrastive hinge": (lambda: contrastive(ROWS, ROWS, [True] * 4, hinge="d"), "hinge 'squared_distance' or 'dist"),
    "triplet shapes": (lambda: triplet(ROWS, ROWS, FEWER), r"triplet: expected 3 \(N, D\) of one shape"),
    "triplet reduction": (lambda: triplet(ROWS, ROWS, ROWS, reduction="max"), "reduction 'sum' or 'mean', got 'max'"),
    "mining length": (lambda: mine_triplets(ROWS, [0, 1], 1.0), "mine_triplets: expected one label for each of 4 rows"),
    "mining kind": (lambda: mine_triplets(ROWS, [0] * 4, 1.0, kind="easy"), "kind 'all', 'hard' or 'semi_hard', got"),
    "lifted length": (lambda: lifted_structured(ROWS, [0] * 5), "lifted_structured: expected one label for each of 4"),
    "lifted without pairs": (lambda: lifted_structured(ROWS, [0, 1, 2, 3]), "two rows of one class.*draw batches"),
    "lifted of one row": (lambda: lifted_structured(ROWS[:1], [0]), "expected at least two rows of one class, got 1"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_arguments_are_named(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_labels_that_are_no_integers_are_named() -> None:
    with pytest.raises(TypeError, match="lifted_structured: expected integer labels, got float32"):
        lifted_structured(ROWS, [0.0, 1.0, 0.0, 1.0])
