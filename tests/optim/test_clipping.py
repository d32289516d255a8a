"""Gradients: how large they may get, and how they add up over small batches."""

from typing import Any

import numpy as np
import pytest

from minissl import backend, losses, models, optim, random
from minissl.nn import Parameter
from minissl.tensor import Tensor


def with_gradients(*gradients: Any) -> list[Parameter]:
    parameters = []
    for gradient in gradients:
        parameters.append(Parameter(np.zeros(np.shape(gradient), "float32")))
        parameters[-1].grad = np.array(gradient, "float32")
    return parameters


def test_gradients_are_scaled_together_to_the_largest_norm() -> None:
    parameters = with_gradients([3.0, 0.0], [[4.0]])
    arrays = [parameter.grad for parameter in parameters]
    assert optim.clip_gradients(parameters, 1.0) == 5.0
    np.testing.assert_allclose(parameters[0].grad, [0.6, 0], rtol=1e-6)
    np.testing.assert_allclose(parameters[1].grad, [[0.8]], rtol=1e-6)
    assert all(parameter.grad.dtype == "float32" for parameter in parameters)
    np.testing.assert_array_equal(arrays[0], [3, 0])  # whoever else holds that array keeps it
    assert optim.clip_gradients(parameters, 1.0) == pytest.approx(1.0)


def test_small_gradients_stay_as_they_are() -> None:
    parameters = [*with_gradients([3.0, 4.0]), Parameter([1.0])]
    gradient = parameters[0].grad
    assert optim.clip_gradients(parameters, 5.0) == 5.0
    assert parameters[0].grad is gradient and parameters[1].grad is None
    assert optim.clip_gradients([Parameter([1.0])], 1.0) == 0.0


def test_a_shared_array_and_a_parameter_named_twice_are_scaled_once() -> None:
    a, b = with_gradients([3.0, 0.0], [0.0])
    b = Parameter([0.0, 0.0])
    b.grad = a.grad
    assert optim.clip_gradients([a, b, a], 1.0) == pytest.approx(18**0.5)
    np.testing.assert_allclose(a.grad, [3 / 18**0.5, 0], rtol=1e-6)
    np.testing.assert_array_equal(a.grad, b.grad)


def test_huge_gradients_do_not_overflow() -> None:
    parameters = with_gradients([3e30], [4e30])
    assert optim.clip_gradients(parameters, 10.0) == pytest.approx(5e30)
    np.testing.assert_allclose([parameter.grad[0] for parameter in parameters], [6, 8], rtol=1e-5)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_gradient_that_is_not_finite_is_named(value: float) -> None:
    parameters = with_gradients([1.0], [[2.0, value]])
    with pytest.raises(ValueError, match=r"clip_gradients: the gradient of parameter 1, of shape \(1, 2\), is not fin"):
        optim.clip_gradients(parameters, 1.0)
    np.testing.assert_array_equal(parameters[0].grad, [1])


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_a_limit_that_is_not_positive_is_an_error(limit: float) -> None:
    with pytest.raises(ValueError, match="clip_gradients: expected a positive max_norm"):
        optim.clip_gradients(with_gradients([1.0]), limit)


def test_it_equals_pytorch() -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    parameters = with_gradients(*(np.random.default_rng(i).normal(size=(3, 4)) for i in range(3)))
    theirs = [torch.nn.Parameter(torch.zeros(3, 4)) for _ in parameters]
    for parameter, their in zip(parameters, theirs, strict=True):
        their.grad = torch.from_numpy(parameter.grad.copy())
    norm = torch.nn.utils.clip_grad_norm_(theirs, 0.5)
    assert optim.clip_gradients(parameters, 0.5) == pytest.approx(float(norm), rel=1e-5)
    for parameter, their in zip(parameters, theirs, strict=True):
        np.testing.assert_allclose(parameter.grad, their.grad.numpy(), rtol=1e-5)


def test_on_cupy(cupy: backend.Backend) -> None:
    parameters = with_gradients([3.0, 0.0], [[4.0]])
    for parameter in parameters:
        parameter.data, parameter.grad = cupy.to_device(parameter.data), cupy.to_device(parameter.grad)
    assert optim.clip_gradients(parameters, 1.0) == 5.0
    np.testing.assert_allclose(cupy.to_host(parameters[0].grad), [0.6, 0], rtol=1e-6)
    parameters[1].grad = parameters[1].grad * float("nan")
    with pytest.raises(ValueError, match="parameter 1"):
        optim.clip_gradients(parameters, 1.0)


@pytest.mark.parametrize("parts", [2, 4])
def test_small_batches_add_up_to_a_large_one(parts: int) -> None:
    random.seed(0)
    net = models.mlp(5, 6, 3).astype("float64")
    numbers = np.random.default_rng(0)
    x, labels = numbers.normal(size=(8, 5)), numbers.integers(0, 3, 8)
    start = {name: array.copy() for name, array in net.state_dict().items()}
    results = []
    for N in (1, parts):
        net.load_state_dict(start)
        net.zero_grad()
        optimizer = optim.Adam(net.parameters(), 0.1)
        for images, answers in zip(np.split(x, N), np.split(labels, N), strict=True):
            (losses.cross_entropy(net(Tensor(images)), answers) * (1 / N)).backward()
        results.append([parameter.grad.copy() for parameter in net.parameters()])
        optimizer.step()
        results[-1] += [parameter.data.copy() for parameter in net.parameters()]
    for together, apart in zip(*results, strict=True):
        np.testing.assert_allclose(apart, together, rtol=1e-9, atol=1e-12)
