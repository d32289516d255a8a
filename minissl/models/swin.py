"""Swin transformers (Liu et al., 2021, "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows").

Attention stays within windows, so that its cost grows with the image and not with the image squared. Every second block
shifts the windows by half their size and so connects them. Between stages 2x2 tokens are merged into one, and the four
maps are as large as a ResNet's. Names of parameters follow timm, order of computation torchvision where the two differ.
"""

from collections.abc import Iterator
from typing import Literal

from minissl import nn, ops
from minissl.models.backbone import Backbone
from minissl.tensor import Tensor

EPSILON = 1e-5  # of all norms, as in the published weights


class SwinTransformer(Backbone):
    """Patches, then stages of blocks in windows: (N, H, W, C) -> features (N, 8·width), or logits (N, classes).

    Stage s works with width·2^(s − 1) features on maps of H/patch·2^(1 − s) rows. H and W are multiples of `patch`, and
    not fixed: maps that no window divides are padded with zeros, and a side that one window covers is not shifted.
    Published weights want gelu="erf", the exact form; "tanh" is faster.
    """

    stages = ("stage1", "stage2", "stage3", "stage4")

    def __init__(
        self,
        depths: tuple[int, int, int, int],
        heads: tuple[int, int, int, int],
        width: int = 96,
        window: int = 7,
        patch: int = 4,
        channels: int = 3,
        classes: int | None = None,
        drop_path: float = 0.0,
        gelu: Literal["tanh", "erf"] = "tanh",
    ) -> None:
        self.patch_embed = SwinPatchEmbed(patch, channels, width)
        rates = [drop_path * i / max(1, sum(depths) - 1) for i in range(sum(depths))]  # deeper: dropped more often
        stages, features = [], width
        for s, depth in enumerate(depths):
            merge = PatchMerging(features // 2) if s else nn.Identity()
            stages.append(SwinStage(merge, features, heads[s], window, rates[sum(depths[:s]) :][:depth], gelu))
            features *= 2
        self.layers = nn.ModuleList(stages)
        self.out_features = 8 * width
        self.norm = nn.LayerNorm(self.out_features, EPSILON)
        self.head = None if classes is None else nn.Sequential(fc=nn.Linear(self.out_features, classes))

    def run(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        x = self.patch_embed(x)  # (N, H/patch, W/patch, width)
        for name, stage in zip(self.stages, self.layers, strict=True):
            yield name, (x := stage(x))

    def pool(self, x: Tensor) -> Tensor:
        return self.norm(x).mean(axis=(1, 2))

    def classify(self, h: Tensor) -> Tensor:
        return h if self.head is None else self.head(h)


class SwinPatchEmbed(nn.Module):
    """Each patch of size x size pixels through one linear layer and a norm: (N, H, W, C) -> (N, H/size, W/size, D)."""

    def __init__(self, size: int, channels: int, features: int) -> None:
        self.proj = nn.Conv2d(channels, features, size, stride=size)
        self.norm = nn.LayerNorm(features, EPSILON)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] % self.size or x.shape[2] % self.size or 0 in x.shape:
            raise ValueError(
                f"SwinTransformer: expected images (N, H, W, C) that patches of {self.size} divide, got {x.shape}"
            )
        return self.norm(self.proj(x))


class SwinStage(nn.Module):
    """Merging, then blocks of which every second is shifted by half a window: (N, H, W, C) -> (N, h, w, features)."""

    def __init__(
        self,
        downsample: nn.Module,
        features: int,
        heads: int,
        window: int,
        drop_path: list[float],
        gelu: Literal["tanh", "erf"],
    ) -> None:
        self.downsample = downsample
        blocks = (
            SwinBlock(features, heads, window, window // 2 if i % 2 else 0, rate, gelu)
            for i, rate in enumerate(drop_path)
        )
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.downsample(x))


class SwinBlock(nn.Module):
    """x + attention in windows(norm x), then x + mlp(norm x): (N, H, W, D) -> (N, H, W, D), H and W of any size."""

    def __init__(
        self,
        features: int,
        heads: int,
        window: int,
        shift: int = 0,
        drop_path: float = 0.0,
        gelu: Literal["tanh", "erf"] = "tanh",
    ) -> None:
        self.norm1, self.attn = nn.LayerNorm(features, EPSILON), nn.WindowAttention(features, heads, window, shift)
        self.norm2, self.mlp = nn.LayerNorm(features, EPSILON), nn.FeedForward(features, 4 * features, gelu)
        self.drop_path = nn.DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        H, W = x.shape[1:3]
        y = self.attn(pad_to_multiple(self.norm1(x), self.attn.size))[:, :H, :W]
        x = x + self.drop_path(y)
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PatchMerging(nn.Module):
    """Each 2x2 tokens become one of twice the features: (N, H, W, D) -> (N, ⌈H/2⌉, ⌈W/2⌉, 2D)."""

    def __init__(self, features: int) -> None:
        self.norm = nn.LayerNorm(4 * features, EPSILON)
        self.reduction = nn.Linear(4 * features, 2 * features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        squares = ops.unfold(pad_to_multiple(x, 2), 2)  # (N, h, w, row, column, D)
        N, h, w, _, _, D = squares.shape
        columns = squares.transpose(0, 1, 2, 4, 3, 5)  # the published order: down the left column, then the right one
        return self.reduction(self.norm(columns.reshape(N, h, w, 4 * D)))


def pad_to_multiple(x: Tensor, size: int) -> Tensor:
    """Zeros below and to the right until `size` divides both sides: (N, H, W, D)."""
    below, right = -x.shape[1] % size, -x.shape[2] % size
    return ops.pad(x, ((0, 0), (0, below), (0, right), (0, 0))) if below or right else x


def swin_tiny(
    channels: int = 3,
    classes: int | None = None,
    width: int = 96,
    window: int = 7,
    patch: int = 4,
    gelu: Literal["tanh", "erf"] = "tanh",
) -> SwinTransformer:
    """Swin-T: 2, 2, 6, 2 blocks of 3, 6, 12, 24 heads; 27.5 million parameters at width 96. patch=2 suits images of 64
    pixels or fewer. The width is a multiple of 3, the heads of the first stage.
    """
    return SwinTransformer((2, 2, 6, 2), (3, 6, 12, 24), width, window, patch, channels, classes, gelu=gelu)
