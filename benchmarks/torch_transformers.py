"""Vision and Swin transformers, and a masked autoencoder, in PyTorch's own layers, channels first. Needs PyTorch.

Names are timm's, and the MAE's as published. Used as `torch_networks.py` is.
"""

import functools
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
    """The class token's features, or logits with `classes`."""

    def __init__(
        self,
        image: int,
        patch: int,
        channels: int,
        features: int,
        depth: int,
        heads: int,
        classes: int | None = None,
        gelu: str = "tanh",
        fixed_positions: bool = False,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(patch, channels, features)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, features))
        positions = torch.zeros(1, 1 + (image // patch) ** 2, features)  # all weights are copied from minissl
        self.pos_embed = nn.Buffer(positions) if fixed_positions else nn.Parameter(positions)
        self.blocks = nn.Sequential(*(Block(features, heads, gelu) for _ in range(depth)))
        self.norm = nn.LayerNorm(features, 1e-6)
        self.head = nn.Identity() if classes is None else nn.Linear(features, classes)

    def embed(self, x: Any, visible: Any = None) -> Any:
        tokens = self.patch_embed(x).flatten(1, 2) + self.pos_embed[:, 1:]  # (N, L, D)
        if visible is not None:
            tokens = take_tokens(tokens, visible)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        return torch.cat([first, tokens], 1)

    def forward(self, x: Any) -> Any:
        return self.head(self.norm(self.blocks(self.embed(x))[:, 0]))


def take_tokens(x: Any, index: Any) -> Any:
    """(N, L, D), (N, K) -> (N, K, D)."""
    return torch.gather(x, 1, index[:, :, None].expand(-1, -1, x.shape[2]))


class MaskedAutoencoder(nn.Module):
    """Images, keep (N, K) and restore (N, L) -> the pixels of all patches (N, L, patch²·C)."""

    def __init__(
        self, image: int, patch: int, channels: int, features: int, depth: int, heads: int, narrow: int, decoder: int
    ) -> None:
        super().__init__()
        self.encoder = VisionTransformer(image, patch, channels, features, depth, heads, fixed_positions=True)
        self.decoder_embed = nn.Linear(features, narrow)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, narrow))
        self.decoder_pos_embed = nn.Buffer(torch.zeros(1, 1 + (image // patch) ** 2, narrow))
        self.decoder_blocks = nn.Sequential(*(Block(narrow, heads, "tanh") for _ in range(decoder)))
        self.decoder_norm = nn.LayerNorm(narrow, 1e-6)
        self.decoder_pred = nn.Linear(narrow, patch**2 * channels)

    def forward(self, images: Any, keep: Any, restore: Any) -> Any:
        seen = self.encoder.norm(self.encoder.blocks(self.encoder.embed(images, keep)))
        x = self.decoder_embed(seen)  # (N, 1 + K, D)
        N, L = restore.shape
        hidden = self.mask_token.expand(N, L - keep.shape[1], -1)
        patches = take_tokens(torch.cat([x[:, 1:], hidden], 1), restore)
        x = self.decoder_blocks(torch.cat([x[:, :1], patches], 1) + self.decoder_pos_embed)
        return self.decoder_pred(self.decoder_norm(x[:, 1:]))


def windows(x: Any, s: int) -> Any:
    """(N, H, W, D) -> (N·windows, s², D)."""
    N, H, W, D = x.shape
    return x.view(N, H // s, s, W // s, s, D).permute(0, 1, 3, 2, 4, 5).reshape(-1, s * s, D)


@functools.cache
def mask(H: int, W: int, s: int, shifts: tuple[int, int], device: Any) -> Any:
    """(windows, s², s²): −100 between tokens that only the shift brought into one window; made once, as timm does."""
    regions = torch.zeros(1, H, W, 1, device=device)
    parts = [[slice(0, -s), slice(-s, -shift), slice(-shift, None)] if shift else [slice(None)] for shift in shifts]
    for i, rows in enumerate(parts[0]):
        for j, columns in enumerate(parts[1]):
            regions[:, rows, columns] = 3 * i + j
    of = windows(regions, s).squeeze(2)  # (windows, s²)
    return torch.where(of[:, None] == of[:, :, None], 0.0, -100.0)


class WindowAttention(Attention):
    """Windows of an image (N, H, W, D): padded, shifted, masked and undone as Swin's authors publish it."""

    def __init__(self, features: int, heads: int, window: int, shift: int) -> None:
        super().__init__(features, heads)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.window, self.shift = window, shift
        places = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        relative = (places[:, :, None] - places[:, None]).permute(1, 2, 0) + window - 1
        index = relative[..., 0] * (2 * window - 1) + relative[..., 1]
        self.index = nn.Buffer(index, persistent=False)

    def forward(self, x: Any, bias: Any = None) -> Any:
        N, height, width, D = x.shape
        s = self.window
        x = F.pad(x, (0, 0, 0, -width % s, 0, -height % s))
        _, H, W, _ = x.shape
        shifts = (0 if s >= H else self.shift, 0 if s >= W else self.shift)
        bias = self.relative_position_bias_table[self.index].permute(2, 0, 1)[None]  # (1, heads, s², s²)
        if any(shifts):
            x = torch.roll(x, [-shift for shift in shifts], (1, 2))
            bias = bias + mask(H, W, s, shifts, x.device).to(x.dtype).repeat(N, 1, 1)[:, None]
        y = super().forward(windows(x, s), bias)
        y = y.view(N, H // s, W // s, s, s, D).permute(0, 1, 3, 2, 4, 5).reshape(N, H, W, D)
        return (torch.roll(y, shifts, (1, 2)) if any(shifts) else y)[:, :height, :width]


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
        gelu: str = "tanh",
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
