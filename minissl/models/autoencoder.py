"""Autoencoders: an encoder makes a code z of the input, a decoder makes the input of the code.

    z = encode(x)     y = decode(z)     loss = ‖y − x‖², as `losses.mse`

A code narrower than the input has to summarize it. One that is wider can copy it and learn nothing, unless the input is
corrupted before it is encoded, and y is compared with what it was: the denoising autoencoder. No layer bounds y, so
that standardized images can be rebuilt.
"""

import itertools
import math
from collections.abc import Iterator

from minissl import nn, ops
from minissl.models.backbone import Backbone
from minissl.models.mlp import mlp
from minissl.ops.checks import pair
from minissl.tensor import Tensor


class DeepAutoencoder(nn.Module):
    """Fully connected, the decoder the encoder's mirror: (N, ...) of `inputs` numbers each -> the same shape.

    Linear layers with ReLU between them (the paper: logistic units, trained layer by layer first); without `hidden`
    both halves are linear. (Hinton and Salakhutdinov, 2006, "Reducing the Dimensionality of Data with Neural Networks")
    """

    def __init__(self, inputs: int, hidden: tuple[int, ...] = (512, 256), latent: int = 32) -> None:
        self.encoder = mlp(inputs, *hidden, latent)
        self.decoder = mlp(latent, *reversed(hidden), inputs)
        self.inputs, self.out_features = inputs, latent

    def encode(self, x: Tensor) -> Tensor:
        """Images or rows (N, ...) -> codes (N, latent)."""
        return self.encoder(rows("DeepAutoencoder", x, self.inputs))

    def decode(self, z: Tensor) -> Tensor:
        """Codes (N, latent) -> rows (N, inputs)."""
        return self.decoder(z)

    def features(self, x: Tensor) -> Tensor:
        return self.encode(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x)).reshape(x.shape)


class StackedDenoisingAutoencoder(nn.Module):
    """Layers that are trained one after another, each to undo the corruption of its own input, and then as one encoder.

    Layer d = 1, 2, ... makes sizes[d] numbers of sizes[d − 1]. With h = encode(x, d − 1), a constant, its loss is
    `losses.mse(reconstruct(corrupted h, d), h)`. Afterwards `encode` is the start of a network to be fine-tuned.
    h = relu(x W + b), y = h V + c; the paper has logistic units and V = Wᵀ.

    (Vincent et al., 2010, "Stacked Denoising Autoencoders")
    """

    def __init__(self, sizes: tuple[int, ...]) -> None:
        if len(sizes) < 2:
            raise ValueError(f"StackedDenoisingAutoencoder: expected the sizes of input and a layer, got {sizes}")
        self.encoders = nn.ModuleList(nn.Linear(D, H) for D, H in itertools.pairwise(sizes))
        self.decoders = nn.ModuleList(nn.Linear(H, D) for D, H in itertools.pairwise(sizes))
        self.sizes, self.out_features = sizes, sizes[-1]

    def encode(self, x: Tensor, depth: int | None = None) -> Tensor:
        """Images or rows (N, ...) through the first `depth` layers, all unless given: -> (N, sizes[depth])."""
        depth = len(self.encoders) if depth is None else depth
        if not 0 <= depth <= len(self.encoders):
            raise ValueError(f"encode: expected a depth from 0 to {len(self.encoders)}, got {depth}")
        h = rows("StackedDenoisingAutoencoder", x, self.sizes[0])
        for layer in itertools.islice(self.encoders, depth):
            h = ops.relu(layer(h))
        return h

    def reconstruct(self, h: Tensor, depth: int) -> Tensor:
        """Layer `depth` alone encodes and decodes what is its own input: (N, sizes[depth − 1]) -> the same shape."""
        if not 1 <= depth <= len(self.encoders):
            raise ValueError(f"reconstruct: expected a depth from 1 to {len(self.encoders)}, got {depth}")
        return self.decoders[depth - 1](ops.relu(self.encoders[depth - 1](h)))

    def features(self, x: Tensor) -> Tensor:
        return self.encode(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.encode(x)


class ConvEncoder(Backbone):
    """`depth` convolutions at stride 2, and a linear layer over all that is left: (N, H, W, C) -> (N, latent).

    image: side, or (H, W), multiples of 2^depth; no other size is taken. Convolution i makes width·2^(i − 1) channels.
    """

    def __init__(
        self,
        image: int | tuple[int, int] = 64,
        channels: int = 3,
        width: int = 16,
        depth: int = 4,
        latent: int = 128,
    ) -> None:
        self.image, (h, w) = pair("ConvEncoder", "image", image, 1), coarsest(image, depth)
        sizes = [channels, *(width << i for i in range(depth))]
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(C, D, 3, 2, 1, bias=False), nn.BatchNorm(D, relu=True))
            for C, D in itertools.pairwise(sizes)
        )
        self.fc = nn.Linear(h * w * sizes[-1], latent)
        self.stages = (*(f"conv{i}" for i in range(1, depth + 1)), "latent")
        self.out_features = latent

    def run(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        if x.shape[1:3] != self.image:
            raise ValueError(f"ConvEncoder: expected images (N, {self.image[0]}, {self.image[1]}, C), got {x.shape}")
        for name, layer in zip(self.stages, self.convs, strict=False):
            yield name, (x := layer(x))  # (N, H/2^i, W/2^i, width·2^(i − 1))
        yield "latent", self.fc(x.reshape(len(x), -1))

    def pool(self, x: Tensor) -> Tensor:
        return x


class ConvDecoder(nn.Module):
    """The mirror of ConvEncoder: codes (N, latent) -> images (N, H, W, C). Pixels are repeated, then convolved.

    (Odena et al., 2016, "Deconvolution and Checkerboard Artifacts": why not transposed convolutions)
    """

    def __init__(
        self,
        image: int | tuple[int, int] = 64,
        channels: int = 3,
        width: int = 16,
        depth: int = 4,
        latent: int = 128,
    ) -> None:
        self.shape = (*coarsest(image, depth), width << depth - 1)  # h, w, D
        self.fc = nn.Linear(latent, math.prod(self.shape))
        layers: list[nn.Module] = [nn.BatchNorm(self.shape[2], relu=True)]
        for i in reversed(range(1, depth)):
            C, D = width << i, width << i - 1
            layers += [nn.UpsampleConv2d(C, D, bias=False), nn.BatchNorm(D, relu=True)]
        self.layers = nn.Sequential(*layers, nn.UpsampleConv2d(width, channels))

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(self.fc(z).reshape(len(z), *self.shape))


class ConvAutoencoder(nn.Module):
    """Images (N, H, W, C) -> codes (N, latent) -> images (N, H, W, C); settings as for ConvEncoder."""

    def __init__(
        self,
        image: int | tuple[int, int] = 64,
        channels: int = 3,
        width: int = 16,
        depth: int = 4,
        latent: int = 128,
    ) -> None:
        self.encoder = ConvEncoder(image, channels, width, depth, latent)
        self.decoder = ConvDecoder(image, channels, width, depth, latent)
        self.out_features = latent

    def encode(self, x: Tensor) -> Tensor:
        """Images (N, H, W, C) -> codes (N, latent)."""
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """Codes (N, latent) -> images (N, H, W, C)."""
        return self.decoder(z)

    def features(self, x: Tensor, stage: str | None = None) -> Tensor:
        return self.encoder.features(x, stage)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


def rows(network: str, x: Tensor, inputs: int) -> Tensor:
    """(N, ...) of `inputs` numbers each as (N, inputs)."""
    if x.ndim < 2 or math.prod(x.shape[1:]) != inputs:
        raise ValueError(f"{network}: expected (N, ...) of {inputs} numbers each, got {x.shape}")
    return x.reshape(len(x), inputs)


def coarsest(image: int | tuple[int, int], depth: int) -> tuple[int, int]:
    """Height and width after `depth` halvings."""
    H, W = pair("ConvEncoder", "image", image, 1)
    if depth < 1 or H % 2**depth or W % 2**depth:
        raise ValueError(
            f"ConvEncoder: expected a depth of 1 or more, and sides that {2**depth} = 2^depth divides, "
            f"got images of {(H, W)} at depth {depth}"
        )
    return H >> depth, W >> depth
