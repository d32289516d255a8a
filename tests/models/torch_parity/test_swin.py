"""The Swin transformer against the same one in PyTorch, under timm's names."""

from collections.abc import Callable

import numpy as np
import pytest

from minissl import random
from minissl.models.swin import SwinTransformer
from tests.models.torch_parity.harness import assert_equal_networks

pytest.importorskip("torch", reason="torch is not installed")


def network(window: int, patch: int, channels: int) -> Callable[[], SwinTransformer]:
    return lambda: SwinTransformer((2, 2, 1, 1), (1, 2, 2, 4), 4, window, patch, channels, 5)


@pytest.mark.parametrize(
    ("window", "patch", "shape"),
    [
        (2, 2, (2, 16, 16, 3)),  # every map is divided, but for the last: one token in a window of four
        (3, 2, (2, 18, 26, 2)),  # padded to the right: 9x13 to 9x15; merged with a padded row and column
        (4, 4, (2, 16, 40, 1)),  # one window high, three wide: shifted to the side only
        (7, 4, (2, 20, 24, 4)),  # one window covers everything: no shift
    ],
)
def test_equals_pytorch(window: int, patch: int, shape: tuple[int, ...]) -> None:
    from benchmarks import torch_transformers

    random.seed(1)
    make, images = network(window, patch, shape[3]), np.random.default_rng(2).normal(size=shape)
    theirs = torch_transformers.SwinTransformer((2, 2, 1, 1), (1, 2, 2, 4), 4, window, patch, shape[3], 5, "tanh")
    assert_equal_networks(make(), theirs, images, make())
