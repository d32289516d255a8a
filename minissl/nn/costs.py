"""What a network computes: watch its layers at work, and count the products of each."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from minissl.nn.attention import MultiHeadAttention, WindowAttention
from minissl.nn.layers import ChannelwiseLinear, Conv1d, Conv2d, ConvTranspose2d, Linear
from minissl.nn.module import Module
from minissl.nn.recurrent import Recurrent
from minissl.tensor import Tensor

Report = Callable[[Module, tuple[Any, ...], Any], None]


@contextmanager
def watching(network: Module, report: Report) -> Iterator[None]:
    """Until the block ends, call report(module, inputs, output) whenever a module inside `network` has been applied.

    A layer reports after the layers inside it.
    """
    modules = list({id(module): module for module in network.modules()}.values())
    before = [vars(module).get("forward") for module in modules]
    for module in modules:
        vars(module)["forward"] = _reporting(module, module.forward, report)
    try:
        yield
    finally:
        for module, forward in zip(modules, before, strict=True):
            if forward is None:
                del vars(module)["forward"]
            else:
                vars(module)["forward"] = forward


def _reporting(module: Module, forward: Callable[..., Any], report: Report) -> Callable[..., Any]:
    def reporting(*inputs: Any) -> Any:
        output = forward(*inputs)
        report(module, inputs, output)
        return output

    return reporting


def multiply_adds(module: Module, x: Tensor, y: Tensor) -> int:
    """How many products one application y = module(x) sums up, itself, without the layers inside it.

    Counted where matrices are multiplied: convolutions, linear and recurrent layers, attention. Everything else
    (normalization, activations, pooling, biases) is 0: under one hundredth of a network's work.
    """
    if isinstance(module, Linear | Conv1d | Conv2d):  # each output sums over kh·kw·C_in/groups (or D_in) products
        return y.size * (module.weight.size // module.weight.shape[-1])
    if isinstance(module, ConvTranspose2d):  # each input goes into kh·kw·C_out products
        return x.size * (module.weight.size // module.weight.shape[-1])
    if isinstance(module, ChannelwiseLinear):  # each output sums over all positions of its channel
        return y.size * module.weight.shape[-1]
    if isinstance(module, WindowAttention):  # each token meets the size² of its window twice: q kᵀ, then P v
        return 2 * x.size * module.size**2
    if isinstance(module, MultiHeadAttention):  # each of N·L tokens meets L twice, D products each time
        return 2 * x.size * x.shape[1]
    if isinstance(module, Recurrent):  # both weights, for each of N·T steps
        return x.shape[0] * x.shape[1] * (module.weight_ih_l0.size + module.weight_hh_l0.size)
    return 0
