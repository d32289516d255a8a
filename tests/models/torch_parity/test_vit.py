"""The vision transformer against the same one in PyTorch, under timm's names."""

from typing import Any

import numpy as np
import pytest

from minissl import random
from minissl.models.torch_state import torch_state
from minissl.models.vit import VisionTransformer
from minissl.tensor import Tensor
from tests.models.torch_parity.harness import assert_close, assert_equal_networks, channels_first

pytest.importorskip("torch", reason="torch is not installed")


def ours(gelu: Any, fixed: bool = False) -> VisionTransformer:
    return VisionTransformer(12, 4, 3, 8, 3, 2, fixed_positions=fixed, classes=5, gelu=gelu)


def theirs(gelu: str) -> Any:
    from benchmarks import torch_transformers

    return torch_transformers.VisionTransformer(12, 4, 3, 8, 3, 2, 5, gelu)


@pytest.fixture
def images() -> np.ndarray:
    random.seed(1)
    return np.random.default_rng(2).normal(size=(3, 12, 12, 3))


def test_equals_pytorch(images: np.ndarray) -> None:
    assert_equal_networks(ours("tanh"), theirs("tanh"), images, ours("tanh"))


def test_the_exact_gelu_is_timms(images: np.ndarray) -> None:
    """Within the error of our polynomial for erf; the other form of GELU is further off."""
    import torch

    found = {}
    for gelu in ("erf", "tanh"):
        random.seed(1)
        net, twin = ours(gelu).astype("float64"), theirs("none").double()
        twin.load_state_dict({name: torch.from_numpy(array) for name, array in torch_state(net).items()})
        expected = twin(torch.from_numpy(channels_first(images).copy())).detach().numpy()
        found[gelu] = np.abs(net(Tensor(images)).data - expected).max()
    assert found["erf"] < 1e-6 < 1e-5 < found["tanh"]


def test_every_stage_equals_pytorch(images: np.ndarray) -> None:
    import torch

    net, twin = ours("tanh").astype("float64"), theirs("tanh").double()
    twin.load_state_dict({name: torch.from_numpy(array) for name, array in torch_state(net).items()})
    x = twin.embed(torch.from_numpy(channels_first(images).copy()))
    assert_close(net.features(Tensor(images), "embed").data, x.detach().numpy(), "embed")
    for i, block in enumerate(twin.blocks):
        x = block(x)
        assert_close(net.features(Tensor(images), f"blocks.{i}").data, x.detach().numpy(), f"blocks.{i}")
