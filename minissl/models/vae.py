"""The variational autoencoder (Kingma and Welling, 2014, "Auto-Encoding Variational Bayes").

The encoder gives not a code but a Gaussian of codes, from which one is drawn:

    μ, log σ² = encode(x)     z = μ + σ ε,  ε ~ N(0, 1)     y = decode(z)
    loss = ‖y − x‖²/2 + KL(N(μ, σ²) ‖ N(0, 1))     (`losses.gaussian_kl`)

The draw is outside the network, in ε: the gradient passes through μ and σ. The KL term keeps all codes together around
0, so that decode(z) of any z ~ N(0, 1) is an image of the same kind.
"""

from typing import Any

from minissl import backend, ops
from minissl.models.autoencoder import ConvDecoder, ConvEncoder
from minissl.nn import Module
from minissl.tensor import Tensor


class VAE(Module):
    """images (N, H, W, C), noise (N, latent) -> reconstruction (N, H, W, C), μ and log σ² (N, latent).

    Sizes as for `ConvEncoder`. Features are μ.
    """

    def __init__(
        self,
        image: int | tuple[int, int] = 64,
        channels: int = 3,
        width: int = 16,
        depth: int = 4,
        latent: int = 64,
    ) -> None:
        self.encoder = ConvEncoder(image, channels, width, depth, 2 * latent)  # μ and log σ² side by side
        self.decoder = ConvDecoder(image, channels, width, depth, latent)
        self.latent = self.out_features = latent

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """μ and log σ², (N, latent) each."""
        mu, log_var = ops.split(self.encoder(x), 2, axis=1)
        return mu, log_var

    def decode(self, z: Tensor) -> Tensor:
        """Codes (N, latent) -> images (N, H, W, C)."""
        return self.decoder(z)

    def sample(self, noise: Any) -> Tensor:
        """Images (N, H, W, C) of codes that nobody has seen: noise (N, latent) ~ N(0, 1)."""
        return self.decode(Tensor(noise))

    def features(self, x: Tensor, stage: str | None = None) -> Tensor:
        """μ (N, latent), or the output of one of the encoder's stages."""
        return self.encode(x)[0] if stage is None else self.encoder.features(x, stage)

    def forward(self, x: Tensor, noise: Any) -> tuple[Tensor, Tensor, Tensor]:
        mu, log_var = self.encode(x)
        return self.decode(reparameterise(mu, log_var, noise)), mu, log_var


def reparameterise(mu: Tensor, log_var: Tensor, noise: Any) -> Tensor:
    """z = μ + σ ε, σ = exp(½ log σ²): all (N, latent). noise: ε ~ N(0, 1), a constant array; see `gaussian_noise`."""
    return mu + ops.exp(0.5 * log_var) * noise


def gaussian_noise(N: int, latent: int, rng: Any) -> backend.Array:
    """ε ~ N(0, 1), float32 (N, latent) on the current backend, from a host generator."""
    return backend.to_device(rng.standard_normal((N, latent), "float32"))
