"""ResNets, AlexNet and VGG-16: stages, sizes, channels, parameters as published, gradients, selective kernels."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minissl import nn, ops, random
from minissl.models.alexnet import AlexNet
from minissl.models.backbone import Backbone
from minissl.models.resnet import (
    SelectiveKernel,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
)
from minissl.models.vgg import VGG16
from minissl.nn import initializers
from minissl.tensor import Tensor
from tests.modules import check_module

Make = Callable[..., Backbone]

# Small and narrow; each takes channels and classes.
NARROW: dict[str, Make] = {
    "ResNet-18": lambda C, K=None: resnet18(4, C, "halving", K),
    "ResNet-50": lambda C, K=None: resnet50(4, C, "cifar", K),
    "SK-ResNet-18": lambda C, K=None: resnet18(4, C, "halving", K, selective_kernels=True),
    "SK-ResNet-50": lambda C, K=None: resnet50(4, C, "imagenet", K, selective_kernels=True),
    "AlexNet": lambda C, K=None: AlexNet(C, K, 4, 12, 2),
    "VGG-16": lambda C, K=None: VGG16(C, K, 4, 12),
}


def images(*shape: int) -> Tensor:
    return Tensor(np.random.default_rng(0).normal(size=shape).astype("float32"))


@pytest.fixture
def weightless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters of any shape that take no memory and no time: one zero, seen from everywhere."""
    for name in ("zeros", "ones", "normal", "uniform"):
        monkeypatch.setattr(initializers, name, lambda shape, *_: np.broadcast_to(np.float32(0), shape))


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: resnet18(classes=1000), 11_689_512),
        (lambda: resnet34(classes=1000), 21_797_672),
        (lambda: resnet50(classes=1000), 25_557_032),
        (lambda: resnet101(classes=1000), 44_549_160),
        (lambda: resnet152(classes=1000), 60_192_808),
        (lambda: AlexNet(classes=1000), 61_100_840),
        (lambda: VGG16(classes=1000), 138_357_544),
    ],
    ids=["ResNet-18", "ResNet-34", "ResNet-50", "ResNet-101", "ResNet-152", "AlexNet", "VGG-16"],
)
def test_as_many_parameters_as_torchvision(weightless: None, make: Make, count: int) -> None:
    assert make().parameter_count() == count


STAGES: list[tuple[Backbone, tuple[int, int], dict[str, tuple[int, ...]]]] = [
    (
        resnet50(4, 2),
        (64, 96),
        {
            "stem": (16, 24, 4),
            "layer1": (16, 24, 16),
            "layer2": (8, 12, 32),
            "layer3": (4, 6, 64),
            "layer4": (2, 3, 128),
        },
    ),
    (
        AlexNet(2, 5, 4, 12),
        (224, 224),
        {
            "conv1": (27, 27, 4),
            "conv2": (13, 13, 12),
            "conv3": (13, 13, 24),
            "conv4": (13, 13, 16),
            "conv5": (6, 6, 16),
            "fc6": (12,),
            "fc7": (12,),
        },
    ),
    (
        VGG16(2, 5, 4, 12),
        (64, 96),
        {
            "block1": (32, 48, 4),
            "block2": (16, 24, 8),
            "block3": (8, 12, 16),
            "block4": (4, 6, 32),
            "block5": (2, 3, 32),
            "fc6": (12,),
            "fc7": (12,),
        },
    ),
]


@pytest.mark.parametrize(("net", "size", "shapes"), STAGES, ids=["ResNet-50", "AlexNet", "VGG-16"])
def test_every_stage_can_be_read(net: Backbone, size: tuple[int, int], shapes: dict[str, tuple[int, ...]]) -> None:
    net.eval()
    x = images(2, *size, 2)
    assert net.stages == tuple(shapes)
    outputs = dict(net.run(x))
    for name, shape in shapes.items():
        assert outputs[name].shape == (2, *shape)
        np.testing.assert_array_equal(net.features(x, name).data, outputs[name].data)
    assert net.features(x).shape == (2, net.out_features)
    with pytest.raises(ValueError, match="expected a stage among"):
        net.features(x, "conv9")


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 10, 13, 15])
def test_any_number_of_channels(name: str, channels: int) -> None:
    net = NARROW[name](channels)
    last = net.stages[-1]
    x = images(2, 40, 48, channels)
    features = net.eval()(x)
    assert features.shape == (2, net.out_features) and features.dtype == "float32"
    np.testing.assert_allclose(features.data, net.features(x, last).data.mean(axis=(1, 2)), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=f"C = {channels + 1}"):
        net(images(2, 40, 48, channels + 1))


@pytest.mark.parametrize("name", NARROW)
def test_logits_where_there_are_classes(name: str) -> None:
    net = NARROW[name](3, 7).eval()
    x = images(2, 37, 41, 3)
    logits, h = net(x), net.features(x)
    assert logits.shape == (2, 7) and h.shape == (2, net.out_features)
    np.testing.assert_array_equal(net.classify(h).data, logits.data)


@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_a_resnet_takes_images_of_any_size(height: int, width: int) -> None:
    for stem, s in (("imagenet", 4), ("halving", 2), ("cifar", 1)):
        net = resnet18(1, 2, stem).eval()  # type: ignore[arg-type]
        shape = net.features(Tensor(np.ones((1, height, width, 2), "float32")), "layer4").shape
        assert shape == (1, math.ceil(height / (8 * s)), math.ceil(width / (8 * s)), 8)


@pytest.mark.parametrize(
    ("net", "least"),
    [
        (AlexNet(1, 2, 1, 2, 4), 63),
        (AlexNet(1, 2, 1, 2, 2), 35),
        (AlexNet(1, 2, 1, 2, 1), 21),
        (VGG16(1, 2, 1, 2), 32),
    ],
    ids=["AlexNet", "AlexNet, stride 2", "AlexNet, stride 1", "VGG-16"],
)
def test_images_that_are_too_small_are_named(net: Backbone, least: int) -> None:
    assert net.features(images(1, least, least + 9, 1), net.stages[4]).shape[1] == 1
    assert net(images(1, least, least, 1)).shape == (1, 2)
    with pytest.raises(ValueError, match=rf"at least {least} x {least} pixels.*got \({least + 3}, {least - 1}\)"):
        net(images(1, least + 3, least - 1, 1))


@pytest.mark.parametrize("name", NARROW)
def test_every_parameter_receives_a_gradient_and_every_average_moves(name: str) -> None:
    random.seed(0)
    net = NARROW[name](3, 5)
    before = {key: array.copy() for key, array in net.state_dict().items() if "running" in key}
    (net(images(8, 48, 48, 3)) ** 2).sum().backward()
    assert [key for key, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert all((array != before[key]).any() for key, array in net.state_dict().items() if "running" in key)


@pytest.mark.parametrize("name", NARROW)
def test_in_evaluation_an_image_does_not_depend_on_its_batch(name: str) -> None:
    random.seed(0)
    net = NARROW[name](3, 5).astype("float64").eval()
    x = np.random.default_rng(0).normal(size=(3, 40, 40, 3))
    together = net(Tensor(x)).data
    np.testing.assert_allclose(net(Tensor(x[1:2])).data[0], together[1], rtol=1e-9)


@pytest.mark.parametrize(
    ("net", "places"),
    [(AlexNet(3, 5, 4, 12, 2), [(2, 6, 6, 16), (2, 12)]), (VGG16(3, 5, 4, 12), [(2, 12), (2, 12)])],
    ids=["AlexNet", "VGG-16"],
)
def test_dropout_stands_where_torchvision_has_it(net: Backbone, places: list[tuple[int, ...]]) -> None:
    """Before fc6 and fc7 in AlexNet, before fc7 and fc8 in VGG-16."""
    seen: list[tuple[int, ...]] = []

    def report(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(module, nn.Dropout):
            seen.append(inputs[0].shape)

    x = images(2, 64, 64, 3)
    with nn.watching(net, report):
        assert (net(x).data != net(x).data).any()
    assert seen == places * 2
    with nn.watching(net, report):
        net.features(x)
    assert len(seen) - 4 == (2 if isinstance(net, AlexNet) else 1)
    np.testing.assert_array_equal(net.eval()(x).data, net(x).data)


def test_width_multiplies_all_channels() -> None:
    for width in (4, 8):
        net = resnet50(width, 3)
        assert net.out_features == 32 * width
        shapes = {name: array.shape for name, array in net.state_dict().items()}
        assert shapes["conv1.weight"] == (7, 7, 3, width)
        assert shapes["layer3.1.conv2.weight"] == (3, 3, 4 * width, 4 * width)
        assert shapes["layer4.0.downsample.0.weight"] == (1, 1, 16 * width, 32 * width)


def test_a_selective_kernel_equals_its_formula() -> None:
    random.seed(0)
    layer: Any = SelectiveKernel(3, 4, 2).astype("float64").eval()
    x = np.random.default_rng(0).normal(size=(2, 7, 6, 3))
    u = layer.bn(layer.conv(Tensor(x))).data  # (N, 4, 3, 2·C)
    s = (u[..., :4] + u[..., 4:]).mean(axis=(1, 2))
    z = np.maximum(s @ layer.squeeze[0].weight.data / np.sqrt(1 + 1e-5), 0)  # BatchNorm as it starts
    logits = z @ layer.choose.weight.data
    first = 1 / (1 + np.exp(logits[:, 4:] - logits[:, :4]))[:, None, None]  # softmax over two
    np.testing.assert_allclose(layer(Tensor(x)).data, first * u[..., :4] + (1 - first) * u[..., 4:], rtol=1e-10)
    assert z.shape == (2, 32)  # max(C/16, 32)
    assert SelectiveKernel(3, 1024).state_dict()["squeeze.0.weight"].shape == (1024, 64)


def test_a_selective_kernels_gradient() -> None:
    random.seed(0)
    x = np.random.default_rng(0).normal(size=(4, 3, 3, 2))
    check_module(SelectiveKernel(2, 2), x, tolerance=1e-5)


def test_selective_kernels_stand_in_every_block() -> None:
    for net, name in ((resnet18(4, selective_kernels=True), "conv1"), (resnet50(4, selective_kernels=True), "conv2")):
        blocks = [block for layer in (net.layer1, net.layer2, net.layer3, net.layer4) for block in layer]
        assert all(isinstance(getattr(block, name), SelectiveKernel) for block in blocks)


def test_pooling_repeats_where_images_are_smaller_than_the_bins() -> None:
    x = images(1, 2, 1, 3)
    bins = ops.adaptive_average_pool2d(x, 4).data
    np.testing.assert_array_equal(bins, x.data.repeat(2, axis=1).repeat(4, axis=2))


def test_on_the_other_backend(cupy: Any) -> None:
    for name in ("SK-ResNet-18", "AlexNet"):
        random.seed(0)
        net = NARROW[name](2, 3).eval()
        x = images(2, 36, 36, 2)
        expected = net(x).data
        y = net.to("cupy")(Tensor(cupy.to_device(x.data)))
        np.testing.assert_allclose(cupy.to_host(y.data), expected, rtol=1e-4, atol=1e-5)
