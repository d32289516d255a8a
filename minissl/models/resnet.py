"""ResNet-18 (He et al., 2016, "Deep Residual Learning for Image Recognition").

Every block adds a correction to its input, y = relu(x + f(x)); names of parameters follow torchvision.
"""

from collections.abc import Iterator
from typing import Literal

from minissl import nn, ops
from minissl.models.backbone import Backbone
from minissl.tensor import Tensor

Stem = Literal["imagenet", "cifar", "halving"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: (N, H, W, C_in) -> (N, H/stride, W/stride, C_out)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm(outputs, relu=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:  # the shortcut must reach the same shape
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.bn1(self.conv1(x))
        y = self.bn2(self.conv2(y))
        return ops.add_relu(y, shortcut)


class ResNet(Backbone):
    """Stem, four stages of residual blocks with 1, 2, 4, 8 times `width` channels, and a mean over all pixels.

    (N, H, W, channels) -> features (N, 8·width). Stems: "imagenet", 7x7 at stride 2 and max-pooling, for images of
    about 224 pixels (output stride 4); "cifar", 3x3 at stride 1, for about 32; "halving", 3x3 at stride 2, between.
    """

    stages = ("stem", "layer1", "layer2", "layer3", "layer4")

    def __init__(
        self,
        blocks: tuple[int, int, int, int],
        width: int = 64,
        channels: int = 3,
        stem: Stem = "imagenet",
    ) -> None:
        stems = {"imagenet": (7, 2), "cifar": (3, 1), "halving": (3, 2)}
        if stem not in stems:
            raise ValueError(f"ResNet: expected a stem among {', '.join(map(repr, stems))}, got {stem!r}")
        size, stride = stems[stem]
        self.conv1 = nn.Conv2d(channels, width, size, stride, size // 2, bias=False)
        self.bn1 = nn.BatchNorm(width, relu=True)
        self.pool_stem = nn.MaxPool2d(3, 2, 1) if stem == "imagenet" else nn.Identity()
        self.layer1 = stage(width, width, blocks[0], 1)
        self.layer2 = stage(width, 2 * width, blocks[1], 2)
        self.layer3 = stage(2 * width, 4 * width, blocks[2], 2)
        self.layer4 = stage(4 * width, 8 * width, blocks[3], 2)
        self.out_features = 8 * width

    def run(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        yield "stem", (x := self.pool_stem(self.bn1(self.conv1(x))))  # (N, H/s, W/s, width)
        for name in self.stages[1:]:
            yield name, (x := getattr(self, name)(x))  # the last: (N, H/8s, W/8s, 8·width)


def stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    """Blocks of one width; the first changes the channels and the size."""
    first = BasicBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs) for _ in range(blocks - 1)))


def resnet18(width: int = 64, channels: int = 3, stem: Stem = "imagenet") -> ResNet:
    """ResNet-18: two blocks a stage. 11.2 million parameters at width 64."""
    return ResNet((2, 2, 2, 2), width, channels, stem)
