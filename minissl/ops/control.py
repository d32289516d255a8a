"""Ops that change how gradients flow, and randomness that training wants."""

from collections.abc import Callable
from typing import Any

from minissl import backend, random
from minissl.backend import Array
from minissl.ops.checks import floating
from minissl.tensor import Tensor, as_tensor, record


def dropout(x: Any, rate: float) -> Tensor:
    """Each element 0 with probability `rate`, else divided by 1 − rate, so that the expectation stays.

    (Srivastava et al., 2014, "Dropout")
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: expected a rate from 0 to below 1, got {rate}")
    x = floating("dropout", x)
    if rate == 0:
        return x
    home = backend.of(x.data)
    images = len(x) if x.ndim else 1
    kept = home.to_device(random.rows(images).random(x.shape, "float32") >= rate)
    factor = kept.astype(x.dtype) / (1 - rate)
    return record(x.data * factor, (x, lambda g: g * factor))


def straight_through(hard: Any, soft: Any) -> Tensor:
    """The value of `hard`, with the gradient going to `soft` as if it had been that: for rounding, argmax, codes.

    (Bengio et al., 2013, "Estimating or Propagating Gradients Through Stochastic Neurons")
    """
    hard, soft = as_tensor(hard), floating("straight_through", soft)
    if hard.shape != soft.shape:
        raise ValueError(f"straight_through: expected equal shapes, got {hard.shape} and {soft.shape}")
    return record(hard.data.astype(soft.dtype), (soft, lambda g: g))


def gradient_reversal(x: Any, scale: float = 1.0) -> Tensor:
    """x itself; the gradient comes back times −scale. (Ganin and Lempitsky, 2015)"""
    x = floating("gradient_reversal", x)
    return record(x.data, (x, lambda g: -scale * g))


def recompute(function: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """function(*inputs) without keeping its intermediate values: they are computed again on the way back.

    Trades time for memory (Chen et al., 2016, "Training Deep Nets with Sublinear Memory Cost"). `function` may be a
    Module; its parameters receive their gradients. Random numbers repeat; running averages are updated twice.
    Raises ValueError if the result depends on a tensor that is neither an input nor a parameter.
    """
    tensors = [as_tensor(value) for value in inputs]
    own = list(function.parameters()) if hasattr(function, "parameters") else []
    learned = [parameter for parameter in own if parameter.requires_grad]
    state = random.generator().bit_generator.state
    leaves = [Tensor(tensor.data, tensor.requires_grad) for tensor in tensors]
    result = function(*leaves)
    if _leaves(result) - {id(leaf) for leaf in (*leaves, *learned)}:
        raise ValueError(
            "recompute: the result depends on a tensor that is neither an input nor a parameter; pass it in"
        )
    value = result.data
    del result  # and with it all that it was computed from

    def vjp(g: Array) -> tuple[Array, ...]:
        after = random.generator().bit_generator.state
        random.generator().bit_generator.state = state
        copies = [Tensor(tensor.data, requires_grad=tensor.requires_grad) for tensor in tensors]
        before = [parameter.grad for parameter in learned]
        for parameter in learned:
            parameter.grad = None
        function(*copies).backward(g)
        random.generator().bit_generator.state = after
        leaves = [*copies, *learned]
        gradients = tuple(
            backend.of(leaf.data).xp.zeros_like(leaf.data) if leaf.grad is None else leaf.grad for leaf in leaves
        )
        for parameter, saved in zip(learned, before, strict=True):
            parameter.grad = saved
        return gradients

    return record(value, ((*tensors, *learned), vjp))


def _leaves(result: Tensor) -> set[int]:
    """The ids of all tensors with a gradient that a result was computed from and that no op computed."""
    todo: list[Any] = [result._node or result] if result.requires_grad else []
    found, seen = set(), set()
    while todo:
        origin = todo.pop()
        if origin in seen:
            continue
        seen.add(origin)
        if isinstance(origin, Tensor):
            found.add(id(origin))
        else:
            todo += [source.origin for sources, _ in origin.pairs or () for source in sources if source is not None]
    return found
