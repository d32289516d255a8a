"""Networks in PyTorch's own layers, channels first, under torchvision's names. Needs PyTorch."""

from typing import Any

import torch
from torch import nn


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
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Any) -> Any:
        y = x
        for i in range(1, self.depth + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = torch.relu(y) if i < self.depth else y
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, blocks: list[int], expansion: int, width: int, channels: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        for i, count in enumerate(blocks):
            features, stage = width * 2**i, nn.Sequential()
            for j in range(count):
                stage.append(Block(inputs, features, 2 if i and not j else 1, expansion))
                inputs = expansion * features
            self.add_module(f"layer{i + 1}", stage)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Any) -> Any:
        x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
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
