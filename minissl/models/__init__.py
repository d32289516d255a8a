"""Networks made of layers."""

from minissl.models.mae import MaskedAutoencoder
from minissl.models.mlp import mlp
from minissl.models.resnet import ResNet, resnet18
from minissl.models.vit import VisionTransformer, vit_tiny

__all__ = ["MaskedAutoencoder", "ResNet", "VisionTransformer", "mlp", "resnet18", "vit_tiny"]
