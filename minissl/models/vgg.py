"""VGG-16 (Simonyan and Zisserman, 2015, "Very Deep Convolutional Networks for Large-Scale Image Recognition").

Thirteen convolutions of 3x3 pixels in five blocks, each of which halves the image, and three linear layers.
"""

from collections.abc import Iterator

from minissl import nn, ops
from minissl.models.alexnet import FlattenedLinear
from minissl.models.backbone import Backbone
from minissl.tensor import Tensor


class VGG16(Backbone):
    """(N, H, W, channels) -> logits (N, classes); without `classes` the pixel mean of block5, (N, 8·width).

    Stages block1 to block5 include the max-pooling at their end. fc6 and fc7 (N, hidden), and fc8, the classifier, are
    there with `classes` only, and then features are those of fc7: these layers hold 124 of 138 million parameters.
    Images have 32 x 32 pixels at least.
    """

    stages: tuple[str, ...] = ("block1", "block2", "block3", "block4", "block5")
    fc8: nn.Linear | None

    def __init__(
        self,
        channels: int = 3,
        classes: int | None = None,
        width: int = 64,
        hidden: int = 4096,
        dropout: float = 0.5,
    ) -> None:
        self.torch_names = {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}
        place = 0  # in torchvision's list of all layers
        inputs = channels
        for name, factor, convolutions in zip(self.stages, (1, 2, 4, 8, 8), (2, 2, 3, 3, 3), strict=True):
            layers: list[nn.Module] = []
            for _ in range(convolutions):
                self.torch_names[f"{name}.{len(layers)}"] = f"features.{place + len(layers)}"
                layers += [nn.Conv2d(inputs, factor * width, 3, 1, 1), nn.ReLU()]
                inputs = factor * width
            layers.append(nn.MaxPool2d(2))
            setattr(self, name, nn.Sequential(*layers))
            place += len(layers)
        if classes is None:
            self.out_features, self.fc8 = 8 * width, None
        else:
            self.stages, self.out_features = (*self.stages, "fc6", "fc7"), hidden
            self.fc6 = FlattenedLinear(7, 8 * width, hidden)
            self.fc7 = nn.Linear(hidden, hidden)
            self.fc8 = nn.Linear(hidden, classes)
        self.dropout = nn.Dropout(dropout)

    def run(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        if min(x.shape[1:3]) < 32:
            raise ValueError(f"VGG16: expected images of at least 32 x 32 pixels, got {x.shape[1:3]}; enlarge them")
        for name in self.stages[:5]:
            yield name, (x := getattr(self, name)(x))  # (N, H/2ᵇ, W/2ᵇ, C) after block b
        if self.fc8 is not None:
            x = ops.adaptive_average_pool2d(x, 7)  # (N, 7, 7, 8·width)
            yield "fc6", (x := ops.relu(self.fc6(x)))  # (N, hidden)
            yield "fc7", ops.relu(self.fc7(self.dropout(x)))

    def pool(self, x: Tensor) -> Tensor:
        return super().pool(x) if self.fc8 is None else x

    def classify(self, h: Tensor) -> Tensor:
        return h if self.fc8 is None else self.fc8(self.dropout(h))
