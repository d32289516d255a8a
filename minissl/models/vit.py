"""Vision transformers (Dosovitskiy et al., 2021, "An Image is Worth 16x16 Words").

An image is cut into patches, each patch becomes a token, and every token looks at every other in each block. Names of
parameters follow timm.
"""

import math
from collections.abc import Iterator
from typing import Any, Literal

from minissl import backend, nn, ops
from minissl.models.backbone import Backbone
from minissl.tensor import Tensor, as_tensor


class VisionTransformer(Backbone):
    """Patches, a class token, positions and `depth` blocks: (N, H, W, C) -> the class token's features (N, D).

    image: side in pixels, a multiple of `patch`; no other size is taken, but see `resize_positions`. Positions are
    learned, or sines and cosines if `fixed_positions`. classes: ends in logits (N, classes) instead. Published weights
    want gelu="erf", the exact form; "tanh" is faster.
    """

    def __init__(
        self,
        image: int = 64,
        patch: int = 8,
        channels: int = 3,
        features: int = 192,
        depth: int = 12,
        heads: int = 3,
        drop_path: float = 0.0,
        fixed_positions: bool = False,
        classes: int | None = None,
        gelu: Literal["tanh", "erf"] = "tanh",
    ) -> None:
        if image % patch:
            raise ValueError(f"VisionTransformer: expected an image side that patches of {patch} divide, got {image}")
        self.patch_embed = nn.PatchEmbed(patch, channels, features)
        self.cls_token = nn.Parameter(nn.initializers.normal((1, 1, features), 0.02))
        self.pos_embed = (sinusoidal_positions if fixed_positions else learned_positions)(image // patch, features)
        rates = [drop_path * i / max(1, depth - 1) for i in range(depth)]  # deeper blocks are dropped more often
        blocks = (nn.TransformerBlock(features, heads, drop_path=rate, gelu=gelu) for rate in rates)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(features)
        self.head = None if classes is None else nn.Linear(features, classes)
        self.image, self.out_features = image, features
        self.stages = ("embed", *(f"blocks.{i}" for i in range(depth)))

    def run(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        yield "embed", (x := self.embed(x))  # (N, 1 + L, D), as after every block
        for name, block in zip(self.stages[1:], self.blocks, strict=True):
            yield name, (x := block(x))

    def pool(self, x: Tensor) -> Tensor:
        return self.norm(x[:, 0])

    def classify(self, h: Tensor) -> Tensor:
        return h if self.head is None else self.head(h)

    def tokens(self, x: Tensor, visible: Any = None) -> Tensor:
        """All tokens after the last block, the class token first: (N, 1 + L, D).

        visible: numbers (N, K) of the patches that the blocks see; others do not even enter, and K stands for L.
        """
        return self.norm(self.blocks(self.embed(x, visible)))

    def embed(self, x: Tensor, visible: Any = None) -> Tensor:
        """The tokens before the first block. A patch takes its position along, wherever it stands among the visible."""
        if x.shape[1:3] != (self.image, self.image):
            raise ValueError(
                f"VisionTransformer: expected images of {self.image}x{self.image} pixels, got shape {x.shape}; "
                "resize them, or make a network for this size (see resize_positions)"
            )
        tokens = self.patch_embed(x) + self.pos_embed[:, 1:]  # (N, L, D)
        if visible is not None:
            tokens = take_tokens(tokens, visible)  # (N, K, D)
        N, _, D = tokens.shape
        first = ops.broadcast_to(self.cls_token + self.pos_embed[:, :1], (N, 1, D))
        return ops.concatenate([first, tokens], axis=1)  # (N, 1 + K, D)


def take_tokens(x: Tensor, index: Any) -> Tensor:
    """The tokens of each image that its own row of numbers names: (N, L, D), (N, K) -> (N, K, D)."""
    if index.shape[:-1] != x.shape[:1]:
        raise ValueError(f"take_tokens: expected a row of numbers for each of {len(x)} images, got {index.shape}")
    rows = backend.of(x.data).xp.arange(len(x))[:, None]
    return x[rows, index]


def learned_positions(side: int, features: int) -> Tensor:
    """Positions of a class token and of side x side patches, (1, 1 + side², D), Gaussian at first."""
    return nn.Parameter(nn.initializers.normal((1, 1 + side**2, features), 0.02))


def sinusoidal_positions(side: int, features: int) -> Tensor:
    """The same as sines and cosines of row and column; the class token, which has no place, is given zeros."""
    nowhere, grid = nn.initializers.zeros((1, features)), nn.sinusoidal_positions_2d(side, side, features)
    return nn.Buffer(backend.current().xp.concatenate([nowhere, grid])[None])


def resize_positions(positions: Any, side: int) -> Tensor:
    """Learned positions (1, 1 + L, D) of a square of patches for one of side x side: (1, 1 + side², D), bilinearly.

    With these as its "pos_embed" a state loads into a network for another image size. timm interpolates bicubically.
    """
    positions = as_tensor(positions)
    old = math.isqrt(positions.shape[1] - 1)
    if positions.ndim != 3 or old**2 != positions.shape[1] - 1:
        raise ValueError(f"resize_positions: expected positions (1, 1 + a square number, D), got {positions.shape}")
    D = positions.shape[2]
    grid = ops.upsample_bilinear(positions[:, 1:].reshape(1, old, old, D), side)  # (1, side, side, D)
    return ops.concatenate([positions[:, :1], grid.reshape(1, side**2, D)], axis=1)


def vit_tiny(
    image: int = 64,
    patch: int = 8,
    channels: int = 3,
    classes: int | None = None,
    gelu: Literal["tanh", "erf"] = "tanh",
) -> VisionTransformer:
    """ViT-Tiny: 192 features, 12 blocks of 3 heads; 5.4 million parameters. (Touvron et al., 2021, "DeiT")"""
    return VisionTransformer(image, patch, channels, 192, 12, 3, classes=classes, gelu=gelu)


def vit_small(
    image: int = 64,
    patch: int = 8,
    channels: int = 3,
    classes: int | None = None,
    gelu: Literal["tanh", "erf"] = "tanh",
) -> VisionTransformer:
    """ViT-Small: 384 features, 12 blocks of 6 heads; 21.4 million parameters. (Touvron et al., 2021, "DeiT")"""
    return VisionTransformer(image, patch, channels, 384, 12, 6, classes=classes, gelu=gelu)


def vit_base(
    image: int = 64,
    patch: int = 8,
    channels: int = 3,
    classes: int | None = None,
    gelu: Literal["tanh", "erf"] = "tanh",
) -> VisionTransformer:
    """ViT-Base: 768 features, 12 blocks of 12 heads; 85.3 million parameters."""
    return VisionTransformer(image, patch, channels, 768, 12, 12, classes=classes, gelu=gelu)
