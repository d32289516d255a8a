"""A class for every pixel: U-Net, and a light decoder on any backbone. Images (N, H, W, C) -> logits (N, H, W, K)."""

import math
from collections.abc import Iterator

from minissl import nn, ops
from minissl.models.backbone import Backbone
from minissl.tensor import Tensor, no_grad


class UNetEncoder(Backbone):
    """The left side of the U: double convolutions, and max-pooling between them.

    (N, H, W, C) -> stages "down0" to "down<depth>", (N, H/2^i, W/2^i, width·2^i). H and W are multiples of 2^depth.
    """

    def __init__(self, channels: int = 3, width: int = 64, depth: int = 4) -> None:
        self.stages = tuple(f"down{i}" for i in range(depth + 1))
        for i, name in enumerate(self.stages):
            setattr(self, name, double_convolution(width << i - 1 if i else channels, width << i))
        self.depth, self.out_features = depth, width << depth

    def run(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        step = 2**self.depth
        if x.ndim != 4 or x.shape[1] % step or x.shape[2] % step or 0 in x.shape:
            raise ValueError(f"U-Net: expected images (N, H, W, C) whose sides {step} divides, got {x.shape}; pad them")
        for i, name in enumerate(self.stages):
            yield name, (x := getattr(self, name)(ops.max_pool2d(x, 2) if i else x))


class UNet(nn.Module):
    """Down to a coarse map that sees far, and up again, at every size joined by the fine map from the way down.

    (N, H, W, C) -> logits (N, H, W, classes). The encoder, a Backbone, can be pre-trained alone. Convolutions are
    padded, so that maps keep their size, and followed by BatchNorm; the paper has neither, and crops.
    (Ronneberger et al., 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation")
    """

    def __init__(self, classes: int, channels: int = 3, width: int = 64, depth: int = 4) -> None:
        self.encoder = UNetEncoder(channels, width, depth)
        for i in range(depth):  # from map i + 1 to map i
            setattr(self, f"up{i}", nn.ConvTranspose2d(width << i + 1, width << i, 2, 2))
            setattr(self, f"join{i}", double_convolution(width << i + 1, width << i))
        self.head = nn.Conv2d(width, classes, 1)
        self.out_features = self.encoder.out_features

    def features(self, x: Tensor, stage: str | None = None) -> Tensor:
        return self.encoder.features(x, stage)

    def forward(self, x: Tensor) -> Tensor:
        *maps, y = (output for _, output in self.encoder.run(x))
        for i in reversed(range(len(maps))):
            up, join = getattr(self, f"up{i}"), getattr(self, f"join{i}")
            y = join(ops.concatenate([maps[i], up(y)], axis=3))  # (N, H/2^i, W/2^i, width·2^i)
        return self.head(y)


class SegmentationDecoder(nn.Module):
    """A backbone and a light decoder in the manner of a feature pyramid: (N, H, W, C) -> logits (N, H, W, classes).

    Every stage's map goes through a 1x1 convolution to `width` channels; from the coarsest on each is enlarged
    bilinearly and added to the next. image: shape (H, W, C) of an image that the backbone takes; it is tried once, to
    see what its stages give. stages: which maps, from fine to coarse; unless given, the last of every size. Of a vision
    transformer that is the last block alone; its patches are taken as a square map, without the class token.
    (Lin et al., 2017, "Feature Pyramid Networks for Object Detection")
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: int,
        image: tuple[int, int, int] = (64, 64, 3),
        width: int = 64,
        stages: tuple[str, ...] | None = None,
    ) -> None:
        shapes = map_shapes(backbone, image)
        if stages is None:
            stages = tuple({shape[:2]: name for name, shape in shapes.items()}.values())
        if not stages or not set(stages) <= set(shapes):
            raise ValueError(
                f"SegmentationDecoder: expected stages with maps among {', '.join(shapes)}, got {', '.join(stages)}"
            )
        self.backbone, self.used = backbone, stages
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(shapes[name][2], width, 1, bias=False), nn.BatchNorm(width)) for name in stages
        )
        self.smooth = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm(width, relu=True))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        outputs = dict(self.backbone.run(x))
        maps = [lateral(as_map(outputs[name])) for name, lateral in zip(self.used, self.laterals, strict=True)]
        y = maps.pop()
        while maps:
            finer = maps.pop()
            y = finer + resize(y, like=finer)  # (N, h, w, width)
        return resize(self.head(self.smooth(y)), like=x)


def double_convolution(inputs: int, outputs: int) -> nn.Sequential:
    """Twice a 3x3 convolution, BatchNorm and ReLU: (N, H, W, inputs) -> (N, H, W, outputs)."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
        nn.BatchNorm(outputs, relu=True),
        nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
        nn.BatchNorm(outputs, relu=True),
    )


def resize(x: Tensor, like: Tensor) -> Tensor:
    """x, bilinearly, with as many pixels as `like`."""
    return ops.upsample_bilinear(x, (like.shape[1], like.shape[2]))


def as_map(x: Tensor) -> Tensor:
    """Tokens of a square of patches (N, L, D), or these after a class token, -> (N, √L, √L, D); a map as it is."""
    if x.ndim == 4:
        return x
    side = math.isqrt(x.shape[1])
    return x[:, -(side**2) :].reshape(len(x), side, side, x.shape[2])


def map_shapes(backbone: Backbone, image: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    """(h, w, C) of every stage that gives a map or tokens, for images of this shape."""
    modes = [(module, module.training) for module in backbone.modules()]
    zeros = Tensor(nn.initializers.zeros((1, *image)))
    try:
        with no_grad():
            outputs = dict(backbone.eval().run(zeros))
    finally:
        for module, mode in modes:
            module.training = mode
    return {name: as_map(y).shape[1:] for name, y in outputs.items() if y.ndim > 2}
