"""Module finds what it holds, by name and in order, and carries it from state to state."""

from typing import Any

import numpy as np
import pytest

from minissl import backend, nn
from minissl.nn import Buffer, Module, Parameter, Sequential
from minissl.tensor import Tensor


class Inner(Module):
    def __init__(self, size: int) -> None:
        self.weight = Parameter(np.arange(float(size)).astype("float32"))
        self.average = Buffer(np.zeros(size, "float32"))
        self.count = Buffer(np.array(0))

    def forward(self, x: Any) -> Any:
        return x * self.weight


class Outer(Module):
    def __init__(self) -> None:
        self.second = Inner(2)
        self.scale = Parameter(np.ones((), "float32"))
        self.first = Inner(3)
        self.nothing = None
        self.constant = Tensor([1.0])

    def forward(self, x: Any) -> Any:
        return self.first(self.second(x)) * self.scale


NAMES = [
    "second.weight",
    "second.average",
    "second.count",
    "scale",
    "first.weight",
    "first.average",
    "first.count",
]


def test_names_are_dotted_and_in_the_order_in_which_they_were_set() -> None:
    net = Outer()
    assert list(net.state_dict()) == NAMES == [name for name, _ in net.named_tensors()]
    assert [name for name, _ in net.named_parameters()] == ["second.weight", "scale", "first.weight"]
    assert net.parameters()[0] is net.second.weight
    assert net.parameter_count() == 2 + 1 + 3
    assert [type(module).__name__ for module in net.modules()] == ["Outer", "Inner", "Inner"]
    assert [name for name, _ in net.children()] == ["second", "first"]


def test_parameters_want_a_gradient_and_buffers_do_not() -> None:
    assert Parameter([1.0]).requires_grad and not Buffer([1.0]).requires_grad
    with pytest.raises(TypeError, match="floating-point"):
        Parameter([1])


def test_a_frozen_parameter_receives_no_gradient() -> None:
    net = Inner(2)
    net.weight.requires_grad = False
    x = Tensor(np.ones(2, "float32"), requires_grad=True)
    net(x).sum().backward()
    assert net.weight.grad is None and x.grad is not None


def test_train_and_eval_reach_every_module() -> None:
    net = Sequential(Outer(), Sequential(Inner(1)))
    assert all(module.training for module in net.modules())
    assert net.eval() is net and not any(module.training for module in net.modules())
    assert net.train() is net and all(module.training for module in net.modules())
    net.train(False)
    assert not any(module.training for module in net.modules())


def test_zero_grad_clears_every_gradient() -> None:
    net = Outer()
    for parameter in net.parameters():
        parameter.grad = np.ones(parameter.shape)
    net.zero_grad()
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_module_without_forward_says_so() -> None:
    with pytest.raises(TypeError, match="Module has no forward"):
        Module()(1)


def test_the_state_is_in_use_and_loading_copies() -> None:
    net, other = Outer(), Outer()
    state = {name: np.full(array.shape, 7) for name, array in net.state_dict().items()}
    net.load_state_dict(state)
    assert all((array == 7).all() for array in net.state_dict().values())
    for array in state.values():
        array[...] = 0
    assert all((array == 7).all() for array in net.state_dict().values())
    other.load_state_dict(net.state_dict())
    other.first.weight.data += 1
    assert (net.first.weight.data == 7).all()
    assert net.state_dict()["first.weight"] is net.first.weight.data


def test_loading_keeps_types_and_the_parameters_themselves() -> None:
    net = Outer()
    parameters = net.parameters()
    net.load_state_dict({name: array.astype("float64") for name, array in net.state_dict().items()})
    assert all(a is b for a, b in zip(parameters, net.parameters(), strict=True))
    assert {array.dtype.name for array in net.state_dict().values()} == {"float32", "int64"}


def test_loading_lists_every_problem_and_then_changes_nothing() -> None:
    net = Outer()
    before = {name: array.copy() for name, array in net.state_dict().items()}
    state: dict[str, Any] = {name: array + 1 for name, array in before.items()}
    del state["scale"], state["first.count"]
    state |= {"third.weight": np.ones(2), "first.weight": np.ones((3, 1))}
    with pytest.raises(ValueError) as caught:
        net.load_state_dict(state)
    assert str(caught.value) == (
        "load_state_dict of Outer: first.weight: expected shape (3,), got (3, 1); "
        "scale: missing; first.count: missing; third.weight: unexpected"
    )
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_loading_a_part_skips_names_but_not_shapes() -> None:
    net = Outer()
    net.load_state_dict({"first.weight": np.full(3, 5.0), "head.weight": np.ones(9)}, strict=False)
    np.testing.assert_array_equal(net.first.weight.data, 5)
    np.testing.assert_array_equal(net.second.weight.data, [0, 1])
    with pytest.raises(ValueError, match=r"first.weight: expected shape \(3,\), got \(4,\)"):
        net.load_state_dict({"first.weight": np.ones(4)}, strict=False)


def test_astype_converts_floating_numbers_only_and_drops_gradients() -> None:
    net = Outer()
    net.scale.grad = np.ones((), "float32")
    assert net.astype("float64") is net
    types = {name: array.dtype.name for name, array in net.state_dict().items()}
    assert types == {name: "int64" if name.endswith("count") else "float64" for name in NAMES}
    assert net.scale.grad is None
    x = Tensor(np.ones(1))
    assert Sequential(Inner(1)).astype("float64")(x).dtype == "float64"


def test_to_moves_everything_and_back(cupy: backend.Backend) -> None:
    net = Outer()
    expected = {name: array.copy() for name, array in net.state_dict().items()}
    assert net.to("cupy") is net
    assert all(backend.of(array) is cupy for array in net.state_dict().values())
    moved = net.state_dict()
    net.load_state_dict({name: array + 1 for name, array in expected.items()})  # host arrays go to its device
    assert all(backend.of(array) is cupy for array in net.state_dict().values())
    net.load_state_dict(moved)
    net.to("numpy")
    for name, array in net.state_dict().items():
        assert isinstance(array, np.ndarray)
        np.testing.assert_array_equal(array, expected[name])


def test_sequential_runs_in_order_under_numbers_or_names() -> None:
    class Add(Module):
        def __init__(self, n: float) -> None:
            self.n = n

        def forward(self, x: Any) -> Any:
            return 10 * x + self.n

    assert Sequential(Add(1), Add(2))(0) == 12
    assert Sequential(Add(1), last=Add(2))(0) == 12
    assert Sequential()(5) == 5
    net = Sequential(Inner(1), nn.Identity(), head=Inner(2))
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "head.weight"]
    assert [name for name, _ in net.children()] == ["0", "1", "head"]
