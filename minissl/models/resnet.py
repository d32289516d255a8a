"""Residual networks (He et al., 2016, "Deep Residual Learning for Image Recognition"), ResNet-18 to ResNet-152.

Every block adds a correction to its input, y = relu(x + f(x)); names of parameters follow torchvision.
"""

from collections.abc import Iterator
from typing import Literal

from minissl import nn, ops
from minissl.models.backbone import Backbone
from minissl.tensor import Tensor

Stem = Literal["imagenet", "cifar", "halving"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: (N, H, W, C_in) -> (N, H/stride, W/stride, features)."""

    expansion = 1

    def __init__(self, inputs: int, features: int, stride: int = 1, selective: bool = False) -> None:
        self.conv1, self.bn1 = spatial(inputs, features, stride, selective)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm(features)
        self.downsample = shortcut(inputs, features, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x))
        y = self.bn2(self.conv2(y))
        return ops.add_relu(y, x if self.downsample is None else self.downsample(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut: (N, H, W, C_in) -> (N, H/stride, W/stride, 4·features).

    The costly 3x3 convolution works on `features` channels only. It has the stride, as in torchvision; the paper gives
    it to the first 1x1 convolution, which then skips three of four pixels.
    """

    expansion = 4

    def __init__(self, inputs: int, features: int, stride: int = 1, selective: bool = False) -> None:
        self.conv1 = nn.Conv2d(inputs, features, 1, bias=False)
        self.bn1 = nn.BatchNorm(features, relu=True)
        self.conv2, self.bn2 = spatial(features, features, stride, selective)
        self.conv3 = nn.Conv2d(features, 4 * features, 1, bias=False)
        self.bn3 = nn.BatchNorm(4 * features)
        self.downsample = shortcut(inputs, 4 * features, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x))
        y = self.bn2(self.conv2(y))
        y = self.bn3(self.conv3(y))
        return ops.add_relu(y, x if self.downsample is None else self.downsample(x))


def spatial(inputs: int, outputs: int, stride: int, selective: bool) -> tuple[nn.Module, nn.Module]:
    """A block's first 3x3 convolution, and the batch normalization and ReLU after it (a selective kernel has both)."""
    if selective:
        return SelectiveKernel(inputs, outputs, stride), nn.Identity()
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm(outputs, relu=True)


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """What brings a block's input to its output's shape; None where it has it already."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm(outputs))


class SelectiveKernel(nn.Module):
    """Two 3x3 convolutions, of which each image chooses for each channel: (N, H, W, C_in) -> (N, H', W', C).

        u₁, u₂ = relu(bn(conv(x)))     z = relu(bn(mean(u₁ + u₂) W))     a₁, a₂ = softmax over the two of z V
        y = a₁u₁ + a₂u₂

    with max(C/16, 32) features z of the whole image. The form of SimCLR v2 (Chen et al., 2020, "Big Self-Supervised
    Models are Strong Semi-Supervised Learners"); Li et al., 2019, "Selective Kernel Networks", choose between kernels
    of two sizes.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        hidden = max(outputs // 16, 32)
        self.conv = nn.Conv2d(inputs, 2 * outputs, 3, stride, 1, bias=False)
        self.bn = nn.BatchNorm(2 * outputs, relu=True)
        self.squeeze = nn.Sequential(nn.Linear(outputs, hidden, bias=False), nn.BatchNorm(hidden, relu=True))
        self.choose = nn.Linear(hidden, 2 * outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        u1, u2 = ops.split(self.bn(self.conv(x)), 2, axis=3)  # each (N, H', W', C)
        z = self.squeeze(u1.mean(axis=(1, 2)) + u2.mean(axis=(1, 2)))  # (N, hidden)
        N, C = len(u1), u1.shape[3]
        a = ops.softmax(self.choose(z).reshape(N, 2, 1, 1, C), axis=1)
        return a[:, 0] * u1 + a[:, 1] * u2


class ResNet(Backbone):
    """Stem, four stages of residual blocks with 1, 2, 4, 8 times `width` features, and a mean over all pixels.

    (N, H, W, channels) -> features (N, 8·width), 32·width with bottlenecks; or logits (N, classes). Images of any size.
    Stems: "imagenet", 7x7 at stride 2 and max-pooling, for images of about 224 pixels (output stride 4); "cifar", 3x3
    at stride 1, for about 32; "halving", 3x3 at stride 2, between.

    width 128 is SimCLR's "2x", with twice the channels everywhere; torchvision's wide_resnet50_2 doubles those inside
    the bottlenecks only. selective_kernels: a SelectiveKernel takes the place of each block's first 3x3 convolution.
    SimCLR v2 has these in bottlenecks, and with them a stem and shortcuts (ResNet-D) that are not here.
    """

    stages = ("stem", "layer1", "layer2", "layer3", "layer4")

    def __init__(
        self,
        blocks: tuple[int, int, int, int],
        width: int = 64,
        channels: int = 3,
        stem: Stem = "imagenet",
        classes: int | None = None,
        block: type[BasicBlock | Bottleneck] = BasicBlock,
        selective_kernels: bool = False,
    ) -> None:
        stems = {"imagenet": (7, 2), "cifar": (3, 1), "halving": (3, 2)}
        if stem not in stems:
            raise ValueError(f"ResNet: expected a stem among {', '.join(map(repr, stems))}, got {stem!r}")
        size, stride = stems[stem]
        self.conv1 = nn.Conv2d(channels, width, size, stride, size // 2, bias=False)
        self.bn1 = nn.BatchNorm(width, relu=True)
        self.pool_stem = nn.MaxPool2d(3, 2, 1) if stem == "imagenet" else nn.Identity()

        def stage(inputs: int, features: int, count: int, stride: int) -> nn.Sequential:
            outputs = block.expansion * features
            first = block(inputs, features, stride, selective_kernels)  # changes the channels and the size
            others = (block(outputs, features, 1, selective_kernels) for _ in range(count - 1))
            return nn.Sequential(first, *others)

        self.layer1 = stage(width, width, blocks[0], 1)
        self.layer2 = stage(block.expansion * width, 2 * width, blocks[1], 2)
        self.layer3 = stage(block.expansion * 2 * width, 4 * width, blocks[2], 2)
        self.layer4 = stage(block.expansion * 4 * width, 8 * width, blocks[3], 2)
        self.out_features = block.expansion * 8 * width
        self.fc = None if classes is None else nn.Linear(self.out_features, classes)

    def run(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        yield "stem", (x := self.pool_stem(self.bn1(self.conv1(x))))  # (N, H/s, W/s, width)
        for name in self.stages[1:]:
            yield name, (x := getattr(self, name)(x))  # the last: (N, H/8s, W/8s, out_features)

    def classify(self, h: Tensor) -> Tensor:
        return h if self.fc is None else self.fc(h)


def resnet18(
    width: int = 64,
    channels: int = 3,
    stem: Stem = "imagenet",
    classes: int | None = None,
    selective_kernels: bool = False,
) -> ResNet:
    """ResNet-18: two basic blocks a stage. 11.2 million parameters at width 64."""
    return ResNet((2, 2, 2, 2), width, channels, stem, classes, BasicBlock, selective_kernels)


def resnet34(
    width: int = 64,
    channels: int = 3,
    stem: Stem = "imagenet",
    classes: int | None = None,
    selective_kernels: bool = False,
) -> ResNet:
    """ResNet-34: 3, 4, 6, 3 basic blocks. 21.3 million parameters at width 64."""
    return ResNet((3, 4, 6, 3), width, channels, stem, classes, BasicBlock, selective_kernels)


def resnet50(
    width: int = 64,
    channels: int = 3,
    stem: Stem = "imagenet",
    classes: int | None = None,
    selective_kernels: bool = False,
) -> ResNet:
    """ResNet-50: 3, 4, 6, 3 bottlenecks. 23.5 million parameters at width 64."""
    return ResNet((3, 4, 6, 3), width, channels, stem, classes, Bottleneck, selective_kernels)


def resnet101(
    width: int = 64,
    channels: int = 3,
    stem: Stem = "imagenet",
    classes: int | None = None,
    selective_kernels: bool = False,
) -> ResNet:
    """ResNet-101: 3, 4, 23, 3 bottlenecks. 42.5 million parameters at width 64."""
    return ResNet((3, 4, 23, 3), width, channels, stem, classes, Bottleneck, selective_kernels)


def resnet152(
    width: int = 64,
    channels: int = 3,
    stem: Stem = "imagenet",
    classes: int | None = None,
    selective_kernels: bool = False,
) -> ResNet:
    """ResNet-152: 3, 8, 36, 3 bottlenecks. 58.1 million parameters at width 64."""
    return ResNet((3, 8, 36, 3), width, channels, stem, classes, Bottleneck, selective_kernels)
