"""Networks made of layers."""

from minissl.models.alexnet import AlexNet
from minissl.models.autoencoder import (
    ConvAutoencoder,
    ConvDecoder,
    ConvEncoder,
    DeepAutoencoder,
    StackedDenoisingAutoencoder,
)
from minissl.models.backbone import Backbone
from minissl.models.gan import Discriminator, Generator
from minissl.models.mae import MaskedAutoencoder
from minissl.models.mlp import mlp
from minissl.models.recurrent import SequenceClassifier
from minissl.models.resnet import ResNet, resnet18, resnet34, resnet50, resnet101, resnet152
from minissl.models.segmentation import SegmentationDecoder, UNet, UNetEncoder
from minissl.models.swin import SwinTransformer, swin_tiny
from minissl.models.torch_state import load_torch_state, torch_state
from minissl.models.vae import VAE
from minissl.models.vgg import VGG16
from minissl.models.vit import VisionTransformer, vit_base, vit_small, vit_tiny

__all__ = [
    "VAE",
    "VGG16",
    "AlexNet",
    "Backbone",
    "ConvAutoencoder",
    "ConvDecoder",
    "ConvEncoder",
    "DeepAutoencoder",
    "Discriminator",
    "Generator",
    "MaskedAutoencoder",
    "ResNet",
    "SegmentationDecoder",
    "SequenceClassifier",
    "StackedDenoisingAutoencoder",
    "SwinTransformer",
    "UNet",
    "UNetEncoder",
    "VisionTransformer",
    "load_torch_state",
    "mlp",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "swin_tiny",
    "torch_state",
    "vit_base",
    "vit_small",
    "vit_tiny",
]
