"""The slow copy of a network: it shares nothing, learns nothing, and follows."""

from typing import Any

import numpy as np
import pytest

from minissl import backend, nn, optim, random
from minissl.nn import Buffer, Module, Parameter
from minissl.tensor import Tensor


@pytest.fixture(autouse=True)
def seed() -> None:
    random.seed(0)


class Net(Module):
    def __init__(self) -> None:
        self.layers = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm(3), nn.Linear(3, 3))
        self.count = Buffer(np.array(0))
        self.constant = Tensor([1.0, 2.0])
        self.array = np.arange(3.0)
        self.options = {"names": ["a"]}

    def forward(self, x: Any) -> Any:
        return self.layers(x)


def changed(model: Module, by: float = 1.0) -> None:
    """Every parameter and buffer moves; arrays are written into, as optimizers do."""
    for _, tensor in model.named_tensors():
        tensor.data += np.asarray(by, tensor.dtype)


def state(model: Module) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in model.state_dict().items()}


def test_a_copy_shares_nothing_and_learns_nothing() -> None:
    net = Net().eval()
    net(Tensor(np.ones((2, 3), "float32"))).sum().backward()
    twin = optim.copy_module(net)
    assert type(twin) is Net and list(twin.state_dict()) == list(net.state_dict())
    for (name, mine), (_, its) in zip(net.named_tensors(), twin.named_tensors(), strict=True):
        assert type(mine) is type(its) and not np.shares_memory(mine.data, its.data)
        np.testing.assert_array_equal(mine.data, its.data, err_msg=name)
        assert its.grad is None and not its.requires_grad
    assert all(parameter.requires_grad and parameter.grad is not None for parameter in net.parameters())
    assert not np.shares_memory(net.array, twin.array) and not np.shares_memory(net.constant.data, twin.constant.data)
    twin.options["names"].append("b")
    assert net.options == {"names": ["a"]}
    assert not any(module.training for module in twin.modules())
    before = state(twin)
    changed(net)
    for name, array in twin.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    assert not twin(Tensor(np.ones((2, 3), "float32"))).requires_grad


def test_a_parameter_with_two_names_stays_one() -> None:
    net = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(2))
    net[1].weight = net[0].weight
    twin = optim.copy_module(net)
    assert twin[1].weight is twin[0].weight is not net[0].weight
    average = optim.WeightAverage(net, 0.5)
    net[0].weight.data += 1
    average.update(net)  # once, and not once for each name
    np.testing.assert_allclose(net[0].weight.data - average.module[0].weight.data, 0.5, rtol=1e-6)


@pytest.mark.parametrize("buffers", ["copy", "average"])
def test_weights_follow_and_buffers_as_was_asked(buffers: Any) -> None:
    net = Net()
    average = optim.WeightAverage(net, 0.9, buffers)
    expected = state(net)
    learned = {name for name, _ in net.named_parameters()}
    for _ in range(3):
        changed(net)
        average.update(net)
        for name, array in net.state_dict().items():
            follows = name in learned or (buffers == "average" and array.dtype.kind == "f")
            expected[name] = 0.9 * expected[name] + (1 - 0.9) * array if follows else array.copy()
    for name, array in average.module.state_dict().items():
        assert array.dtype == net.state_dict()[name].dtype and not np.shares_memory(array, net.state_dict()[name])
        np.testing.assert_allclose(array, expected[name], rtol=1e-6, err_msg=name)
    assert average.module.count.data == 3


def test_the_ends_of_momentum() -> None:
    net = Net()
    average, before = optim.WeightAverage(net, 0.5), state(net)
    changed(net)
    average.update(net, 1.0)
    assert (average.module.layers.state_dict()["0.weight"] == before["layers.0.weight"]).all()
    average.update(net, 0.0)
    for name, array in average.module.state_dict().items():
        np.testing.assert_array_equal(array, net.state_dict()[name])


def test_calling_it_calls_the_copy_and_no_gradient_comes_back() -> None:
    net = Net()
    average = optim.WeightAverage(net, 0.5)
    x = Tensor(np.random.default_rng(0).normal(size=(4, 3)).astype("float32"))
    np.testing.assert_array_equal(average(x).data, net(x).data)
    (average(x) - net(x)).sum().backward()
    assert all(parameter.grad is None for parameter in average.parameters())
    optimizer = optim.SGD(average.parameters(), 0.1, weight_decay=0.1)
    before = state(average)
    optimizer.step()
    for parameter, array in average.state_dict().items():
        np.testing.assert_array_equal(array, before[parameter])


def test_it_is_saved_with_the_module_around_it() -> None:
    method = Module()
    method.encoder = nn.Linear(2, 3)
    method.slow = optim.WeightAverage(method.encoder, 0.9)
    assert list(method.state_dict()) == ["encoder.weight", "encoder.bias", "slow.module.weight", "slow.module.bias"]


def test_bad_arguments_are_named() -> None:
    net = Net()
    for momentum in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="WeightAverage: expected a momentum from 0 to 1"):
            optim.WeightAverage(net, momentum)
    with pytest.raises(ValueError, match="buffers 'copy' or 'average', got 'keep'"):
        optim.WeightAverage(net, 0.9, "keep")  # type: ignore[arg-type]
    average = optim.WeightAverage(net, 0.9)
    before = state(average)
    net.extra = Parameter([1.0])
    changed(net)
    for other in (net, nn.Linear(3, 3)):
        with pytest.raises(ValueError, match="the model that was copied, got other names or shapes"):
            average.update(other)
    for name, array in average.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_on_cupy(cupy: backend.Backend) -> None:
    here, there = Net(), Net()
    there.load_state_dict(here.state_dict())
    average = optim.WeightAverage(here, 0.9, "average")
    device_average = optim.WeightAverage(there.to("cupy"), 0.9, "average")
    for net, slow in ((here, average), (there, device_average)):
        for _, tensor in net.named_tensors():
            tensor.data += backend.of(tensor.data).xp.asarray(1, tensor.dtype)
        slow.update(net)
    for name, array in device_average.state_dict().items():
        assert backend.of(array) is cupy
        np.testing.assert_allclose(cupy.to_host(array), average.state_dict()[name], rtol=1e-6)
    with pytest.raises(ValueError, match="is on numpy here and elsewhere in the model"):
        average.update(there)
