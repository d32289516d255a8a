"""Recurrent layers: names, gradients, and the same layers in PyTorch."""

from typing import Any

import numpy as np
import pytest

from minissl import nn, random
from minissl.nn.recurrent import Recurrent
from minissl.tensor import Tensor
from tests import modules

GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
every_kind = pytest.mark.parametrize("kind", GATES)


@pytest.fixture(autouse=True)
def numbers() -> np.random.Generator:
    random.seed(0)
    return np.random.default_rng(0)


@every_kind
def test_names_shapes_and_gradients(kind: str, numbers: np.random.Generator) -> None:
    layer, outputs = getattr(nn, kind)(2, 3), GATES[kind] * 3
    assert modules.shapes(layer) == {
        "weight_ih_l0": (2, outputs),
        "weight_hh_l0": (3, outputs),
        "bias_ih_l0": (outputs,),
        "bias_hh_l0": (outputs,),
    }
    assert all(np.abs(p.data).max() <= np.float32(3**-0.5) for p in layer.parameters())
    x = numbers.normal(size=(2, 4, 2))
    y = layer(Tensor(x.astype("float32")))
    assert y.shape == (2, 4, 3) and y.dtype == "float32"
    modules.check_module(layer, x)


@every_kind
def test_equals_pytorch(kind: str, numbers: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    ours = modules.random_parameters(getattr(nn, kind)(3, 4))
    theirs = getattr(torch.nn, kind)(3, 4, batch_first=True).double()
    theirs.load_state_dict({name: torch.from_numpy(array.T.copy()) for name, array in ours.state_dict().items()})
    x, weights = numbers.normal(size=(2, 6, 3)), numbers.normal(size=(2, 6, 4))
    expected = modules.torch_gradients(torch, lambda x: theirs(x)[0], weights, x)
    for found, correct in zip(modules.gradients(ours, weights, x), expected, strict=True):
        np.testing.assert_allclose(found, correct, rtol=1e-9, atol=1e-9)
    there = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        np.testing.assert_allclose(parameter.grad.T, there[name].grad.numpy(), rtol=1e-9, atol=1e-9)


@every_kind
def test_a_step_sees_the_past_and_not_the_future(kind: str, numbers: np.random.Generator) -> None:
    layer = modules.random_parameters(getattr(nn, kind)(2, 3))
    x = Tensor(numbers.normal(size=(2, 5, 2)), requires_grad=True)
    layer(x)[0, 2].sum().backward()
    np.testing.assert_array_equal((x.grad != 0).any(axis=-1), [[True, True, True, False, False], [False] * 5])


@every_kind
def test_every_sequence_starts_from_zero(kind: str, numbers: np.random.Generator) -> None:
    layer = modules.random_parameters(getattr(nn, kind)(2, 3))
    x = numbers.normal(size=(3, 4, 2))
    together = layer(Tensor(x)).data
    np.testing.assert_array_equal(layer(Tensor(x)).data, together)
    for i in range(3):
        np.testing.assert_allclose(layer(Tensor(x[i : i + 1])).data[0], together[i], rtol=1e-12)


def test_a_layer_without_a_step_says_so() -> None:
    class Other(Recurrent):
        gates = 1

    with pytest.raises(TypeError, match="Other must define step"):
        Other(2, 3)(Tensor(np.ones((1, 1, 2), "float32")))


def test_an_open_lstm_gate_carries_its_cell_on(numbers: np.random.Generator) -> None:
    layer: Any = nn.LSTM(1, 2).astype("float64")
    for parameter in layer.parameters():
        parameter.data[...] = 0
    layer.bias_ih_l0.data[:] = [-50] * 2 + [50] * 2 + [0] * 2 + [50] * 2  # forget nothing, write nothing, show all
    cell = Tensor(numbers.normal(size=(1, 2)), requires_grad=True)
    state = (Tensor(np.zeros((1, 2))), cell)
    for _ in range(100):
        state = layer.step(layer.bias_ih_l0.reshape(1, 8), state)
    np.testing.assert_allclose(state[1].data, cell.data, rtol=1e-12)
    state[1].sum().backward()
    np.testing.assert_allclose(cell.grad, 1, rtol=1e-12)  # a plain RNN's would have vanished
