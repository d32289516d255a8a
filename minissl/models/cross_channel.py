"""Networks that see some of an image's channels, to predict the others.

    s = space(x)            (N, H, W, C)     the channels to choose from, such as L, a, b
    group i                 a backbone on s[..., channels[i]], blind to all others
    features                those of all groups, side by side

One group (L) makes the encoder of colorization, two disjoint ones that of a split-brain autoencoder.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from minissl import augment, backend, nn, ops
from minissl.backend import Array
from minissl.models.backbone import Backbone
from minissl.tensor import Tensor

LAB_CENTRE, LAB_SPREAD = (50.0, 0.0, 0.0), (20.0, 10.0, 10.0)  # about mean and deviation in images from above


class ChannelGroups(Backbone):
    """Backbones with the same stages, each on its slice of the channels: (N, H, W, C) -> (N, Σ out_features).

    A stage's output is the groups' concatenated. space: what x becomes first.
    """

    backbones: Any  # a ModuleList of Backbones

    def __init__(self, backbones: Sequence[Backbone], channels: Sequence[slice], space: nn.Module) -> None:
        self.backbones, self.channels, self.space = nn.ModuleList(backbones), tuple(channels), space
        self.stages = backbones[0].stages
        self.out_features = sum(backbone.out_features for backbone in backbones)

    def groups(self, s: Tensor) -> list[Iterator[tuple[str, Tensor]]]:
        """For each group the names and outputs of its stages, given s = space(x)."""
        return [backbone.run(s[..., c]) for backbone, c in zip(self.backbones, self.channels, strict=True)]

    def run(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        for steps in zip(*self.groups(self.space(x)), strict=True):
            yield steps[0][0], ops.concatenate([output for _, output in steps], axis=-1)

    def pool(self, x: Tensor) -> Tensor:
        ends = list(accumulate((backbone.out_features for backbone in self.backbones), initial=0))
        parts = zip(self.backbones, ends, ends[1:], strict=False)
        return ops.concatenate([backbone.pool(x[..., i:j]) for backbone, i, j in parts], axis=-1)


class StandardizedLab(nn.Module):
    """Standardised RGB (N, H, W, 3) -> L, a, b, each less LAB_CENTRE and divided by LAB_SPREAD, as a constant.

    mean, deviation: the three numbers each by which the images were standardised. Raises ValueError for an x that
    requires a gradient: none flows back through the conversion.
    """

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        self.mean, self.deviation = mean, deviation

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad:
            raise ValueError(
                "StandardizedLab: no gradient flows back to RGB; take it with respect to what this returns"
            )
        constants = (self.mean, self.deviation, LAB_CENTRE, LAB_SPREAD)
        mean, deviation, centre, spread = (backend.of(x.data).xp.asarray(c, x.dtype) for c in constants)
        return Tensor((augment.rgb_to_lab(x.data * deviation + mean) - centre) / spread)


class CoarseDecoder(nn.Module):
    """The last maps of a network, from fine to coarse -> predictions on a coarse grid, (N, h, w, outputs).

    features: channels of these maps. Each goes through a 1x1 convolution to `width` channels, is enlarged bilinearly to
    the grid and added; a 3x3 and a 1x1 convolution follow.
    """

    def __init__(self, features: Sequence[int], outputs: int, width: int = 64) -> None:
        self.laterals = nn.ModuleList(nn.Conv2d(C, width, 1) for C in features)
        self.smooth = nn.Sequential(
            nn.BatchNorm(width, relu=True), nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm(width, relu=True)
        )
        self.predict = nn.Conv2d(width, outputs, 1)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """maps: those of all stages; the first ones, that the decoder was not made for, are left out."""
        used = zip(self.laterals, maps[-len(self.laterals) :], strict=True)
        y = [ops.upsample_bilinear(lateral(x), size) for lateral, x in used]
        return self.predict(self.smooth(sum(y[1:], y[0])))


def coarse(images: Array, factor: int = 4) -> Array:
    """Means over squares of factor x factor pixels: (N, H, W, C) -> (N, H/factor, W/factor, C), sides rounded down.

    Where a side is no multiple of it, neighbouring squares share pixels.
    """
    return ops.adaptive_average_pool2d(images, (images.shape[1] // factor, images.shape[2] // factor)).data
