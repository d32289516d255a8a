"""A masked autoencoder (He et al., 2022, "Masked Autoencoders Are Scalable Vision Learners").

Most patches of an image are hidden. An encoder sees the others only, and a light decoder paints all of them:

    z = encoder(visible patches, each with its position)           K of L patches, and a class token
    p = decoder(z, and a mask token wherever a patch is hidden)    (N, L, D)
    loss = Σ m ‖p − t‖²/D / Σ m        t: the patches themselves; m: 1 where hidden (`losses.masked_mse`)

With three of four patches hidden neighbours no longer give them away, and the encoder's blocks cost a quarter.
L patches of an image in reading order; D = patch²·channels numbers of one patch.
"""

from typing import Any

from minissl import backend, nn, ops
from minissl.backend import Array
from minissl.models.vit import VisionTransformer, sinusoidal_positions, take_tokens
from minissl.tensor import Tensor, as_tensor


class MaskedAutoencoder(nn.Module):
    """images (N, H, W, C), keep (N, K) and restore (N, L) of `random_mask` -> predicted patches (N, L, patch²·C).

    image: side in pixels, a multiple of `patch`. `encoder` is what remains: a vision transformer with fixed positions,
    whose features are the class token's.
    """

    def __init__(
        self,
        image: int = 64,
        patch: int = 8,
        channels: int = 3,
        features: int = 192,
        depth: int = 12,
        heads: int = 3,
        decoder_features: int = 96,
        decoder_depth: int = 2,
        decoder_heads: int = 3,
    ) -> None:
        self.encoder = VisionTransformer(image, patch, channels, features, depth, heads, fixed_positions=True)
        self.decoder_embed = nn.Linear(features, decoder_features)
        self.mask_token = nn.Parameter(nn.initializers.normal((1, 1, decoder_features), 0.02))
        self.decoder_pos_embed = sinusoidal_positions(image // patch, decoder_features)
        blocks = (nn.TransformerBlock(decoder_features, decoder_heads) for _ in range(decoder_depth))
        self.decoder_blocks = nn.Sequential(*blocks)
        self.decoder_norm = nn.LayerNorm(decoder_features)
        self.decoder_pred = nn.Linear(decoder_features, patch**2 * channels)

    def forward(self, images: Tensor, keep: Any, restore: Any) -> Tensor:
        return self.decode(self.encode(images, keep), restore)

    def encode(self, images: Tensor, keep: Any = None) -> Tensor:
        """The class token and those of the visible patches (of all, without `keep`): -> (N, 1 + K, features)."""
        return self.encoder.tokens(images, keep)

    def decode(self, tokens: Tensor, restore: Any) -> Tensor:
        """Encoded tokens (N, 1 + K, features) -> predicted patches (N, L, patch²·C), the visible ones too."""
        x = self.decoder_embed(tokens)  # (N, 1 + K, D')
        (N, L), K = restore.shape, x.shape[1] - 1
        hidden = ops.broadcast_to(self.mask_token, (N, L - K, x.shape[2]))  # (N, L - K, D')
        patches = take_tokens(ops.concatenate([x[:, 1:], hidden], axis=1), restore)  # (N, L, D'), in reading order
        x = ops.concatenate([x[:, :1], patches], axis=1) + self.decoder_pos_embed  # (N, 1 + L, D')
        return self.decoder_pred(self.decoder_norm(self.decoder_blocks(x)[:, 1:]))


def random_mask(N: int, L: int, ratio: float, rng: Any) -> tuple[Array, Array, Array]:
    """Hide round(ratio·L) of the L patches of each image, and keep K: every choice is as likely as any other.

    Returns arrays on the current backend. keep (N, K): numbers of the visible patches. restore (N, L): where each patch
    stands in the shuffled order, the visible ones first. mask (N, L): 1 where hidden, in float32. The host generator
    `rng` draws N·L numbers. Raises ValueError where no patch would be visible.
    """
    K = L - round(ratio * L)
    if not 1 <= K <= L:
        raise ValueError(f"random_mask: expected a ratio from 0 that leaves a patch of {L} visible, got {ratio}")
    order = backend.to_device(rng.random((N, L)).argsort(axis=1))  # (N, L), a permutation in each row
    restore = order.argsort(axis=1)  # its inverse: order[n, restore[n, l]] = l
    return order[:, :K], restore, (restore >= K).astype("float32")


def patchify(images: Any, size: int) -> Tensor:
    """Images (N, H, W, C) as patches (N, L, size·size·C): L = h·w in reading order, of pixels (p, q) and channels c."""
    images = as_tensor(images)
    if images.ndim != 4 or images.shape[1] % size or images.shape[2] % size:
        raise ValueError(f"patchify: expected images (N, H, W, C) that patches of {size} divide, got {images.shape}")
    N, H, W, C = images.shape
    patches = ops.unfold(images, size)  # (N, h, w, p, q, C)
    return patches.reshape(N, (H // size) * (W // size), size * size * C)


def unpatchify(patches: Any, size: int, height: int, width: int) -> Tensor:
    """The inverse of `patchify`: patches (N, L, size·size·C) -> images (N, height, width, C)."""
    patches, h, w = as_tensor(patches), height // size, width // size
    divided = (h * size, w * size) == (height, width)
    if patches.ndim != 3 or patches.shape[1] != h * w or patches.shape[2] % size**2 or not divided:
        raise ValueError(
            f"unpatchify: expected {h * w} patches of {size}x{size} pixels that make images of {(height, width)}, "
            f"got {patches.shape}"
        )
    N, _, D = patches.shape
    return ops.fold(patches.reshape(N, h, w, size, size, D // size**2), height, width)


def normalize_patches(target: Any) -> Tensor:
    """(t − mean)/√(var + 10⁻⁶), both of each patch's own D numbers, var with D − 1 below: (N, L, D) -> (N, L, D).

    What remains to be found is a patch's pattern, not its brightness or contrast.
    """
    t = as_tensor(target)
    variance = t.var(axis=-1, keepdims=True, ddof=1)  # (N, L, 1)
    return (t - t.mean(axis=-1, keepdims=True)) / (variance + 1e-6).sqrt()
