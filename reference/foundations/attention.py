"""Attention: an image becomes a set of patches, and every patch gathers what it needs from all the others.

Tokens x (L patches, and a class token that starts without content) make queries, keys and values. In each of several
heads a token takes the mean of all values, weighted by how well its query meets their keys:

    A = softmax(Q Kᵀ/√d)  (L, L)     y = A V     Q, K, V = x W_q, x W_k, x W_v     x ← x + y W_o,  x ← x + mlp(x)

Notice that a row of A says where a token looked: `attention.png` shows it for the class token, whose last state is the
representation h. And that nothing in the equation knows where a patch lies: that is added to the tokens at the start
as a learned vector for each place. A CNN is born knowing that near things belong together; a transformer has to learn
it from images, and with few of them it stays behind.

(Vaswani et al., 2017, "Attention Is All You Need"; Dosovitskiy et al., 2021, "An Image is Worth 16x16 Words")

Differs from the papers: 4 blocks of 64 features for images of 64 pixels, no pre-training on other images, and crops,
flips and turns as the only augmentation.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from minissl import models
from minissl.data import DataSet
from reference import pictures
from reference.foundations.mlp import accuracies
from reference.method import Inputs
from reference.settings import Settings
from reference.supervised import Supervised


@dataclass(kw_only=True)
class Config(Settings):
    """The transformer's settings."""

    # Side of a patch in pixels; the image's side must be a multiple of it
    patch: int = 8
    # Features D of a token, a multiple of the heads
    width: int = 64
    # Blocks, each an attention and an MLP
    depth: int = 4
    # Heads: each attends in its own way, with width / heads features
    heads: int = 4
    # How often every training image is seen
    epochs: int = 30
    # Update rule
    optimizer: Literal["sgd", "lars", "adam", "adamw"] = "adamw"
    # Peak of the learning rate, reached after the warm-up; then half a cosine down to 0
    learning_rate: float = 1e-3
    # Epochs of linear warm-up
    warmup_epochs: int = 3
    # L2 penalty on matrices and kernels (biases and norm layers have none)
    weight_decay: float = 0.05


class Transformer(Supervised):
    """The encoder gives the class token's last state; `Supervised` brings classifier, crops and cross entropy."""

    settings = Config
    needs_image_size = True
    config: Config
    encoder: models.VisionTransformer
    learns_from_labels = True

    def __init__(self, config: Config, inputs: Inputs) -> None:
        encoder = models.VisionTransformer(
            config.image_size, config.patch, inputs.channels, config.width, config.depth, config.heads
        )
        super().__init__(config, inputs, encoder, config.width)

    def measure(self, parts: dict[str, DataSet], out: Path) -> dict[str, float]:
        pictures.attention(self, parts["test"], out / "attention.png")
        return accuracies(self, parts["test"])
