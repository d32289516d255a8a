"""Layers and the Module that holds them."""

from minissl.nn import initializers
from minissl.nn.layers import BatchNorm, Conv2d, GlobalAveragePool, Identity, Linear, MaxPool2d, ReLU
from minissl.nn.module import Buffer, Module, Parameter, Sequential

__all__ = [
    "BatchNorm",
    "Buffer",
    "Conv2d",
    "GlobalAveragePool",
    "Identity",
    "Linear",
    "MaxPool2d",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "initializers",
]
