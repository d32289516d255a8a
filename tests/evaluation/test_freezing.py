"""Freezing up to a stage: exactly what the stage needs, found without a table of names."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from minissl import models, nn, ops, optim, random
from minissl.evaluation import eval_frozen, freezable, freeze
from minissl.models.autoencoder import ConvEncoder
from minissl.models.backbone import Backbone
from minissl.models.segmentation import UNetEncoder, double_convolution
from minissl.models.swin import SwinTransformer
from minissl.models.vit import VisionTransformer
from minissl.tensor import Tensor


class Halves(Backbone):
    """Two networks side by side, each with its own channels: no module has the name of a stage."""

    stages = ("first", "second")
    out_features = 8

    def __init__(self) -> None:
        self.d, self.c = double_convolution(4, 4), double_convolution(4, 4)
        self.b, self.a = double_convolution(2, 4), double_convolution(1, 4)

    def run(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        left, right = self.a(x[..., :1]), self.b(x[..., 1:])
        yield "first", ops.concatenate([left, right], axis=3)
        yield "second", ops.concatenate([self.c(left), self.d(right)], axis=3)


BACKBONES = {
    "ResNet": lambda: models.resnet18(4, 3, "halving"),
    "Swin": lambda: SwinTransformer((1, 1, 1, 1), (1, 1, 2, 2), 4, 2, 2, 3),
    "ViT": lambda: VisionTransformer(16, 4, 3, 8, 3, 2, drop_path=0.5),
    "convolutions": lambda: ConvEncoder(16, 3, 4, 2, 5),
    "U-Net's": lambda: UNetEncoder(3, 4, 2),
    "two halves": Halves,
}
X = np.zeros((1, 16, 16, 3), "float32")


def make(name: str) -> Any:
    random.seed(0)
    return BACKBONES[name]()


def middle(net: Backbone) -> str:
    return net.stages[(len(net.stages) - 1) // 2]


@pytest.mark.parametrize("name", BACKBONES)
def test_what_is_frozen_is_what_the_stage_needs(name: str) -> None:
    """Noise in any frozen parameter moves the output of the stage, and noise in all others together does not."""
    net = make(name)
    stage = middle(net)
    freeze(net, stage, X)
    rng = np.random.default_rng(0)
    x = Tensor(rng.standard_normal((1, 16, 16, 3), "float32"))

    def output() -> Any:
        return net.eval().features(x, stage).data

    before = output()
    for parameter in net.parameters():
        if not parameter.requires_grad:
            kept = parameter.data
            parameter.data = kept + rng.standard_normal(kept.shape, "float32")
            assert (output() != before).any()
            parameter.data = kept
    for parameter in net.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + rng.standard_normal(parameter.shape, "float32")
    np.testing.assert_array_equal(output(), before)


@pytest.mark.parametrize("name", BACKBONES)
def test_frozen_weights_and_averages_stand_still_to_the_bit_and_all_others_change(name: str) -> None:
    net = make(name)
    stage = middle(net)
    freeze(net, stage, X)
    before = {key: array.tobytes() for key, array in net.state_dict().items()}
    optimizer, rng = optim.AdamW(net.parameters(), 0.01, weight_decay=0.1), np.random.default_rng(0)
    eval_frozen(net.train())
    x = Tensor(rng.standard_normal((4, 16, 16, 3), "float32"))
    outputs = []
    for _ in range(2):
        outputs.append(net.features(x, stage).data)
        (net(x) * rng.standard_normal((4, net.out_features), "float32")).sum().backward()
        optimizer.step()
        net.zero_grad()
    np.testing.assert_array_equal(outputs[0], outputs[1])  # nor is anything dropped at random

    changed = {key for key, array in net.state_dict().items() if array.tobytes() != before[key]}
    learned = {key for key, parameter in net.named_parameters() if parameter.requires_grad}
    buffers = {key for key, tensor in net.named_tensors() if isinstance(tensor, nn.Buffer)}
    assert changed - buffers == learned
    # A BatchNorm's averages go with its weight.
    assert changed & buffers == {key for key in buffers if f"{key.rpartition('.')[0]}.weight" in learned}


def test_all_and_none() -> None:
    net = make("ResNet")
    freeze(net, "none", X)
    assert all(parameter.requires_grad for parameter in net.parameters())
    eval_frozen(net.train())
    assert all(module.training for module in net.modules() if module.parameters())
    freeze(net, "all", X)
    assert not any(parameter.requires_grad for parameter in net.parameters())
    eval_frozen(net.train())
    assert not any(module.training for module in net.modules())


def test_the_trial_leaves_modes_averages_and_gradients_alone() -> None:
    net = make("ResNet")
    net.layer1.eval()
    before = {key: array.tobytes() for key, array in net.state_dict().items()}
    freeze(net, "layer2", X)
    assert net.training and not net.layer1.training
    assert before == {key: array.tobytes() for key, array in net.state_dict().items()}
    assert all(parameter.grad is None for parameter in net.parameters())


def test_an_unknown_stage_names_the_known_ones() -> None:
    message = "freeze: expected one of none, stem, layer1, layer2, layer3, layer4, all for ResNet, got 'layer9'"
    with pytest.raises(ValueError, match=message):
        freeze(make("ResNet"), "layer9", X)
    with pytest.raises(ValueError, match="expected one of none, all for Sequential, got 'layer1'"):
        freeze(nn.Sequential(nn.Linear(3, 2)), "layer1", X)
    assert freezable(nn.Linear(3, 2)) == ("none", "all")
