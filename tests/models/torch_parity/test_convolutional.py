"""ResNet-18 and 50, AlexNet and VGG-16 against PyTorch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minissl import nn, random
from minissl.models.alexnet import AlexNet
from minissl.models.resnet import resnet18, resnet50
from minissl.models.torch_state import load_torch_state
from minissl.models.vgg import VGG16
from minissl.tensor import Tensor
from tests.models.torch_parity.harness import assert_equal_networks

pytest.importorskip("torch", reason="torch is not installed")


def twins(name: str) -> tuple[Callable[[], nn.Module], Any, tuple[int, ...]]:
    """Ours, theirs, and the shape of a batch of images, small and narrow but of every layer."""
    from benchmarks import torch_networks

    if name == "ResNet-18":
        return lambda: resnet18(8, 3, classes=5), torch_networks.ResNet([2, 2, 2, 2], 1, 8, 3, 5), (4, 48, 40, 3)
    if name == "ResNet-50":
        return lambda: resnet50(4, 2, classes=5), torch_networks.ResNet([3, 4, 6, 3], 4, 4, 2, 5), (4, 48, 40, 2)
    if name == "AlexNet":
        return lambda: AlexNet(4, 5, 4, 12, dropout=0), torch_networks.alexnet(4, 12, 4, 5), (3, 127, 160, 4)
    if name == "AlexNet, small images":
        return lambda: AlexNet(3, 5, 4, 12, 2, 0), torch_networks.alexnet(4, 12, 3, 5, 2), (3, 64, 36, 3)
    return lambda: VGG16(13, 5, 4, 12, 0), torch_networks.vgg16(4, 12, 13, 5), (2, 64, 40, 13)


@pytest.mark.parametrize("name", ["ResNet-18", "ResNet-50", "AlexNet", "AlexNet, small images", "VGG-16"])
def test_equals_pytorch(name: str) -> None:
    random.seed(1)
    make, theirs, shape = twins(name)
    assert_equal_networks(make(), theirs, np.random.default_rng(2).normal(size=shape), make())


def test_in_float32_to_four_digits() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from benchmarks import torch_networks

    torch.manual_seed(0)
    theirs, ours = torch_networks.ResNet([3, 4, 6, 3], 4, 8, 3, 5).eval(), resnet50(8, classes=5).eval()
    load_torch_state(ours, theirs.state_dict())
    x = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32")
    expected = theirs(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).detach().numpy()
    y = ours(Tensor(x)).data
    assert y.dtype == "float32"
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4 * float(np.abs(expected).max()))
