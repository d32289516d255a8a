"""How many floating-point operations a training step needs, from the layers it goes through."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from minissl import nn
from minissl.nn.recurrent import Recurrent
from minissl.tensor import Tensor


def layer_flops(layer: nn.Module, x: Tensor, y: Tensor) -> int:
    """Operations of one layer y = layer(x) in a step, a multiplication and an addition counted as 2.

    Forward, the weight's gradient and the input's gradient take as many products each; the first layer of a network
    has no input gradient to compute. Attention has no weight: both factors of its products need a gradient. So do
    both factors of a recurrent layer's second product, state and weight.
    """
    if not (products := nn.multiply_adds(layer, x, y)):
        return 0
    if isinstance(layer, Recurrent):
        from_input = products - (from_state := y.size * layer.weight_hh_l0.shape[-1])
        gradients = layer.weight_ih_l0.requires_grad + x.requires_grad
        return 2 * (from_input * (1 + gradients) + from_state * (1 + 2 * y.requires_grad))
    weight = getattr(layer, "weight", None)
    gradients = 2 * y.requires_grad if weight is None else weight.requires_grad + x.requires_grad
    return 2 * products * (1 + gradients)


@contextmanager
def counting(network: nn.Module) -> Iterator[list[int]]:
    """Until the block ends, collect the operations of every layer of `network` that multiplies matrices.

    What the methods compute without such a layer (normalization, the loss, the update) is not counted: it is under
    one hundredth of a convolutional network's step.
    """
    counts: list[int] = []

    def report(layer: nn.Module, inputs: tuple[Any, ...], y: Any) -> None:
        if inputs and (flops := layer_flops(layer, inputs[0], y)):
            counts.append(flops)

    with nn.watching(network, report):
        yield counts
