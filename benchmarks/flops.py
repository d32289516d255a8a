"""How many floating-point operations a training step needs, from the layers it goes through."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from minissl import nn
from minissl.tensor import Tensor


def layer_flops(x: Tensor, weight: Tensor, y: Tensor) -> int:
    """Operations of one convolution or linear layer y = x * W in a step, a multiplication and an addition counted as 2.

    Every output sums over kh·kw·C_in/groups (or D_in) products. Forward, the weight's gradient and the input's
    gradient take as many each; the first layer of a network has no input gradient to compute.
    """
    products = y.size * (weight.size // weight.shape[-1])
    return 2 * products * (1 + weight.requires_grad + x.requires_grad)


@contextmanager
def counting(network: nn.Module) -> Iterator[list[int]]:
    """Until the block ends, collect the operations of every convolution and linear layer that `network` applies.

    What the methods compute without such a layer (normalization, the loss, the update) is not counted: it is under
    one hundredth of a convolutional network's step.
    """
    counts: list[int] = []
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    for layer in layers:
        vars(layer)["forward"] = _counted(layer, layer.forward, counts)
    try:
        yield counts
    finally:
        for layer in layers:
            del vars(layer)["forward"]


def _counted(
    layer: nn.Conv2d | nn.Linear, forward: Callable[[Tensor], Tensor], counts: list[int]
) -> Callable[[Tensor], Tensor]:
    def counted(x: Tensor) -> Tensor:
        y = forward(x)
        counts.append(layer_flops(x, layer.weight, y))
        return y

    return counted
