"""A frozen network passes gradients on and keeps none."""

import numpy as np
import pytest

from minissl import nn, random
from minissl.nn.frozen import frozen
from minissl.tensor import Tensor


def two_layers() -> tuple[nn.Module, nn.Module, Tensor]:
    random.seed(0)
    return nn.Linear(3, 4), nn.Linear(4, 2), Tensor(np.ones((5, 3), np.float32))


@pytest.mark.parametrize("backward_inside", [False, True])
def test_gradients_pass_through_and_none_is_left(backward_inside: bool) -> None:
    first, second, x = two_layers()
    second(first(x)).sum().backward()
    expected = [p.grad for p in first.parameters()]
    first.zero_grad()
    second.zero_grad()

    with frozen(second):
        y = second(first(x)).sum()
        if backward_inside:
            y.backward()
    if not backward_inside:
        y.backward()
    assert all(p.grad is None for p in second.parameters())
    for parameter, gradient in zip(first.parameters(), expected, strict=True):
        np.testing.assert_array_equal(parameter.grad, gradient)


def test_afterwards_all_is_as_it_was_also_after_an_error() -> None:
    _, network, _ = two_layers()
    weight, bias = network.parameters()
    bias.requires_grad = False
    with pytest.raises(KeyError), frozen(network):
        assert not weight.requires_grad
        raise KeyError
    assert weight.requires_grad and not bias.requires_grad
