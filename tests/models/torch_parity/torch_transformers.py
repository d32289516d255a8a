"""Vision and Swin transformers in PyTorch's own layers, channels first, under timm's names. Needs PyTorch."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class FeedForward(nn.Module):
    def __init__(self, features: int, gelu: str) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(features, 4 * features), nn.Linear(4 * features, features)
        self.gelu = gelu

    def forward(self, x: Any) -> Any:
        return self.fc2(F.gelu(self.fc1(x), approximate=self.gelu))


class Attention(nn.Module):
    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.qkv, self.proj, self.heads = nn.Linear(features, 3 * features), nn.Linear(features, features), heads

    def forward(self, x: Any, bias: Any = None) -> Any:
        N, L, D = x.shape
        q, k, v = self.qkv(x).reshape(N, L, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, bias)
        return self.proj(y.transpose(1, 2).reshape(N, L, D))


class Block(nn.Module):
    def __init__(self, features: int, heads: int, gelu: str) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(features, 1e-6), Attention(features, heads)
        self.norm2, self.mlp = nn.LayerNorm(features, 1e-6), FeedForward(features, gelu)

    def forward(self, x: Any) -> Any:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, patch: int, channels: int, features: int, norm: bool = False) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, features, patch, patch)
        self.norm = nn.LayerNorm(features) if norm else nn.Identity()

    def forward(self, x: Any) -> Any:
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


class VisionTransformer(nn.Module):
    def __init__(
        self, image: int, patch: int, channels: int, features: int, depth: int, heads: int, classes: int, gelu: str
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(patch, channels, features)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, features))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (image // patch) ** 2, features))
        self.blocks = nn.Sequential(*(Block(features, heads, gelu) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(features, 1e-6), nn.Linear(features, classes)

    def embed(self, x: Any) -> Any:
        tokens = self.patch_embed(x).flatten(1, 2)
        return torch.cat([self.cls_token.expand(len(x), -1, -1), tokens], 1) + self.pos_embed

    def forward(self, x: Any) -> Any:
        return self.head(self.norm(self.blocks(self.embed(x)))[:, 0])


class WindowAttention(Attention):
    """Windows of an image (N, H, W, D): padded, shifted, masked and undone as Swin's authors publish it."""

    def __init__(self, features: int, heads: int, window: int, shift: int) -> None:
        super().__init__(features, heads)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.window, self.shift = window, shift
        places = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        relative = (places[:, :, None] - places[:, None]).permute(1, 2, 0) + window - 1
        self.index = relative[..., 0] * (2 * window - 1) + relative[..., 1]

    def windows(self, x: Any) -> Any:
        N, H, W, D = x.shape
        s = self.window
        return x.view(N, H // s, s, W // s, s, D).permute(0, 1, 3, 2, 4, 5).reshape(-1, s * s, D)

    def forward(self, x: Any, bias: Any = None) -> Any:
        N, height, width, D = x.shape
        s = self.window
        x = F.pad(x, (0, 0, 0, -width % s, 0, -height % s))
        _, H, W, _ = x.shape
        shifts = [0 if n <= s else self.shift for n in (H, W)]
        x = torch.roll(x, [-shift for shift in shifts], (1, 2))
        regions = torch.zeros(1, H, W, 1)
        parts = [[slice(0, -s), slice(-s, -shift), slice(-shift, None)] if shift else [slice(None)] for shift in shifts]
        for i, rows in enumerate(parts[0]):
            for j, columns in enumerate(parts[1]):
                regions[:, rows, columns] = 3 * i + j
        of = self.windows(regions).squeeze(2)  # (windows, s²)
        mask = torch.where(of[:, None] == of[:, :, None], 0.0, -100.0).to(x.dtype).repeat(N, 1, 1)[:, None]
        relative = self.relative_position_bias_table[self.index].permute(2, 0, 1)
        y = super().forward(self.windows(x), relative + mask)
        y = y.view(N, H // s, W // s, s, s, D).permute(0, 1, 3, 2, 4, 5).reshape(N, H, W, D)
        return torch.roll(y, shifts, (1, 2))[:, :height, :width]


class SwinBlock(nn.Module):
    def __init__(self, features: int, heads: int, window: int, shift: int, gelu: str) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(features), WindowAttention(features, heads, window, shift)
        self.norm2, self.mlp = nn.LayerNorm(features), FeedForward(features, gelu)

    def forward(self, x: Any) -> Any:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchMerging(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * features), nn.Linear(4 * features, 2 * features, bias=False)

    def forward(self, x: Any) -> Any:
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        corners = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
        return self.reduction(self.norm(torch.cat(corners, -1)))


class SwinTransformer(nn.Module):
    def __init__(
        self,
        depths: tuple[int, ...],
        heads: tuple[int, ...],
        width: int,
        window: int,
        patch: int,
        channels: int,
        classes: int,
        gelu: str,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(patch, channels, width, norm=True)
        self.layers = nn.Sequential()
        for s, depth in enumerate(depths):
            layer, features = nn.Module(), width << s
            layer.downsample = PatchMerging(features // 2) if s else nn.Identity()
            layer.blocks = nn.Sequential(
                *(SwinBlock(features, heads[s], window, i % 2 * (window // 2), gelu) for i in range(depth))
            )
            self.layers.append(layer)
        self.norm = nn.LayerNorm(8 * width)
        self.head: Any = nn.Module()
        self.head.fc = nn.Linear(8 * width, classes)

    def forward(self, x: Any) -> Any:
        x = self.patch_embed(x)
        layer: Any
        for layer in self.layers:
            x = layer.blocks(layer.downsample(x))
        return self.head.fc(self.norm(x).mean((1, 2)))
