"""Exponential moving averages of weights: the slow twin of a network that learns, as MoCo and BYOL need it."""

import copy
from typing import Any, Literal, TypeVar

from minissl import backend
from minissl.nn import Module
from minissl.optim.optimizers import average

Network = TypeVar("Network", bound=Module)


def copy_module(module: Network) -> Network:
    """A copy that shares no array with the module and learns nothing: its parameters are frozen, without gradients."""
    twins: dict[int, Any] = {}
    for _, tensor in module.named_tensors():
        twin = twins[id(tensor)] = copy.copy(tensor)
        twin.data, twin.grad, twin.requires_grad = tensor.data.copy(), None, False
    return copy.deepcopy(module, twins)


class WeightAverage(Module):
    """A copy of a model that follows it: w̄ ← μ w̄ + (1 − μ) w after every step. Calling it calls the copy, `module`.

    buffers says what happens to BatchNorm's running statistics and the like: "copy", they are the model's at every
    update; "average", they follow as the weights do (integers are copied). In training mode the copy's own BatchNorm
    layers move theirs as well. μ = 0 copies the model, μ = 1 never moves.
    (Tarvainen and Valpola, 2017, "Mean Teachers"; He et al., 2020, MoCo; Grill et al., 2020, BYOL)
    """

    def __init__(self, model: Module, momentum: float, buffers: Literal["copy", "average"] = "copy") -> None:
        if buffers not in ("copy", "average"):
            raise ValueError(f"WeightAverage: expected buffers 'copy' or 'average', got {buffers!r}")
        self.module = copy_module(model)
        self.momentum, self.buffers = _checked(momentum), buffers

    def forward(self, *inputs: Any) -> Any:
        return self.module(*inputs)

    def update(self, model: Module, momentum: float | None = None) -> None:
        """Follow the model by one step, with this momentum in place of the usual one if given.

        Raises ValueError, before anything is changed, where the model is not of the shape that was copied.
        """
        mu = self.momentum if momentum is None else _checked(momentum)
        own, new = dict(self.module.named_tensors()), dict(model.named_tensors())
        if {name: tensor.shape for name, tensor in own.items()} != {name: tensor.shape for name, tensor in new.items()}:
            raise ValueError("WeightAverage: expected the model that was copied, got other names or shapes")
        learned = {name for name, _ in self.module.named_parameters()}
        for name, tensor in {id(tensor): (name, tensor) for name, tensor in own.items()}.values():
            home, follows = backend.of(tensor.data), name in learned or self.buffers == "average"
            if backend.of(new[name].data) is not home:
                raise ValueError(f"WeightAverage: {name} is on {home.name} here and elsewhere in the model; use .to()")
            if follows and tensor.dtype.kind == "f":
                home.update(lambda old, now: average(old, now, mu), tensor.data, new[name].data)
            else:
                tensor.data[...] = new[name].data


def _checked(momentum: float) -> float:
    if not 0 <= momentum <= 1:
        raise ValueError(f"WeightAverage: expected a momentum from 0 to 1, got {momentum}")
    return momentum
