"""Vision transformers (Dosovitskiy et al., 2021, "An Image is Worth 16x16 Words").

An image is cut into patches, each patch becomes a token, and every token looks at every other in each block. Names of
parameters follow timm.
"""

from minissl import nn, ops
from minissl.tensor import Tensor


class VisionTransformer(nn.Module):
    """Patches, a class token, learned positions and `depth` blocks: (N, H, W, C) -> the class token's features (N, D).

    image: side in pixels, a multiple of `patch`.
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
    ) -> None:
        if image % patch:
            raise ValueError(f"VisionTransformer: expected an image side that patches of {patch} divide, got {image}")
        self.patch_embed = nn.PatchEmbed(patch, channels, features)
        self.cls_token = nn.Parameter(nn.initializers.normal((1, 1, features), 0.02))
        self.pos_embed = nn.Parameter(nn.initializers.normal((1, 1 + (image // patch) ** 2, features), 0.02))
        rates = [drop_path * i / max(1, depth - 1) for i in range(depth)]  # deeper blocks are dropped more often
        self.blocks = nn.Sequential(*(nn.TransformerBlock(features, heads, drop_path=rate) for rate in rates))
        self.norm = nn.LayerNorm(features)
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch_embed(x)  # (N, L, D)
        N, _, D = tokens.shape
        first = ops.broadcast_to(self.cls_token, (N, 1, D))
        tokens = ops.concatenate([first, tokens], axis=1) + self.pos_embed  # (N, 1 + L, D)
        return self.norm(self.blocks(tokens)[:, 0])


def vit_tiny(image: int = 64, patch: int = 8, channels: int = 3) -> VisionTransformer:
    """ViT-Tiny: 192 features, 12 blocks of 3 heads; 5.4 million parameters."""
    return VisionTransformer(image, patch, channels)
