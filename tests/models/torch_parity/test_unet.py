"""U-Net against the same one in PyTorch, under our own names."""

from typing import Any

import numpy as np
import pytest

from minissl import random
from minissl.models.segmentation import UNet
from tests.models.torch_parity.harness import assert_equal_networks

pytest.importorskip("torch", reason="torch is not installed")


def twin(classes: int, channels: int, width: int, depth: int) -> Any:
    import torch
    from torch import nn

    def double_convolution(inputs: int, outputs: int) -> Any:
        """Numbered as in ours, where a ReLU is part of the BatchNorm before it."""
        pair = nn.Module()
        pair.add_module("0", nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False))
        pair.add_module("1", nn.BatchNorm2d(outputs))
        pair.add_module("2", nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False))
        pair.add_module("3", nn.BatchNorm2d(outputs))
        layers = list(pair.children())
        pair.forward = lambda x: torch.relu(layers[3](layers[2](torch.relu(layers[1](layers[0](x))))))
        return pair

    class Twin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder: Any = nn.Module()
            for i in range(depth + 1):
                self.encoder.add_module(f"down{i}", double_convolution(width << i - 1 if i else channels, width << i))
            for i in range(depth):
                self.add_module(f"up{i}", nn.ConvTranspose2d(width << i + 1, width << i, 2, 2))
                self.add_module(f"join{i}", double_convolution(width << i + 1, width << i))
            self.head = nn.Conv2d(width, classes, 1)

        def forward(self, x: Any) -> Any:
            maps = [x := self.encoder.down0(x)]
            for i in range(1, depth + 1):
                maps.append(x := getattr(self.encoder, f"down{i}")(nn.functional.max_pool2d(x, 2)))
            for i in reversed(range(depth)):
                x = getattr(self, f"join{i}")(torch.cat([maps[i], getattr(self, f"up{i}")(x)], 1))
            return self.head(x)

    return Twin()


@pytest.mark.parametrize(("channels", "depth"), [(2, 1), (3, 2)])
def test_equals_pytorch(channels: int, depth: int) -> None:
    random.seed(1)
    images = np.random.default_rng(2).normal(size=(2, 12, 8, channels))
    make = lambda: UNet(4, channels, 3, depth)
    assert_equal_networks(make(), twin(4, channels, 3, depth), images, make())
