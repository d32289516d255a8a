"""AlexNet (Krizhevsky et al., 2012, "ImageNet Classification with Deep Convolutional Neural Networks").

Five convolutions and three linear layers: the network in which most pretext tasks were first tried, and whose layers
conv1 to conv5 they were compared by. As in torchvision: one tower (Krizhevsky, 2014, "One weird trick"), without local
response normalization.
"""

from collections.abc import Iterator
from typing import ClassVar

from minissl import nn, ops
from minissl.models.backbone import Backbone
from minissl.tensor import Tensor


class FlattenedLinear(nn.Linear):
    """One linear layer over all pixels and channels of small images: (N, size, size, C) -> (N, D_out).

    Rows of the weight (size²·C, D_out) are in the order (row, column, channel); PyTorch's are (channel, row, column).
    """

    def __init__(self, size: int, channels: int, outputs: int) -> None:
        super().__init__(size * size * channels, outputs)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.reshape(len(x), -1))


class AlexNet(Backbone):
    """(N, H, W, channels) -> logits (N, classes); without `classes` the pixel mean of conv5, (N, 4·width).

    Stages conv1 to conv5 include the ReLU, and in 1, 2 and 5 the max-pooling that follows. fc6 and fc7 (N, hidden), and
    fc8, the classifier, are there with `classes` only, and then features are those of fc7: these layers hold 58.6 of 61
    million parameters, and what they add to the convolutions is about the classes they were trained for.

    stride of conv1: 4 asks for images of 63 pixels at least, 2, as the jigsaw network has it, for 35, and 1 for 21.
    """

    stages: tuple[str, ...] = ("conv1", "conv2", "conv3", "conv4", "conv5")
    fc8: nn.Linear | None
    torch_names: ClassVar = {
        **{f"conv{i}": f"features.{j}" for i, j in enumerate((0, 3, 6, 8, 10), 1)},
        **{f"fc{i}": f"classifier.{j}" for i, j in enumerate((1, 4, 6), 6)},
    }

    def __init__(
        self,
        channels: int = 3,
        classes: int | None = None,
        width: int = 64,
        hidden: int = 4096,
        stride: int = 4,
        dropout: float = 0.5,
    ) -> None:
        self.conv1 = nn.Conv2d(channels, width, 11, stride, 2)
        self.conv2 = nn.Conv2d(width, 3 * width, 5, 1, 2)
        self.conv3 = nn.Conv2d(3 * width, 6 * width, 3, 1, 1)
        self.conv4 = nn.Conv2d(6 * width, 4 * width, 3, 1, 1)
        self.conv5 = nn.Conv2d(4 * width, 4 * width, 3, 1, 1)
        if classes is None:
            self.out_features, self.fc8 = 4 * width, None
        else:
            self.stages, self.out_features = (*self.stages, "fc6", "fc7"), hidden
            self.fc6 = FlattenedLinear(6, 4 * width, hidden)
            self.fc7 = nn.Linear(hidden, hidden)
            self.fc8 = nn.Linear(hidden, classes)
        self.dropout = nn.Dropout(dropout)
        self.least = 14 * stride + 7  # so that 15 pixels leave conv1, and 7, 3 and 1 the poolings

    def run(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        if min(x.shape[1:3]) < self.least:
            raise ValueError(
                f"AlexNet: expected images of at least {self.least} x {self.least} pixels with stride "
                f"{self.conv1.stride}, got {x.shape[1:3]}; enlarge them, or choose a smaller stride"
            )
        for name in self.stages[:5]:
            x = ops.relu(getattr(self, name)(x))
            yield name, (x := ops.max_pool2d(x, 3, 2) if name in ("conv1", "conv2", "conv5") else x)
        if self.fc8 is not None:
            x = ops.adaptive_average_pool2d(x, 6)  # (N, 6, 6, 4·width)
            yield "fc6", (x := ops.relu(self.fc6(self.dropout(x))))  # (N, hidden)
            yield "fc7", ops.relu(self.fc7(self.dropout(x)))

    def pool(self, x: Tensor) -> Tensor:
        return super().pool(x) if self.fc8 is None else x

    def classify(self, h: Tensor) -> Tensor:
        return h if self.fc8 is None else self.fc8(h)
