"""Attention layers, transformer blocks, windows, and positions. Tokens are (N, L, D)."""

import math
from typing import Any, Literal

from minissl import backend, ops
from minissl.nn import initializers
from minissl.nn.layers import GELU, DropPath, Linear
from minissl.nn.module import Module, Parameter
from minissl.nn.normalization import LayerNorm
from minissl.tensor import Tensor


class MultiHeadAttention(Module):
    """Every token looks at all tokens, in `heads` subspaces at once: (N, L, D) -> (N, L, D).

    One linear layer makes queries, keys and values (in this order along its outputs, then heads, as in timm).
    """

    def __init__(self, features: int, heads: int) -> None:
        if features % heads:
            raise ValueError(f"MultiHeadAttention: expected heads that divide the features, got {heads} for {features}")
        self.qkv = Linear(features, 3 * features)
        self.proj = Linear(features, features)
        self.heads = heads

    def forward(self, x: Tensor, mask: Any = None, causal: bool = False) -> Tensor:
        q, k, v = self.split_heads(x)
        y = ops.scaled_dot_product_attention(q, k, v, mask, causal)  # (N, heads, L, D/heads)
        return self.proj(y.transpose(0, 2, 1, 3).reshape(x.shape))

    def weights(self, x: Tensor) -> Tensor:
        """How much each token takes from each, softmax(q·k/√d): (N, L, D) -> (N, heads, L, L), rows of sum 1."""
        q, k, _ = self.split_heads(x)
        return ops.softmax(q @ k.transpose(0, 1, 3, 2) * q.shape[-1] ** -0.5)

    def split_heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values, each (N, heads, L, D/heads)."""
        N, L, D = x.shape
        qkv = self.qkv(x).reshape(N, L, 3, self.heads, D // self.heads).transpose(2, 0, 3, 1, 4)
        return qkv[0], qkv[1], qkv[2]


class FeedForward(Module):
    """Two linear layers with a GELU between, on each token alone: (..., D) -> (..., D)."""

    def __init__(self, features: int, hidden: int, gelu: Literal["tanh", "erf"] = "tanh") -> None:
        self.fc1, self.act, self.fc2 = Linear(features, hidden), GELU(gelu), Linear(hidden, features)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class TransformerBlock(Module):
    """x + attention(norm x), then x + mlp(norm x): norms come first, so that a straight path runs through the depth."""

    def __init__(
        self,
        features: int,
        heads: int,
        expansion: int = 4,
        drop_path: float = 0.0,
        gelu: Literal["tanh", "erf"] = "tanh",
    ) -> None:
        self.norm1, self.attn = LayerNorm(features), MultiHeadAttention(features, heads)
        self.norm2, self.mlp = LayerNorm(features), FeedForward(features, expansion * features, gelu)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, mask: Any = None, causal: bool = False) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x), mask, causal))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class WindowAttention(MultiHeadAttention):
    """Attention within windows of size x size tokens, shifted by `shift`, with a learned bias for each relative place.

    (N, H, W, D) -> (N, H, W, D), H and W multiples of the size. A shifted window that wraps around the image's edge
    does not look across it; a side that one window covers is not shifted. (Liu et al., 2021, "Swin Transformer")
    """

    def __init__(self, features: int, heads: int, size: int, shift: int = 0) -> None:
        super().__init__(features, heads)
        self.size, self.shift = size, shift
        self.relative_position_bias_table = Parameter(initializers.normal(((2 * size - 1) ** 2, heads), 0.02))

    def forward(self, x: Tensor, mask: Any = None, causal: bool = False) -> Tensor:
        if mask is not None or causal:
            raise ValueError("WindowAttention: expected no mask; the windows decide who looks at whom")
        N, H, W, D = x.shape
        s, xp = self.size, backend.of(x.data).xp
        if H % s or W % s:
            raise ValueError(f"WindowAttention: expected height and width that windows of {s} divide, got {(H, W)}")
        down, right = (self.shift if n > s else 0 for n in (H, W))
        if down or right:
            x = ops.roll(x, (-down, -right), (1, 2))
        q, k, v = self.split_heads(into_windows(x, s))  # (N·windows, heads, s², D/heads)
        bias = self.relative_position_bias_table[xp.asarray(relative_places(s))]  # (s², s², heads)
        logits = q @ k.transpose(0, 1, 3, 2) * (D // self.heads) ** -0.5 + bias.transpose(2, 0, 1)
        if down or right:
            together = same_region(xp, H, W, s, down, right)  # (windows, s², s²)
            logits = logits.reshape(N, -1, *logits.shape[1:])
            logits = ops.where(together[:, None], logits, -math.inf).reshape(-1, *logits.shape[2:])
        y = ops.softmax(logits) @ v  # (N·windows, heads, s², D/heads)
        y = self.proj(y.transpose(0, 2, 1, 3).reshape(-1, s * s, D))
        y = out_of_windows(y, H, W, s)
        return ops.roll(y, (down, right), (1, 2)) if down or right else y


def into_windows(x: Tensor, size: int) -> Tensor:
    """(N, H, W, D) -> (N·windows, size², D), windows in reading order."""
    N, H, W, D = x.shape
    x = x.reshape(N, H // size, size, W // size, size, D)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, size * size, D)


def out_of_windows(x: Tensor, height: int, width: int, size: int) -> Tensor:
    """The inverse of `into_windows`."""
    x = x.reshape(-1, height // size, width // size, size, size, x.shape[-1])
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, height, width, x.shape[-1])


def relative_places(size: int) -> list[list[int]]:
    """For each pair of places in a window the row of the bias table: (dy + size − 1)(2·size − 1) + dx + size − 1."""
    places = [(y, x) for y in range(size) for x in range(size)]
    return [[(y - v + size - 1) * (2 * size - 1) + x - u + size - 1 for v, u in places] for y, x in places]


def same_region(xp: Any, height: int, width: int, size: int, down: int, right: int) -> backend.Array:
    """For each window after the shift, which of its places were neighbours in the image and may look at each other."""

    def side(n: int, shift: int) -> backend.Array:  # in the last window, places before and after the image's edge
        i = xp.arange(n)
        return (i >= n - size).astype("int32") + (i >= n - shift)

    region = 3 * side(height, down)[:, None] + side(width, right)  # (H, W)
    windows = region.reshape(height // size, size, width // size, size).transpose(0, 2, 1, 3).reshape(-1, size * size)
    return windows[:, :, None] == windows[:, None, :]


def sinusoidal_positions(length: int, features: int) -> backend.Array:
    """(L, D): sines and cosines of the position at wavelengths from 2π to 10,000·2π. (Vaswani et al., 2017)"""
    if features % 2:
        raise ValueError(f"sinusoidal_positions: expected an even number of features, got {features}")
    xp = backend.current().xp
    frequency = 10_000.0 ** (-xp.arange(features // 2, dtype="float64") / (features // 2))  # (D/2,)
    angle = xp.arange(length, dtype="float64")[:, None] * frequency  # (L, D/2)
    return xp.concatenate([xp.sin(angle), xp.cos(angle)], 1).astype("float32")


def sinusoidal_positions_2d(height: int, width: int, features: int) -> backend.Array:
    """(H·W, D) in reading order: half of the features tell the row, half the column. (He et al., 2022, MAE)"""
    xp = backend.current().xp
    if features % 4:
        raise ValueError(f"sinusoidal_positions_2d: expected features that 4 divides, got {features}")
    rows, columns = sinusoidal_positions(height, features // 2), sinusoidal_positions(width, features // 2)
    grid = (height, width, features // 2)
    both = [xp.broadcast_to(rows[:, None], grid), xp.broadcast_to(columns[None], grid)]
    return xp.concatenate(both, 2).reshape(height * width, features)


class LearnedPositions(Module):
    """x + a learned vector for each position: (N, L, D) -> (N, L, D). Starts Gaussian, σ = 0.02."""

    def __init__(self, length: int, features: int) -> None:
        self.weight = Parameter(initializers.normal((1, length, features), 0.02))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight
