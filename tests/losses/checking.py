"""What is checked of every loss alike."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minissl.backend import Backend
from minissl.tensor import Tensor

Loss = Callable[..., Tensor]


def equals_the_loops(loss: Loss, expected: float, *arrays: np.ndarray, single: float = 1e-4) -> None:
    """A scalar of the input's type that equals the oracle's: to 1e-9 in float64, 1e-4 (or `single`) in float32."""
    found = loss(*arrays)
    assert found.shape == () and found.dtype == "float64"
    assert found.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    found = loss(*(array.astype("float32") if array.dtype.kind == "f" else array for array in arrays))
    assert found.dtype == "float32"
    assert found.item() == pytest.approx(expected, rel=1e-4, abs=single)


def gradients(loss: Loss, *arrays: Any) -> list[Any]:
    """The gradient of each array, None for one that receives none."""
    tensors = [Tensor(np.array(array), requires_grad=True) for array in arrays]
    loss(*tensors).backward()
    return [tensor.grad for tensor in tensors]


def same_on_the_device(cupy: Backend, loss: Loss, *arrays: np.ndarray) -> None:
    """Value and gradient of the first input, computed from device arrays, equal those from host arrays."""
    here, there = Tensor(arrays[0], requires_grad=True), Tensor(cupy.to_device(arrays[0]), requires_grad=True)
    value, device_value = loss(here, *arrays[1:]), loss(there, *map(cupy.to_device, arrays[1:]))
    assert device_value.item() == pytest.approx(value.item(), rel=1e-9)
    value.backward()
    device_value.backward()
    np.testing.assert_allclose(cupy.to_host(there.grad), here.grad, rtol=1e-9, atol=1e-12)
