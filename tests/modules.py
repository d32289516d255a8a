"""What tests of modules share: a gradient check that reaches the parameters, and arrays to and from PyTorch."""

from typing import Any

import numpy as np

from minissl import random
from minissl.gradcheck import gradcheck
from minissl.nn import Module, Parameter
from minissl.tensor import Tensor


def check_module(module: Module, *inputs: Any, tolerance: float = 1e-6) -> None:
    """Check the gradients of a module with respect to its inputs and all its parameters, in float64.

    Every call draws the same random numbers. The module is float64 afterwards.
    """
    module.astype("float64")
    places = [(each, name) for each in module.modules() for name, v in vars(each).items() if isinstance(v, Parameter)]
    parameters = [vars(each)[name] for each, name in places]

    def function(*values: Tensor) -> Tensor:
        random.seed(0)
        for (each, name), value in zip(places, values[len(inputs) :], strict=True):
            vars(each)[name] = value
        return module(*values[: len(inputs)])

    try:
        gradcheck(function, *inputs, *(parameter.data.copy() for parameter in parameters), tolerance=tolerance)
    finally:
        for (each, name), parameter in zip(places, parameters, strict=True):
            vars(each)[name] = parameter


def shapes(module: Module) -> dict[str, tuple[int, ...]]:
    """The shapes of all parameters and buffers, by name."""
    return {name: array.shape for name, array in module.state_dict().items()}


def random_parameters(module: Any, seed: int = 0) -> Any:
    """The module in float64, every parameter drawn anew, so that no γ is 1 and no β is 0."""
    numbers = np.random.default_rng(seed)
    for parameter in module.astype("float64").parameters():
        parameter.data = numbers.uniform(-0.7, 0.9, parameter.shape)
    return module


def torch_gradients(torch: Any, function: Any, weights: np.ndarray, *arrays: np.ndarray) -> list[np.ndarray]:
    """The value of a function of PyTorch tensors, and the gradients of Σ weights·value: all as NumPy arrays."""
    tensors = [torch.from_numpy(array.copy()).requires_grad_() for array in arrays]
    value = function(*tensors)
    value.backward(torch.from_numpy(weights.copy()))
    return [value.detach().numpy(), *(tensor.grad.numpy() for tensor in tensors)]


def gradients(function: Any, weights: np.ndarray, *arrays: np.ndarray) -> list[np.ndarray]:
    """The same of a function of our tensors."""
    tensors = [Tensor(array.copy(), requires_grad=True) for array in arrays]
    value = function(*tensors)
    value.backward(weights.copy())
    return [value.data, *(tensor.grad for tensor in tensors)]
