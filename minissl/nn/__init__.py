"""Layers and the Module that holds them."""

from minissl.nn import initializers
from minissl.nn.attention import (
    FeedForward,
    LearnedPositions,
    MultiHeadAttention,
    TransformerBlock,
    WindowAttention,
    sinusoidal_positions,
    sinusoidal_positions_2d,
)
from minissl.nn.containers import ModuleList, Sequential
from minissl.nn.costs import multiply_adds, watching
from minissl.nn.layers import (
    GELU,
    ChannelwiseLinear,
    Conv1d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    DropPath,
    Embedding,
    GlobalAveragePool,
    Identity,
    Linear,
    MaxPool2d,
    PatchEmbed,
    ReLU,
    Upsample,
    UpsampleConv2d,
)
from minissl.nn.memory import MemoryBank, Queue
from minissl.nn.module import Buffer, Module, Parameter
from minissl.nn.normalization import BatchNorm, GroupNorm, LayerNorm, synchronize
from minissl.nn.prototypes import Prototypes
from minissl.nn.recurrent import GRU, LSTM, RNN
from minissl.nn.summary import summary

__all__ = [
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "BatchNorm",
    "Buffer",
    "ChannelwiseLinear",
    "Conv1d",
    "Conv2d",
    "ConvTranspose2d",
    "DropPath",
    "Dropout",
    "Embedding",
    "FeedForward",
    "GlobalAveragePool",
    "GroupNorm",
    "Identity",
    "LayerNorm",
    "LearnedPositions",
    "Linear",
    "MaxPool2d",
    "MemoryBank",
    "Module",
    "ModuleList",
    "MultiHeadAttention",
    "Parameter",
    "PatchEmbed",
    "Prototypes",
    "Queue",
    "ReLU",
    "Sequential",
    "TransformerBlock",
    "Upsample",
    "UpsampleConv2d",
    "WindowAttention",
    "initializers",
    "multiply_adds",
    "sinusoidal_positions",
    "sinusoidal_positions_2d",
    "summary",
    "synchronize",
    "watching",
]
