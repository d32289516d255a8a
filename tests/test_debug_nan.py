"""`debug_nan` blames the op that first made NaN or infinity, and nobody else."""

import numpy as np
import pytest

from minissl import ops
from minissl.tensor import Tensor, debug_nan


def test_debug_nan_names_the_op_that_made_it() -> None:
    x = Tensor([1.0, -1.0], requires_grad=True)
    with debug_nan(), np.errstate(invalid="ignore"), pytest.raises(FloatingPointError, match=r"^log: the first op"):
        ops.exp(ops.log(x * 1.0))


def test_debug_nan_names_the_op_whose_gradient_made_it() -> None:
    x = Tensor([0.0, 4.0], requires_grad=True)
    y = ops.sqrt(x).sum()
    with debug_nan(), np.errstate(divide="ignore"), pytest.raises(FloatingPointError, match=r"^sqrt: its gradient"):
        y.backward()


def test_debug_nan_lets_infinities_pass_that_were_put_in() -> None:
    with debug_nan():
        masked = ops.where(np.array([True, False]), -np.inf, Tensor([1.0, 2.0], requires_grad=True))
        ops.softmax(masked).sum().backward()
