"""Networks in PyTorch's own layers, channels first, under the names of `minissl.models.torch_state`. Needs PyTorch.

minissl is timed beside these, and its tests hold it equal to them. Transformers: `torch_transformers.py`.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """torchvision's BasicBlock (expansion 1) and Bottleneck (expansion 4)."""

    def __init__(self, inputs: int, features: int, stride: int, expansion: int) -> None:
        super().__init__()
        outputs = expansion * features
        sizes = [3, 3] if expansion == 1 else [1, 3, 1]
        channels = [inputs, *[features] * (len(sizes) - 1), outputs]
        self.depth = len(sizes)
        for i, size in enumerate(sizes):
            s = stride if i == sizes.index(3) else 1
            conv = nn.Conv2d(channels[i], channels[i + 1], size, s, size // 2, bias=False)
            self.add_module(f"conv{i + 1}", conv)
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(channels[i + 1]))
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Any) -> Any:
        y = x
        for i in range(1, self.depth + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = torch.relu(y) if i < self.depth else y
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """Expansion 1: ResNet-18 and 34; 4: ResNet-50 and deeper. Stems as minissl's; features without `classes`."""

    def __init__(
        self,
        blocks: list[int],
        expansion: int,
        width: int,
        channels: int,
        classes: int | None = None,
        stem: str = "imagenet",
    ) -> None:
        super().__init__()
        size, stride = {"imagenet": (7, 2), "cifar": (3, 1)}[stem]
        self.conv1 = nn.Conv2d(channels, width, size, stride, size // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if stem == "imagenet" else nn.Identity()
        inputs = width
        for i, count in enumerate(blocks):
            features, stage = width * 2**i, nn.Sequential()
            for j in range(count):
                stage.append(Block(inputs, features, 2 if i and not j else 1, expansion))
                inputs = expansion * features
            self.add_module(f"layer{i + 1}", stage)
        self.fc = nn.Identity() if classes is None else nn.Linear(inputs, classes)

    def forward(self, x: Any) -> Any:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for i in range(1, 5):
            x = getattr(self, f"layer{i}")(x)
        return self.fc(x.mean(dim=(2, 3)))


class Plain(nn.Module):
    """What torchvision's AlexNet and VGG have in common."""

    def __init__(self, features: list[nn.Module], size: int, classifier: list[nn.Module]) -> None:
        super().__init__()
        self.features, self.avgpool = nn.Sequential(*features), nn.AdaptiveAvgPool2d(size)
        self.classifier = nn.Sequential(*classifier)

    def forward(self, x: Any) -> Any:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def alexnet(width: int, hidden: int, channels: int, classes: int, stride: int = 4) -> Plain:
    w = width
    features = [
        *(nn.Conv2d(channels, w, 11, stride, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(w, 3 * w, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(3 * w, 6 * w, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(6 * w, 4 * w, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(4 * w, 4 * w, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
    ]
    classifier = [
        *(nn.Dropout(0), nn.Linear(4 * w * 36, hidden), nn.ReLU()),
        *(nn.Dropout(0), nn.Linear(hidden, hidden), nn.ReLU()),
        nn.Linear(hidden, classes),
    ]
    return Plain(features, 6, classifier)


def vgg16(width: int, hidden: int, channels: int, classes: int) -> Plain:
    features: list[nn.Module] = []
    inputs = channels
    for factor, count in ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3)):
        for _ in range(count):
            features += [nn.Conv2d(inputs, factor * width, 3, padding=1), nn.ReLU()]
            inputs = factor * width
        features.append(nn.MaxPool2d(2))
    classifier = [
        *(nn.Linear(8 * width * 49, hidden), nn.ReLU(), nn.Dropout(0)),
        *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0)),
        nn.Linear(hidden, classes),
    ]
    return Plain(features, 7, classifier)


class BatchNormReLU(nn.BatchNorm2d):
    """One layer, as minissl counts it."""

    def forward(self, x: Any) -> Any:
        return F.relu(super().forward(x))


def double_convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), BatchNormReLU(outputs)),
        *(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), BatchNormReLU(outputs)),
    )


class UNet(nn.Module):
    def __init__(self, classes: int, channels: int, width: int, depth: int) -> None:
        super().__init__()
        self.depth, self.encoder, self.head = depth, nn.Module(), nn.Conv2d(width, classes, 1)
        for i in range(depth + 1):
            self.encoder.add_module(f"down{i}", double_convolution(width << i - 1 if i else channels, width << i))
        for i in range(depth):
            self.add_module(f"up{i}", nn.ConvTranspose2d(width << i + 1, width << i, 2, 2))
            self.add_module(f"join{i}", double_convolution(width << i + 1, width << i))

    def forward(self, x: Any) -> Any:
        maps = []
        for i in range(self.depth + 1):
            maps.append(x := getattr(self.encoder, f"down{i}")(F.max_pool2d(x, 2) if i else x))
        for i in reversed(range(self.depth)):
            x = getattr(self, f"join{i}")(torch.cat([maps[i], getattr(self, f"up{i}")(x)], 1))
        return self.head(x)


class UpsampleConv2d(nn.Conv2d):
    """Pixels repeated 2x2, then a convolution."""

    def forward(self, x: Any) -> Any:
        return super().forward(nn.functional.interpolate(x, scale_factor=2))


class ConvAutoencoder(nn.Module):
    """(N, C, H, W) -> (N, C, H, W). Linear layers see pixels in the order (row, column, channel), as minissl's do."""

    def __init__(self, image: int, channels: int, width: int, depth: int, latent: int) -> None:
        super().__init__()
        sizes, side = [channels, *(width << i for i in range(depth))], image >> depth
        down = [
            nn.Sequential(nn.Conv2d(sizes[i], sizes[i + 1], 3, 2, 1, bias=False), BatchNormReLU(sizes[i + 1]))
            for i in range(depth)
        ]
        up: list[nn.Module] = [BatchNormReLU(sizes[-1])]
        for C, D in zip(sizes[:1:-1], sizes[-2:0:-1], strict=True):
            up += [UpsampleConv2d(C, D, 3, 1, 1, bias=False), BatchNormReLU(D)]
        up += [UpsampleConv2d(width, channels, 3, 1, 1)]
        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.convs, self.encoder.fc = nn.Sequential(*down), nn.Linear(side**2 * sizes[-1], latent)
        self.decoder.fc, self.decoder.layers = nn.Linear(latent, side**2 * sizes[-1]), nn.Sequential(*up)
        self.coarsest = (side, side, sizes[-1])

    def forward(self, x: Any) -> Any:
        encoder: Any = self.encoder
        decoder: Any = self.decoder
        z = encoder.fc(encoder.convs(x).permute(0, 2, 3, 1).flatten(1))  # (N, latent)
        return decoder.layers(decoder.fc(z).unflatten(1, self.coarsest).permute(0, 3, 1, 2))


class SequenceClassifier(nn.Module):
    """(N, T, D) -> logits of the last state."""

    def __init__(self, inputs: int, hidden: int, classes: int, cell: str = "lstm") -> None:
        super().__init__()
        layer = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.recurrent, self.head = layer(inputs, hidden, batch_first=True), nn.Linear(hidden, classes)

    def forward(self, x: Any) -> Any:
        return self.head(self.recurrent(x)[0][:, -1])
