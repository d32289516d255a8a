"""Tensor, record and backward: who receives which gradient, what is freed when, and which mistakes are named."""

import gc
import sys
import tracemalloc
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from minissl import nn, ops, optim
from minissl.tensor import Tensor, as_tensor, no_grad, record, stop_gradient


def leaf(data: Any = (1.0, 2.0, 3.0)) -> Tensor:
    return Tensor(np.array(data), requires_grad=True)


def test_a_chain_of_100_000_ops_goes_back() -> None:
    x = leaf()
    y = x
    for _ in range(100_000):
        y = -y
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, 1)


def test_a_chain_dropped_without_backward_is_freed() -> None:
    x = leaf()
    before = sys.getrefcount(x)
    y = x
    for _ in range(100_000):
        y = -y
    assert sys.getrefcount(x) > before
    del y
    assert sys.getrefcount(x) == before


def test_a_diamond_with_branches_of_different_depth() -> None:
    x = leaf()
    a = x * x
    y = a.exp().log() * a + a  # x² · x² + x²
    y.sum().backward()
    np.testing.assert_allclose(x.grad, 4 * x.data**3 + 2 * x.data, rtol=1e-12)


def test_a_node_waits_for_all_its_gradients_and_is_asked_once() -> None:
    asked: list[Any] = []

    def vjp(g: Any) -> Any:
        asked.append(g)
        return g

    x = leaf()
    a = record(x.data.copy(), (x, vjp))
    (a.reshape(3, 1).reshape(3).exp().log() * -a + a).sum().backward()
    assert len(asked) == 1
    np.testing.assert_allclose(asked[0], 1 - 2 * x.data, rtol=1e-12)


def test_ten_thousand_diamonds_have_2_to_the_10000_paths() -> None:
    x = leaf()
    y = x
    for _ in range(10_000):
        y = 0.5 * y + 0.5 * y
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, 1)


STEPS = st.lists(st.tuples(st.sampled_from("+*nr"), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=12)


@given(steps=STEPS, shape=st.sampled_from([(), (1,), (3,)]))
def test_any_graph_gives_the_derivative_of_dual_numbers(steps: list[Any], shape: tuple[int, ...]) -> None:
    """Every value is carried beside its derivative, (v, v′); sums, products and views of earlier ones follow."""
    x = Tensor(np.full(shape, 0.75), requires_grad=True)
    known = [(x, np.full(shape, 0.75), np.ones(shape))]
    for kind, i, j in steps:
        (a, v, dv), (b, w, dw) = known[i % len(known)], known[j % len(known)]
        scale = 0.5 if kind in "+*" else 1.0  # keeps numbers near 1
        if kind == "+":
            known.append((scale * (a + b), scale * (v + w), scale * (dv + dw)))
        elif kind == "*":
            known.append((scale * (a * b), scale * (v * w), scale * (v * dw + w * dv)))
        elif kind == "n":
            known.append((-a, -v, -dv))
        else:
            known.append((a.reshape(-1).reshape(shape), v, dv))
    total, derivative = known[-1][0], known[-1][2]
    for other, _, d in known[1:-1]:
        total, derivative = total + other, derivative + d
    total.sum().backward()
    assert isinstance(x.grad, np.ndarray) and x.grad.shape == shape
    np.testing.assert_allclose(x.grad, derivative, rtol=1e-9, atol=1e-12)


def test_a_second_backward_names_keep_graph() -> None:
    y = leaf().exp().sum()
    y.backward()
    with pytest.raises(RuntimeError, match="keep_graph=True"):
        y.backward()


def test_backward_through_a_part_that_was_freed_names_keep_graph() -> None:
    shared = leaf().exp()
    shared.sum().backward()
    with pytest.raises(RuntimeError, match="keep_graph=True"):
        (shared * 2).sum().backward()


def test_keep_graph_twice_doubles_the_gradient() -> None:
    x = leaf()
    y = (x * x + x).sum()
    y.backward(keep_graph=True)
    first = x.grad.copy()
    y.backward(keep_graph=True)
    np.testing.assert_array_equal(x.grad, 2 * first)
    y.backward()
    np.testing.assert_array_equal(x.grad, 3 * first)
    with pytest.raises(RuntimeError, match="keep_graph"):
        y.backward()


@pytest.mark.parametrize("value", [3.0, [3.0, 4.0]])
def test_gradients_of_two_graphs_add_up(value: Any) -> None:
    x = leaf(value)
    (2 * x).sum().backward()
    first = x.grad
    (5 * x).sum().backward()
    assert isinstance(x.grad, np.ndarray)
    np.testing.assert_array_equal(x.grad, np.full(np.shape(value), 7.0))
    np.testing.assert_array_equal(first, np.full(np.shape(value), 2.0))  # whoever kept it still has it


def test_a_gradient_passed_through_is_shared_with_nobody() -> None:
    a, b, g = leaf(), leaf(), np.ones(3)
    (a + b).backward(g)
    a.grad[...] = 7
    np.testing.assert_array_equal(b.grad, 1)
    np.testing.assert_array_equal(g, 1)


def test_the_gradient_given_to_a_leaf_is_copied() -> None:
    x, g = leaf(), np.ones(3)
    x.backward(g)
    x.grad[...] = 7
    np.testing.assert_array_equal(g, 1)


def test_a_residual_branch_does_not_write_into_the_gradient_it_shares() -> None:
    a, b = leaf(), leaf()
    h = a * 1
    s = h + b  # h and b share one gradient array; h receives a second term
    (s + 10 * h).sum().backward()
    np.testing.assert_array_equal(b.grad, 1)
    np.testing.assert_array_equal(a.grad, 11)


@pytest.mark.parametrize("key", [0, slice(1), [0, 0]], ids=str)
def test_a_slice_does_not_add_into_a_gradient_that_others_hold(key: Any) -> None:
    a, b, g = leaf(), leaf(), np.ones(3)
    h = a * 1
    picked = h[key].sum()  # before h + b, so that it goes back after it
    (h + b + picked).backward(g)
    np.testing.assert_array_equal(g, 1)
    np.testing.assert_array_equal(b.grad, 1)
    np.testing.assert_array_equal(a.grad, [7 if key == [0, 0] else 4, 1, 1])


def test_the_gradient_given_to_backward_is_not_written_to() -> None:
    x, g = leaf(), np.ones(3)
    h = x.reshape(3)
    (h + h + h * 2).backward(g)
    np.testing.assert_array_equal(g, 1)
    np.testing.assert_array_equal(x.grad, 4)


def never(g: Any) -> Any:
    raise AssertionError("this vjp must not be called")


def test_the_vjp_of_a_constant_is_never_called() -> None:
    x, constant = leaf(), Tensor(np.ones(3))
    y = record(x.data * 2, (constant, never), (x, lambda g: 2 * g))
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, 2)
    assert constant.grad is None
    assert not record(x.data, (constant, never)).requires_grad


def test_in_a_group_a_constant_gets_nothing() -> None:
    x, constant = leaf(), Tensor(np.ones(3))
    record(x.data * 2, ((x, constant), lambda g: (2 * g, 3 * g))).sum().backward()
    np.testing.assert_array_equal(x.grad, 2)
    assert constant.grad is None


def test_no_grad_records_nothing_and_ends_with_its_block() -> None:
    x = leaf()
    with no_grad():
        with no_grad():
            pass
        assert not (x * 2).requires_grad
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert (x * 2).requires_grad


def test_stop_gradient_gives_exactly_none() -> None:
    x, y = leaf(), leaf()
    (stop_gradient(x.exp()) * y).sum().backward()
    assert x.grad is None
    np.testing.assert_array_equal(y.grad, np.exp(x.data))
    (stop_gradient(x) * x).sum().backward()
    np.testing.assert_array_equal(x.grad, x.data)  # not 2x


@given(shapes=mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3), seed=st.integers(0, 999))
def test_a_broadcast_gradient_is_summed_back_to_its_parents_shape(shapes: Any, seed: int) -> None:
    parents = [Tensor(np.zeros(shape), requires_grad=True) for shape in shapes.input_shapes]
    g = np.random.default_rng(seed).normal(size=shapes.result_shape)
    value = parents[0].data + parents[1].data
    record(np.asarray(value), *((parent, lambda g: g) for parent in parents)).backward(g)
    for parent in parents:
        owner = np.broadcast_to(np.arange(parent.size).reshape(parent.shape), g.shape)
        expected = np.bincount(owner.ravel(), g.ravel(), minlength=parent.size).reshape(parent.shape)
        np.testing.assert_allclose(parent.grad, expected, rtol=1e-12, atol=1e-12)


def test_a_gradient_takes_its_parents_type() -> None:
    x = Tensor(np.ones(3, "float32"), requires_grad=True)
    (x * leaf()).sum().backward()
    assert x.grad.dtype == "float32"


@pytest.mark.parametrize("values", [np.arange(3), [1, 2], True, np.ones(2, bool)])
def test_numbers_that_are_not_floating_carry_no_gradient(values: Any) -> None:
    with pytest.raises(TypeError, match=r"only floating-point tensors carry a gradient, got .*astype"):
        Tensor(values, requires_grad=True)
    assert not (Tensor(values) * Tensor(values)).requires_grad


@pytest.mark.parametrize("data", ["text", None, object(), [None], Tensor([1.0])])
def test_what_is_no_array_is_no_tensor(data: Any) -> None:
    with pytest.raises(TypeError, match="expected"):
        Tensor(data)


def test_no_assignment_no_truth_no_silent_array_no_length_of_a_number() -> None:
    x = leaf()
    with pytest.raises(TypeError, match="where, concatenate or scatter_add"):
        x[0] = 1
    with pytest.raises(TypeError, match=r"no truth value; use \.item\(\)"):
        bool(x)
    with pytest.raises(TypeError, match=r"use \.numpy\(\)"):
        np.asarray(x)
    with pytest.raises(TypeError, match="0-d tensor has no length"):
        len(leaf(1.0))
    with pytest.raises(TypeError, match="0-d"):
        iter(leaf(1.0))
    with pytest.raises(ValueError, match=r"one element, got shape \(3,\)"):
        x.item()


def test_backward_asks_for_a_scalar_or_a_gradient() -> None:
    with pytest.raises(ValueError, match=r"expected a scalar, got shape \(3,\).*gradient="):
        (leaf() * 2).backward()


def test_backward_of_a_constant_is_an_error() -> None:
    for constant in (Tensor([1.0]), Tensor([1.0]) * 2, stop_gradient(leaf())):
        with pytest.raises(ValueError, match="requires_grad=True"):
            constant.backward()


@pytest.mark.parametrize("gradient", [np.ones(4), np.ones((3, 1)), np.ones(3, "float32"), 1.0, [1.0, 1.0, 1.0]])
def test_a_gradient_of_another_shape_or_type_is_refused(gradient: Any) -> None:
    with pytest.raises(ValueError, match=r"backward: expected a gradient of shape \(3,\) and type float64"):
        (leaf() * 2).backward(gradient)


def careless(x: Tensor, wrong: Any) -> Tensor:
    return record(x.data * 1, (x, lambda g: wrong))


@pytest.mark.parametrize("wrong", [np.ones(4), np.ones(2), np.ones((2, 2)), np.ones(())])
def test_a_vjp_that_returns_another_shape_is_named(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"careless: expected a gradient of shape \(3,\)"):
        careless(leaf(), wrong).sum().backward()


def test_arrays_are_kept_and_lists_become_float32() -> None:
    array = np.ones((2, 3))
    assert Tensor(array).data is array
    assert Tensor([[1.0, 2], [3, 4]]).dtype == "float32" and Tensor(0.5).dtype == "float32"
    assert Tensor([1, 2]).dtype.kind == "i"
    x = Tensor(array)
    assert (x.shape, x.ndim, x.size, len(x)) == ((2, 3), 2, 6, 2) and as_tensor(x) is x
    assert [row.shape for row in x] == [(3,), (3,)]


def test_numpy_is_a_copy() -> None:
    x = leaf()
    x.numpy()[...] = 0
    np.testing.assert_array_equal(x.data, [1, 2, 3])


def test_item_is_a_python_number() -> None:
    assert type(leaf([[2.5]]).item()) is float and leaf([[2.5]]).item() == 2.5


def test_repr_shows_values_and_whether_a_gradient_is_wanted() -> None:
    assert repr(Tensor(np.array([1.0, 2.0]))) == "Tensor([1., 2.])"
    assert repr(leaf([1.0, 2.0])) == "Tensor([1., 2.], requires_grad=True)"


def test_an_array_that_no_vjp_needs_is_freed_in_the_forward_pass() -> None:
    x = leaf()
    y = x + 1
    gone = weakref.ref(y.data)
    z = y + 1
    del y
    assert gone() is None
    z.sum().backward()


def test_backward_frees_every_array_as_soon_as_it_has_been_used() -> None:
    alive: list[bool] = []

    def look(g: Any) -> Any:
        alive.extend(ref() is not None for ref in kept)
        return g

    x = leaf([0.1, -0.5])
    y = record(x.data.copy(), (x, look))  # looks when all the rest has been walked
    kept = []
    for _ in range(3):
        y = y.exp()
        kept.append(weakref.ref(y.data))
    loss = y.sum()
    del y
    assert all(ref() is not None for ref in kept)  # exp keeps its result
    loss.backward()
    assert alive == [False, False, False]


def small_training() -> Any:
    rng = np.random.default_rng(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm(8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = optim.SGD(net.parameters(), 0.01)
    x = rng.normal(size=(16, 5)).astype("float32")

    def step() -> None:
        optimizer.zero_grad()
        loss = (ops.log_softmax(net(Tensor(x))) ** 2).mean()
        loss.backward()
        optimizer.step()

    return step


def test_a_step_leaves_nothing_to_the_garbage_collector() -> None:
    step = small_training()
    step()
    gc.collect()
    gc.disable()
    try:
        step()
        assert gc.collect() == 0
    finally:
        gc.enable()


def array_bytes() -> int:
    """Memory in NumPy arrays. Python's own is left out: its free lists grow for a while, and are no leak."""
    arrays = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)])
    return sum(trace.size for trace in arrays.traces)


def test_memory_stays_flat_over_1000_steps_without_a_garbage_collector() -> None:
    step = small_training()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(50):
            step()
        arrays, objects = array_bytes(), len(gc.get_objects())
        for _ in range(950):
            step()
        assert array_bytes() <= arrays + 256
        assert len(gc.get_objects()) < objects + 950  # less than one a step
    finally:
        tracemalloc.stop()
        gc.enable()
