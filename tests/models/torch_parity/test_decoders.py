"""U-Net and the convolutional autoencoder against the same ones in PyTorch, under our own names."""

import numpy as np
import pytest

from minissl import random
from minissl.models.autoencoder import ConvAutoencoder
from minissl.models.segmentation import UNet
from tests.models.torch_parity.harness import assert_equal_networks

pytest.importorskip("torch", reason="torch is not installed")


@pytest.mark.parametrize(("channels", "depth"), [(2, 1), (3, 2)])
def test_unet_equals_pytorch(channels: int, depth: int) -> None:
    from benchmarks import torch_networks

    random.seed(1)
    images = np.random.default_rng(2).normal(size=(2, 12, 8, channels))
    make = lambda: UNet(4, channels, 3, depth)
    assert_equal_networks(make(), torch_networks.UNet(4, channels, 3, depth), images, make())


def test_autoencoder_equals_pytorch() -> None:
    from benchmarks import torch_networks

    random.seed(1)
    images = np.random.default_rng(2).normal(size=(6, 24, 24, 2))
    make = lambda: ConvAutoencoder(24, 2, 4, 3, 5)
    assert_equal_networks(make(), torch_networks.ConvAutoencoder(24, 2, 4, 3, 5), images, make())
