"""Networks made of layers."""

from minissl.models.mlp import mlp
from minissl.models.resnet import ResNet, resnet18

__all__ = ["ResNet", "mlp", "resnet18"]
