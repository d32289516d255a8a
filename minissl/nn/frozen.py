"""Freezing: a network that passes gradients on and learns nothing of them."""

from collections.abc import Iterator
from contextlib import contextmanager

from minissl.nn.module import Module


@contextmanager
def frozen(network: Module) -> Iterator[None]:
    """What is computed in here passes gradients through `network`, and leaves none in it.

    A generator's step needs this: its gradient comes through the discriminator, which must not learn from it. Whether
    `backward` is called inside or after makes no difference.
    """
    before = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    for parameter, _ in before:
        parameter.requires_grad = False
    try:
        yield
    finally:
        for parameter, learned in before:
            parameter.requires_grad = learned
