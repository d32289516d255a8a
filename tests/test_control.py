"""Ops that bend gradients, dropout, and recomputing in place of remembering."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

from minissl import backend, nn, ops, random
from minissl.tensor import Tensor, no_grad
from tests import modules


@pytest.fixture(autouse=True)
def numbers() -> np.random.Generator:
    random.seed(0)
    return np.random.default_rng(0)


def test_dropout_keeps_the_mean_and_drops_as_many_as_asked() -> None:
    x = Tensor(np.ones((300, 400)), requires_grad=True)
    y = ops.dropout(x, 0.3)
    assert y.dtype == "float64" and abs(y.data.mean() - 1) < 0.01 and abs((y.data == 0).mean() - 0.3) < 0.01
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, y.data)  # the same elements, the same factor
    assert ops.dropout(x, 0.0) is x


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2.0])
def test_a_rate_that_is_no_probability_is_an_error(rate: float) -> None:
    with pytest.raises(ValueError, match="dropout: expected a rate from 0 to below 1"):
        ops.dropout(np.ones(3), rate)


def test_straight_through_has_one_value_and_the_other_gradient() -> None:
    soft, hard = Tensor([0.2, 0.7], requires_grad=True), Tensor([0.0, 1.0], requires_grad=True)
    y = ops.straight_through(hard, soft * soft)
    np.testing.assert_array_equal(y.data, [0, 1])
    y.backward(np.array([3.0, 5.0], "float32"))
    np.testing.assert_allclose(soft.grad, [3 * 2 * 0.2, 5 * 2 * 0.7], rtol=1e-6)
    assert hard.grad is None
    assert ops.straight_through(np.array([0, 1]), soft).dtype == "float32"  # integers take the type of the soft values
    with pytest.raises(ValueError, match=r"straight_through: expected equal shapes, got \(3,\) and \(2,\)"):
        ops.straight_through(np.ones(3), soft)


@pytest.mark.parametrize("scale", [1.0, 0.25, 0.0])
def test_a_reversed_gradient_has_the_other_sign(scale: float) -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = ops.gradient_reversal(x * 3, scale)
    np.testing.assert_array_equal(y.data, [3, 6])
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, [-3 * scale] * 2)


# -- recompute --------------------------------------------------------------------------------------------------------


def all_gradients(module: nn.Module, x: np.ndarray, again: bool, seed: int = 0) -> dict[str, Any]:
    """The output, the input's gradient and every parameter's, with or without recomputing."""
    random.seed(seed)
    module.zero_grad()
    inputs = Tensor(x, requires_grad=True)
    y = ops.recompute(module, inputs) if again else module(inputs)
    following = random.generator().random()
    (y * np.arange(y.size).reshape(y.shape)).sum().backward()
    following = following, random.generator().random()  # after the way forward, and after the way back
    return {"output": y.data, "input": inputs.grad, "random numbers": following} | {
        name: parameter.grad for name, parameter in module.named_parameters()
    }


@pytest.mark.parametrize("kind", ["block", "dropout", "batch norm", "tied"])
def test_recomputing_gives_the_same_gradients(kind: str, numbers: np.random.Generator) -> None:
    module: nn.Module = {
        "block": nn.TransformerBlock(4, 2, drop_path=0.5),
        "dropout": nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), nn.ReLU(), nn.Dropout(0.2), nn.Linear(5, 2)),
        "batch norm": nn.Sequential(nn.Linear(4, 3), nn.BatchNorm(3, relu=True)),
        "tied": nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4)),
    }[kind]
    modules.random_parameters(module)
    if kind == "tied":
        layers = dict(module.children())
        vars(layers["2"])["weight"] = vars(layers["0"])["weight"]
    x = numbers.normal(size=(8, 3, 4))
    plain, again = all_gradients(module, x, False), all_gradients(module, x, True)
    assert plain.keys() == again.keys()
    for name, value in plain.items():
        np.testing.assert_allclose(again[name], value, rtol=1e-12, atol=1e-12, err_msg=name)


def test_gradients_that_were_there_before_are_added_to(numbers: np.random.Generator) -> None:
    layer, x = nn.Linear(3, 2).astype("float64"), numbers.normal(size=(4, 3))
    layer(Tensor(x)).sum().backward()
    once = layer.weight.grad.copy()
    (ops.recompute(layer, x).sum() + ops.recompute(layer, x).sum()).backward()
    np.testing.assert_allclose(layer.weight.grad, 3 * once, rtol=1e-12)


def test_a_kept_graph_can_be_recomputed_twice(numbers: np.random.Generator) -> None:
    x = Tensor(numbers.normal(size=3), requires_grad=True)
    y = ops.recompute(lambda x: ops.tanh(x) * x, x).sum()
    y.backward(keep_graph=True)
    once = x.grad.copy()
    y.backward()
    np.testing.assert_allclose(x.grad, 2 * once, rtol=1e-12)


def test_inputs_without_gradients_are_passed_on(numbers: np.random.Generator) -> None:
    table = Tensor(numbers.normal(size=(4, 2)), requires_grad=True)
    index = np.array([1, 1, 3])
    ops.recompute(lambda table, index: ops.embedding(table, index.data) ** 2, table, index).sum().backward()
    np.testing.assert_allclose(table.grad, 2 * table.data * np.array([[0], [2], [0], [1]]), rtol=1e-12)


def test_a_frozen_parameter_stays_without_a_gradient(numbers: np.random.Generator) -> None:
    layer = nn.Linear(3, 2).astype("float64")
    layer.weight.requires_grad = False
    ops.recompute(layer, numbers.normal(size=(4, 3))).sum().backward()
    assert layer.weight.grad is None
    np.testing.assert_array_equal(layer.bias.grad, [4, 4])


@pytest.mark.parametrize("input_learns", [False, True])
@pytest.mark.parametrize("hidden", ["leaf", "computed", "module"])
def test_a_tensor_that_comes_in_unseen_is_an_error(hidden: str, input_learns: bool) -> None:
    leaf, layer = Tensor([2.0], requires_grad=True), nn.Linear(1, 1)
    function = {
        "leaf": lambda x: x * leaf,
        "computed": lambda x, h=leaf * 3: x * h,
        "module": lambda x: layer(x),
    }[hidden]
    with pytest.raises(ValueError, match=r"recompute: .* neither an input nor a parameter; pass it in"):
        ops.recompute(function, Tensor([1.0], requires_grad=input_learns))


def test_constants_may_come_in_unseen() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    constant = Tensor([3.0, 4.0])
    ops.recompute(lambda x: x * constant, x).sum().backward()
    np.testing.assert_array_equal(x.grad, [3, 4])


def test_without_a_graph_it_is_the_function_itself() -> None:
    x = Tensor([1.0], requires_grad=True)
    with no_grad():
        assert not ops.recompute(ops.exp, x).requires_grad
    assert not ops.recompute(ops.exp, Tensor([1.0])).requires_grad


def held_by(again: bool) -> int:
    """How many arrays of the input's size are alive after a chain of 20 ops, beside the input."""
    x = Tensor(np.ones(100_000), requires_grad=True)

    def chain(x: Tensor) -> Tensor:
        for _ in range(20):
            x = ops.tanh(x)
        return x

    tracemalloc.start()
    try:
        y = ops.recompute(chain, x) if again else chain(x)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert y.requires_grad
    return round(held / x.data.nbytes)


def test_intermediate_values_are_not_kept() -> None:
    assert held_by(again=False) == 20
    assert held_by(again=True) == 1


def test_recompute_on_cupy(cupy: backend.Backend, numbers: np.random.Generator) -> None:
    module = modules.random_parameters(nn.TransformerBlock(4, 2, drop_path=0.5))
    x = numbers.normal(size=(8, 3, 4))
    here = all_gradients(module, x, True)
    with backend.use("cupy"):
        random.seed(0)
        inputs = Tensor(cupy.to_device(x), requires_grad=True)
        y = ops.recompute(module.to("cupy"), inputs)
        (y * cupy.to_device(np.arange(96.0).reshape(8, 3, 4))).sum().backward()
    np.testing.assert_allclose(cupy.to_host(inputs.grad), here["input"], rtol=1e-9, atol=1e-9)
    for name, parameter in module.named_parameters():
        np.testing.assert_allclose(cupy.to_host(parameter.grad), here[name], rtol=1e-9, atol=1e-9)
