"""Every public op against its row of the table: value, gradient, types, memory, both backends."""

import re
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minissl import backend, ops
from minissl.gradcheck import gradcheck
from minissl.tensor import Tensor
from tests.op_table import ROWS, Row

every_op = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.op)


def apply(row: Row, arrays: Any, options: dict[str, Any]) -> Tensor:
    """The op on tensors of these arrays."""
    return (row.call or getattr(ops, row.op))(*arrays, **options)


def tensors(arrays: Any, dtype: str = "float64") -> list[Tensor]:
    return [Tensor(a.astype(dtype), requires_grad=True) if a.dtype.kind == "f" else Tensor(a) for a in arrays]


def test_every_public_op_has_a_row() -> None:
    assert sorted({row.op for row in ROWS}) == sorted(ops.__all__)


@every_op
@given(data=st.data())
def test_value_equals_the_oracle(row: Row, data: Any) -> None:
    arrays, options = data.draw(row.inputs)
    result, expected = apply(row, tensors(arrays), options), row.oracle(*arrays, **options)
    assert result.shape == np.shape(expected)
    np.testing.assert_allclose(result.data, expected, rtol=row.tolerance, atol=row.tolerance)


@every_op
@given(data=st.data())
def test_gradient_equals_central_differences(row: Row, data: Any) -> None:
    arrays, options = data.draw(row.inputs)
    if not row.true_gradient:
        pytest.skip("the gradient is bent on purpose; it has a test of its own")
    gradcheck(lambda *inputs: apply(row, inputs, options), *arrays, tolerance=1e-5)


@every_op
@given(data=st.data())
def test_float32_stays_float32_and_inputs_stay_as_they_are(row: Row, data: Any) -> None:
    arrays, options = data.draw(row.inputs)
    if row.op == "astype":
        options = {"dtype": "float32"}
    inputs = tensors(arrays, "float32")
    before = [tensor.data.copy() for tensor in inputs]
    result = apply(row, inputs, options)
    assert result.dtype == "float32"
    gradient = np.ones_like(result.data)
    result.backward(gradient)
    for tensor, saved in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(tensor.data, saved)
        assert tensor.grad is None or (tensor.grad.dtype == "float32" and tensor.grad.shape == tensor.shape)
    np.testing.assert_array_equal(gradient, 1)


@every_op
@given(data=st.data())
def test_memory_layout_does_not_matter(row: Row, data: Any) -> None:
    arrays, options = data.draw(row.inputs)
    strided = [np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a for a in arrays]
    np.testing.assert_allclose(
        apply(row, strided, options).data, apply(row, arrays, options).data, rtol=1e-9, atol=1e-12
    )


@every_op
@given(data=st.data())
def test_cupy_gives_the_same_value_and_gradient(row: Row, data: Any, cupy: backend.Backend) -> None:
    arrays, options = data.draw(row.inputs)
    here = tensors(arrays)
    there = [Tensor(cupy.to_device(tensor.data), tensor.requires_grad) for tensor in here]
    value, device_value = apply(row, here, options), apply(row, there, options)
    assert backend.of(device_value.data) is cupy
    np.testing.assert_allclose(cupy.to_host(device_value.data), value.data, rtol=1e-9, atol=1e-12)
    weights = np.random.default_rng(0).uniform(0.5, 1.5, value.shape)
    value.backward(weights)
    device_value.backward(cupy.to_device(weights))
    for tensor, device_tensor in zip(here, there, strict=True):
        if tensor.grad is not None:
            np.testing.assert_allclose(cupy.to_host(device_tensor.grad), tensor.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("ops.relu(x)", [0, 0, 1]),
        ("ops.absolute(x)", [-1, 0, 1]),
        ("ops.maximum(x, 0.0)", [0, 0.5, 1]),
        ("ops.minimum(x, 0.0)", [1, 0.5, 0]),
        ("ops.clip(x, 0.0, 2.0)", [0, 1, 1]),
        ("x ** 0", [0, 0, 0]),
        ("ops.where(x.data > 0, ops.sqrt(ops.where(x.data > 0, x, 1.0)), 0.0)", [0, 0, 0.5]),
    ],
)
def test_slope_at_a_kink(expression: str, expected: list[float]) -> None:
    x = Tensor([-1.0, 0.0, 1.0], requires_grad=True)
    eval(expression, {"ops": ops, "x": x}).sum().backward()
    np.testing.assert_array_equal(x.grad, expected)


def test_ties_share_the_gradient_of_an_extreme() -> None:
    x = Tensor([[3.0, 3.0, 1.0]], requires_grad=True)
    x.max(axis=1).sum().backward()
    np.testing.assert_array_equal(x.grad, [[0.5, 0.5, 0]])


def test_the_first_of_several_equal_pixels_wins_a_pool() -> None:
    x = Tensor(np.ones((1, 2, 2, 1), "float32"), requires_grad=True)
    ops.max_pool2d(x, 2).sum().backward()
    np.testing.assert_array_equal(x.grad[0, :, :, 0], [[1, 0], [0, 0]])


def test_extreme_inputs_stay_finite() -> None:
    x = Tensor(np.array([-1e4, 0.0, 1e4], "float32"), requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = [ops.sigmoid(x), ops.softplus(x), ops.softmax(x), ops.log_softmax(x), ops.logsumexp(x)]
    for result in results:
        assert np.isfinite(result.data).all()
        result.sum().backward()
        assert np.isfinite(x.grad).all()


def test_logsumexp_of_nothing_but_minus_infinity() -> None:
    x = Tensor([[-np.inf, -np.inf], [0.0, -np.inf]], requires_grad=True)
    y = ops.logsumexp(x, axis=1)
    np.testing.assert_array_equal(y.data, [-np.inf, 0])
    y.backward(np.ones(2, "float32"))
    np.testing.assert_array_equal(x.grad, [[0, 0], [1, 0]])


def test_l2_normalize_of_zero_tiny_and_huge_rows() -> None:
    rows = np.array([[0, 0], [3e-30, 4e-30], [3e30, 4e30]], "float32")
    np.testing.assert_allclose(ops.l2_normalize(rows, epsilon=1e-35).data, [[0, 0], [0.6, 0.8], [0.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize("scalar", [2, 2.0, np.float64(2.0)])
def test_numbers_never_promote(scalar: Any) -> None:
    x = Tensor(np.ones(3, "float32"))
    for result in (x * scalar, scalar * x, x + scalar, scalar - x, x / scalar, ops.maximum(x, scalar)):
        assert result.dtype == "float32"
    assert (Tensor(np.arange(3)) * 0.5).dtype == "float32"


def test_arrays_on_the_left_leave_the_work_to_tensor() -> None:
    x = Tensor(np.ones(3), requires_grad=True)
    result = np.arange(3.0) * x
    assert isinstance(result, Tensor) and result.requires_grad


BAD = {
    "add": ("np.ones(2), np.ones(3)", "add: expected shapes that broadcast"),
    "matmul": ("np.ones((2, 3)), np.ones((2, 3))", r"matmul: expected \(..., M, K\) @ \(..., K, N\)"),
    "linear": ("np.ones((2, 3)), np.ones((4, 3))", "linear: expected x"),
    "conv2d": ("np.ones((1, 4, 4, 3)), np.ones((3, 3, 4, 2))", "conv2d: expected weight"),
    "max_pool2d": ("np.ones((1, 2, 2, 1)), 3", "max_pool2d: images .* are smaller"),
    "average_pool2d": ("np.ones((1, 4, 4, 1)), 2, 2, 2", "average_pool2d: expected padding"),
    "batch_norm": ("np.ones((1, 3)), np.ones(3), np.ones(3)", "batch_norm: expected more than one value"),
    "reshape": ("np.ones(6), (4, -1)", "reshape: expected a shape of 6 elements"),
    "transpose": ("np.ones((2, 3)), (0, 0)", "transpose: expected distinct axes"),
    "broadcast_to": ("np.ones(2), (3,)", "broadcast_to: expected a shape"),
    "concatenate": ("[np.ones((2, 3)), np.ones((2, 4))]", "concatenate: expected shapes that differ along axis 0 only"),
    "stack": ("[np.ones(2), np.ones(3)]", "stack: expected equal shapes"),
    "split": ("np.ones(5), 2", "split: expected parts that divide"),
    "pad": ("np.ones(5), [(-1, 0)]", "pad: expected"),
    "flip": ("np.ones(5), 1", "flip: expected distinct axes"),
    "mean": ("np.ones((0, 2)), 0", "mean: expected at least one element"),
    "max": ("np.ones((2, 0))", "max: expected at least one element"),
    "var": ("np.ones(1), None, False, 1", "var: expected more than ddof"),
    "exp": ("np.arange(3)", "exp: expected floating-point"),
    "clip": ("np.ones(2), 2.0, 1.0", "clip: expected low <= high"),
    "where": ("np.ones(2), np.ones(2), np.ones(2)", "where: expected a boolean condition"),
    "power": ("np.ones(2), np.ones(2)", "power: expected a number"),
    "getitem": ("np.ones(2), 5", "getitem: expected an index into shape"),
}


@pytest.mark.parametrize("op", BAD)
def test_bad_input_is_named(op: str) -> None:
    arguments, message = BAD[op]
    with pytest.raises((ValueError, TypeError, IndexError), match=message):
        getattr(ops, op)(*eval(f"({arguments},)", {"np": np}))


def test_two_backends_do_not_mix(cupy: backend.Backend) -> None:
    with pytest.raises(TypeError, match="expected all arrays on one backend, got numpy and cupy"):
        ops.add(np.ones(2), cupy.to_device(np.ones(2)))


# Odd inputs, derived from the table: an op names itself in an error, or gives what its oracle gives.


def answers_or_names_itself(row: Row, arrays: Any, options: dict[str, Any]) -> None:
    try:
        result = apply(row, [Tensor(a) for a in arrays], options)
    except (ValueError, TypeError, IndexError) as error:
        assert re.match(rf"({row.op}|{MADE_OF.get(row.op, row.op)}): ", str(error)), f"{row.op} is not named: {error}"
        return
    with np.errstate(all="ignore"):
        expected = row.oracle(*arrays, **options)
    assert result.shape == np.shape(expected)
    np.testing.assert_allclose(result.data, expected, rtol=1e-4, atol=1e-4)


# Some ops are made of others, which check their shapes.
MADE_OF = {
    "stack": "concatenate",
    "split": "getitem",
    "tile": "reshape|broadcast_to",
    "outer": "reshape|multiply",
    "linear": "matmul|add|reshape",
    "conv1d": "conv2d",
    "group_norm": "mean|multiply|add|reshape",
    "instance_norm": "group_norm|mean|multiply|add|reshape",
    "scaled_dot_product_attention": "attention",
    "embedding": "getitem",
    "take_along_axis": "getitem",
    "upsample_nearest": "reshape|broadcast_to",
    "pad": "getitem|concatenate|flip",
    "recompute": "multiply|tanh|add",
}


@every_op
@given(data=st.data())
def test_nothing_to_compute_on(row: Row, data: Any) -> None:
    """The first axis of every input of floats has length 0."""
    arrays, options = data.draw(row.inputs)
    answers_or_names_itself(row, [a[:0] if a.ndim and a.dtype.kind == "f" else a for a in arrays], options)


@every_op
@given(data=st.data())
def test_integers_for_floats(row: Row, data: Any) -> None:
    arrays, options = data.draw(row.inputs)
    arrays = [np.ceil(a + 2).astype(int) if a.dtype.kind == "f" else a for a in arrays]
    answers_or_names_itself(row, arrays, options)


@every_op
@given(data=st.data())
def test_another_shape(row: Row, data: Any) -> None:
    """The first input has one more element along its last axis, or one axis more."""
    arrays, options = data.draw(row.inputs)
    first = arrays[0][None] if data.draw(st.booleans()) or not arrays[0].ndim else arrays[0].repeat(2, axis=-1)
    try:
        with np.errstate(all="ignore"):
            row.oracle(first, *arrays[1:], **options)
    except Exception:  # whatever NumPy says, the op must say it by its own name
        with pytest.raises((ValueError, TypeError, IndexError), match=rf"^({row.op}|{MADE_OF.get(row.op, row.op)}): "):
            apply(row, [Tensor(a) for a in (first, *arrays[1:])], options)
