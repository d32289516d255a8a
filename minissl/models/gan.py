"""A generator and a discriminator of images (Radford et al., 2016, "Unsupervised Representation Learning with Deep
Convolutional Generative Adversarial Networks", DCGAN).

    G: z -> image     D: image -> a logit, high where the image seems real

D learns to tell G's images from real ones, G to make D take its images for real (`losses.gan_discriminator`,
`losses.gan_generator`). No pooling: strides halve the sides, and pixels are repeated to double them. Weights start
Gaussian, σ = 0.02.
"""

from collections.abc import Iterator

from minissl import nn, ops
from minissl.models.autoencoder import ConvDecoder
from minissl.models.backbone import Backbone
from minissl.tensor import Tensor


class Generator(nn.Module):
    """z (N, latent) -> images (N, image, image, C) with values in [−1, 1]. image: 4·2^k pixels, k >= 1.

    The first map has 4x4 pixels and width·2^(k − 1) channels, each further one twice the side and down to `width`
    channels, and one more convolution paints the image. Pixels are repeated and convolved (`ConvDecoder`), where DCGAN
    has transposed convolutions, whose checkerboard a discriminator is slow to drive out.
    """

    def __init__(self, latent: int = 100, image: int = 64, channels: int = 3, width: int = 64) -> None:
        self.decoder = ConvDecoder(image, width, width, doublings("Generator", image), latent)
        self.paint = nn.Sequential(nn.BatchNorm(width, relu=True), nn.Conv2d(width, channels, 3, 1, 1))
        self.latent = latent
        start_small(self)

    def forward(self, z: Tensor) -> Tensor:
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise ValueError(f"Generator: expected z (N, {self.latent}), got {z.shape}")
        return ops.tanh(self.paint(self.decoder(z)))


class Discriminator(Backbone):
    """Images (N, image, image, C), or the filled holes of images, -> logits (N,). image: 4·2^k pixels, k >= 1.

    Stage conv_i has image/2^i rows and width·2^(i − 1) channels. LeakyReLU 0.2, and no BatchNorm in the first stage, so
    that D sees the images' own brightness. A batch should be all real or all generated: BatchNorm mixes what is in one.
    """

    def __init__(self, image: int = 64, channels: int = 3, width: int = 64) -> None:
        k = doublings("Discriminator", image)
        self.conv1 = nn.Conv2d(channels, width, 4, 2, 1)
        for i in range(1, k):
            layer = nn.Sequential(nn.Conv2d(width << i - 1, width << i, 4, 2, 1, bias=False), nn.BatchNorm(width << i))
            setattr(self, f"conv{i + 1}", layer)
        self.head = nn.Conv2d(width << k - 1, 1, 4)  # over all of the last map's 4x4 pixels
        self.stages = tuple(f"conv{i}" for i in range(1, k + 1))
        self.image, self.out_features = image, width << k - 1
        start_small(self)

    def run(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        if x.shape[1:3] != (self.image, self.image):
            raise ValueError(f"Discriminator: expected images (N, {self.image}, {self.image}, C), got {x.shape}")
        for name in self.stages:
            yield name, (x := ops.leaky_relu(getattr(self, name)(x), 0.2))  # the last: (N, 4, 4, out_features)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x, self.stages[-1])).reshape(len(x))


def doublings(network: str, image: int) -> int:
    """k, where image = 4·2^k."""
    k = (image // 4).bit_length() - 1
    if k < 1 or image != 4 << k:
        raise ValueError(f"{network}: expected an image side of 8, 16, 32, 64, ... pixels, got {image}")
    return k


def start_small(network: nn.Module) -> None:
    """Every matrix and kernel anew from N(0, 0.02²), as DCGAN has it."""
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.data = nn.initializers.normal(parameter.shape, 0.02)
