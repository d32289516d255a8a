"""Networks: their names, their shapes, and ResNet-18 against the same network written in PyTorch."""

from typing import Any

import numpy as np
import pytest

from minissl import models, nn, random
from minissl.gradcheck import gradcheck
from minissl.tensor import Tensor


@pytest.fixture(autouse=True)
def numbers() -> np.random.Generator:
    random.seed(0)
    return np.random.default_rng(0)


def norm(name: str) -> list[str]:
    return [f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]


def torchvision_names() -> list[str]:
    """The names of torchvision's resnet18, without fc and num_batches_tracked."""
    names = ["conv1.weight", *norm("bn1")]
    for layer in (1, 2, 3, 4):
        for block in (0, 1):
            here = f"layer{layer}.{block}"
            names += [f"{here}.conv1.weight", *norm(f"{here}.bn1"), f"{here}.conv2.weight", *norm(f"{here}.bn2")]
            if layer > 1 and block == 0:
                names += [f"{here}.downsample.0.weight", *norm(f"{here}.downsample.1")]
    return names


def test_names_and_their_order_follow_torchvision() -> None:
    net = models.resnet18(width=8)
    assert list(net.state_dict()) == torchvision_names()
    assert "layer2.0.downsample.0.weight" in net.state_dict() and "layer1.0.downsample.0.weight" not in net.state_dict()
    assert net.layer2.state_dict()["0.downsample.0.weight"].shape == (1, 1, 8, 16)
    assert net.state_dict()["layer4.1.conv2.weight"].shape == (3, 3, 64, 64)


def test_resnet18_has_as_many_parameters_as_the_paper() -> None:
    assert models.resnet18().parameter_count() == 11_176_512  # torchvision's 11,689,512 less its classifier's 513,000


@pytest.mark.parametrize(
    ("stem", "stride", "conv1"), [("imagenet", 32, (7, 7)), ("cifar", 8, (3, 3)), ("halving", 16, (3, 3))]
)
@pytest.mark.parametrize(("width", "channels"), [(4, 3), (8, 1), (4, 2), (4, 13)])
def test_feature_shapes(stem: Any, stride: int, conv1: tuple[int, int], width: int, channels: int) -> None:
    net = models.resnet18(width, channels, stem)
    assert net.conv1.weight.shape == (*conv1, channels, width) and net.conv1.bias is None
    assert net.out_features == 8 * width
    x = Tensor(np.random.default_rng(0).normal(size=(2, 64, 96, channels)).astype("float32"))
    before_pooling: list[Tensor] = []
    last = net.layer4

    class Watched(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            before_pooling.append(last(x))
            return before_pooling[0]

    net.layer4 = Watched()  # type: ignore[assignment]
    features = net(x)
    assert features.shape == (2, 8 * width) and features.dtype == "float32"
    assert before_pooling[0].shape == (2, 64 // stride, 96 // stride, 8 * width)
    np.testing.assert_allclose(features.data, before_pooling[0].data.mean(axis=(1, 2)), rtol=1e-5)


def test_sizes_that_no_stride_divides() -> None:
    net = models.resnet18(4, stem="cifar")
    assert net(Tensor(np.ones((2, 33, 19, 3), "float32"))).shape == (2, 32)


def test_an_unknown_stem_is_an_error() -> None:
    with pytest.raises(ValueError, match="a stem among 'imagenet', 'cifar', 'halving', got 'large'"):
        models.resnet18(8, 3, "large")  # type: ignore[arg-type]


def test_every_parameter_receives_a_gradient_and_every_average_moves() -> None:
    net = models.resnet18(4, stem="cifar")
    before = {name: array.copy() for name, array in net.state_dict().items() if "running" in name}
    net(Tensor(np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype("float32"))).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())
    assert all((array != before[name]).any() for name, array in net.state_dict().items() if "running" in name)


def test_in_evaluation_an_image_does_not_depend_on_its_batch() -> None:
    net = models.resnet18(4, stem="cifar").astype("float64")
    x = np.random.default_rng(0).normal(size=(3, 16, 16, 3))
    net(Tensor(x))
    together = net.eval()(Tensor(x)).data
    for i in range(3):
        np.testing.assert_allclose(net(Tensor(x[i : i + 1])).data[0], together[i], rtol=1e-10)


def torch_resnet18(torch: Any, width: int, stem: str) -> Any:
    """The same network in PyTorch's own layers, channels first, under torchvision's names."""
    T = torch.nn

    class Block(T.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.conv1 = T.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = T.BatchNorm2d(outputs)
            self.conv2 = T.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = T.BatchNorm2d(outputs)
            self.downsample = None
            if stride != 1 or inputs != outputs:
                self.downsample = T.Sequential(T.Conv2d(inputs, outputs, 1, stride, bias=False), T.BatchNorm2d(outputs))

        def forward(self, x: Any) -> Any:
            shortcut = x if self.downsample is None else self.downsample(x)
            return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + shortcut)

    size, stride = {"imagenet": (7, 2), "cifar": (3, 1), "halving": (3, 2)}[stem]
    net = T.Module()
    net.conv1, net.bn1 = T.Conv2d(3, width, size, stride, size // 2, bias=False), T.BatchNorm2d(width)
    for i, (inputs, outputs, stride) in enumerate([(1, 1, 1), (1, 2, 2), (2, 4, 2), (4, 8, 2)], 1):
        first = Block(inputs * width, outputs * width, stride)
        net.add_module(f"layer{i}", T.Sequential(first, Block(outputs * width, outputs * width, 1)))

    def forward(x: Any) -> Any:
        x = torch.relu(net.bn1(net.conv1(x)))
        x = T.functional.max_pool2d(x, 3, 2, 1) if stem == "imagenet" else x
        return net.layer4(net.layer3(net.layer2(net.layer1(x)))).mean(dim=(2, 3))

    net.forward = forward
    return net.double()


def as_torch(array: np.ndarray) -> np.ndarray:
    """(kh, kw, C, O) -> (O, C, kh, kw); vectors as they are."""
    return np.ascontiguousarray(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array)


@pytest.mark.parametrize(("stem", "side"), [("imagenet", 32), ("cifar", 12), ("halving", 16)])
def test_resnet18_equals_pytorch(stem: Any, side: int, numbers: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    ours, theirs = models.resnet18(8, 3, stem).astype("float64"), torch_resnet18(torch, 8, stem)
    for parameter in ours.parameters():
        if parameter.ndim == 1:  # so that γ and β matter
            parameter.data = numbers.uniform(0.5, 1.5, parameter.shape)
    missing, unexpected = theirs.load_state_dict(
        {name: torch.from_numpy(as_torch(array).copy()) for name, array in ours.state_dict().items()}, strict=False
    )
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)

    x, weights = numbers.normal(size=(3, side, side - 4, 3)), numbers.normal(size=(3, 64))
    y, y_torch = ours(Tensor(x)), theirs(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    np.testing.assert_allclose(y.data, y_torch.detach().numpy(), rtol=1e-6, atol=1e-6)
    y.backward(weights)
    y_torch.backward(torch.from_numpy(weights))
    gradients = {name: parameter.grad.numpy() for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        scale = np.abs(gradients[name]).max()
        np.testing.assert_allclose(as_torch(parameter.grad), gradients[name], rtol=1e-6, atol=1e-6 * scale)
    for name, array in ours.state_dict().items():
        np.testing.assert_allclose(as_torch(array), theirs.state_dict()[name].numpy(), rtol=1e-6, atol=1e-6)
    evaluated = theirs.eval()(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).detach().numpy()
    np.testing.assert_allclose(ours.eval()(Tensor(x)).data, evaluated, rtol=1e-6, atol=1e-6)


def test_mlp_alternates_linear_and_relu(numbers: np.random.Generator) -> None:
    net = models.mlp(4, 6, 5, 3).astype("float64")
    shapes = {name: array.shape for name, array in net.state_dict().items()}
    assert shapes == {
        "0.weight": (4, 6),
        "0.bias": (6,),
        "2.weight": (6, 5),
        "2.bias": (5,),
        "4.weight": (5, 3),
        "4.bias": (3,),
    }
    x = numbers.normal(size=(7, 4))
    w0, b0, w2, b2, w4, b4 = net.state_dict().values()
    expected = np.maximum(np.maximum(x @ w0 + b0, 0) @ w2 + b2, 0) @ w4 + b4
    np.testing.assert_allclose(net(Tensor(x)).data, expected, rtol=1e-12)


def test_mlp_with_batch_norm_leaves_the_bias_to_it() -> None:
    net = models.mlp(4, 6, 3, batch_norm=True)
    assert list(net.state_dict()) == ["0.weight", *norm("1"), "2.weight", "2.bias"]
    x = np.random.default_rng(0).normal(size=(5, 4))
    w0, _, _, _, _, w2, b2 = net.astype("float64").state_dict().values()
    hidden = x @ w0
    hidden = np.maximum((hidden - hidden.mean(axis=0)) / np.sqrt(hidden.var(axis=0) + 1e-5), 0)
    np.testing.assert_allclose(net(Tensor(x)).data, hidden @ w2 + b2, rtol=1e-10)


def test_mlp_of_two_sizes_is_one_linear_layer() -> None:
    assert [type(module) for _, module in models.mlp(4, 3, batch_norm=True).children()] == [nn.Linear]


@pytest.mark.parametrize("sizes", [(), (4,)])
def test_mlp_needs_two_sizes(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="mlp: expected an input and an output size"):
        models.mlp(*sizes)


def test_mlp_gradient(numbers: np.random.Generator) -> None:
    net = models.mlp(3, 4, 2, batch_norm=True).astype("float64")
    gradcheck(net, numbers.normal(size=(5, 3)), tolerance=1e-5)
