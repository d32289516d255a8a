"""The same training steps and ops in PyTorch, written as PyTorch's users write them.

Imported only where torch is installed. A new step is one function here that builds network, loss and optimizer, named
as in `workloads.py`; a new op is a line in OPS, named as in `op_cases.py`. Modules have the names that minissl's have,
so that weights can be copied by name.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.workloads import (
    ADAM_RATE,
    ADAMW_BETAS,
    ADAMW_DECAY,
    BANDS,
    CHANNELS,
    CLASSES,
    DECODER_DEPTH,
    DEPTH,
    EMBEDDING,
    LEARNING_RATE,
    MOMENTUM,
    PATCH,
    TEMPERATURE,
    WEIGHT_DECAY,
    Size,
    decoder_width,
    heads,
    pixels,
)


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + shortcut)


class ResNet18(nn.Module):
    """With a 3x3 stem at stride 1: (N, C, H, W) -> (N, 8·width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(CHANNELS, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(BasicBlock(width, width, 1), BasicBlock(width, width, 1))
        self.layer2 = nn.Sequential(BasicBlock(width, 2 * width, 2), BasicBlock(2 * width, 2 * width, 1))
        self.layer3 = nn.Sequential(BasicBlock(2 * width, 4 * width, 2), BasicBlock(4 * width, 4 * width, 1))
        self.layer4 = nn.Sequential(BasicBlock(4 * width, 8 * width, 2), BasicBlock(8 * width, 8 * width, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean((2, 3))


class BatchNormReLU(nn.BatchNorm1d):
    """One layer, as minissl counts it."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


class Attention(nn.Module):
    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(features, 3 * features), nn.Linear(features, features)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        N, L, D = x.shape
        q, k, v = self.qkv(x).reshape(N, L, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)  # (N, heads, L, D/heads)
        return self.proj(y.transpose(1, 2).reshape(N, L, D))


class TransformerBlock(nn.Module):
    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(features, eps=1e-6), Attention(features, heads)
        self.norm2 = nn.LayerNorm(features, eps=1e-6)
        fc1, fc2 = nn.Linear(features, 4 * features), nn.Linear(4 * features, features)
        self.mlp = nn.Sequential()
        for name, layer in {"fc1": fc1, "act": nn.GELU("tanh"), "fc2": fc2}.items():
            self.mlp.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """(N, C, H, W) -> the class token's features (N, D)."""

    def __init__(self, image: int, features: int, fixed_positions: bool = False) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(CHANNELS, features, PATCH, PATCH)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, features))
        positions = torch.zeros(1, 1 + (image // PATCH) ** 2, features)  # all weights are copied from minissl
        self.pos_embed = nn.Buffer(positions) if fixed_positions else nn.Parameter(positions)
        self.blocks = nn.Sequential(*(TransformerBlock(features, heads(features)) for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(features, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.blocks(self.embed(x))[:, 0])

    def embed(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        tokens = self.patch_embed["proj"](x).flatten(2).transpose(1, 2) + self.pos_embed[:, 1:]  # (N, L, D)
        if visible is not None:
            tokens = take_tokens(tokens, visible)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        return torch.cat([first, tokens], 1)


def take_tokens(x: Tensor, index: Tensor) -> Tensor:
    """(N, L, D), (N, K) -> (N, K, D)."""
    return torch.gather(x, 1, index[:, :, None].expand(-1, -1, x.shape[2]))


class MaskedAutoencoder(nn.Module):
    """(N, C, H, W) -> the pixels of all patches (N, L, PATCH²·C)."""

    def __init__(self, image: int, width: int) -> None:
        super().__init__()
        narrow = decoder_width(width)
        self.encoder = VisionTransformer(image, width, fixed_positions=True)
        self.decoder_embed = nn.Linear(width, narrow)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, narrow))
        self.decoder_pos_embed = nn.Buffer(torch.zeros(1, 1 + (image // PATCH) ** 2, narrow))
        self.decoder_blocks = nn.Sequential(*(TransformerBlock(narrow, heads(width)) for _ in range(DECODER_DEPTH)))
        self.decoder_norm = nn.LayerNorm(narrow, eps=1e-6)
        self.decoder_pred = nn.Linear(narrow, PATCH**2 * CHANNELS)

    def forward(self, images: Tensor, keep: Tensor, restore: Tensor) -> Tensor:
        seen = self.encoder.norm(self.encoder.blocks(self.encoder.embed(images, keep)))
        x = self.decoder_embed(seen)  # (N, 1 + K, D)
        N, L = restore.shape
        hidden = self.mask_token.expand(N, L - keep.shape[1], -1)
        patches = take_tokens(torch.cat([x[:, 1:], hidden], 1), restore)
        x = self.decoder_blocks(torch.cat([x[:, :1], patches], 1) + self.decoder_pos_embed)
        return self.decoder_pred(self.decoder_norm(x[:, 1:]))


class Season(nn.Module):
    """(N, T, bands) -> the last state (N, H)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(BANDS, hidden, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x)
        return states[:, -1]


Built = tuple[nn.Module, Callable[..., Tensor], torch.optim.Optimizer]


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY)


def adam(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters(), ADAM_RATE)


def adamw(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(network.parameters(), ADAM_RATE, ADAMW_BETAS, weight_decay=ADAMW_DECAY)


def supervised(encoder: nn.Module, features: int, optimizer: Callable[[nn.Module], torch.optim.Optimizer]) -> Built:
    network = nn.ModuleDict({"encoder": encoder, "classifier": nn.Linear(features, CLASSES)})

    def loss(x: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(network["classifier"](network["encoder"](x)), labels)

    return network, loss, optimizer(network)


def resnet(size: Size) -> Built:
    return supervised(ResNet18(size.width), 8 * size.width, sgd)


def vit(size: Size) -> Built:
    return supervised(VisionTransformer(size.side, size.width), size.width, sgd)


def lstm(size: Size) -> Built:
    return supervised(Season(size.width), size.width, adam)


def mlp(size: Size) -> Built:
    hidden = nn.Sequential(nn.Linear(pixels(size), size.width), nn.ReLU(), nn.Linear(size.width, size.width))
    return supervised(nn.Sequential(hidden, nn.ReLU()), size.width, adam)


def nt_xent(z1: Tensor, z2: Tensor) -> Tensor:
    z = F.normalize(torch.cat([z1, z2]))
    logits = z @ z.T / TEMPERATURE  # (2N, 2N)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    partner = (torch.arange(len(z), device=z.device) + len(z1)) % len(z)
    return F.cross_entropy(logits.masked_fill(itself, -torch.inf), partner)


def simclr(size: Size) -> Built:
    features = 8 * size.width
    hidden, last = nn.Linear(features, features, bias=False), nn.Linear(features, EMBEDDING)
    head = nn.Sequential(hidden, BatchNormReLU(features), last)
    network = nn.ModuleDict({"encoder": ResNet18(size.width), "head": head})

    def loss(view1: Tensor, view2: Tensor) -> Tensor:
        z1, z2 = network["head"](network["encoder"](torch.cat([view1, view2]))).chunk(2)
        return nt_xent(z1, z2)

    return network, loss, sgd(network)


def patchify(images: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, L, PATCH²·C), the pixels of a patch in the order (row, column, channel)."""
    N, C, H, W = images.shape
    patches = images.reshape(N, C, H // PATCH, PATCH, W // PATCH, PATCH).permute(0, 2, 4, 3, 5, 1)
    return patches.reshape(N, -1, PATCH**2 * C)


def mae(size: Size) -> Built:
    network = nn.ModuleDict({"autoencoder": MaskedAutoencoder(size.side, size.width)})

    def loss(images: Tensor, keep: Tensor, restore: Tensor, mask: Tensor) -> Tensor:
        target = patchify(images)
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
        error = ((network["autoencoder"](images, keep, restore) - target) ** 2).mean(-1)  # (N, L)
        return (error * mask).sum() / mask.sum()

    return network, loss, adamw(network)


STEPS: dict[str, Callable[[Size], Built]] = {
    "resnet": resnet,
    "vit": vit,
    "simclr": simclr,
    "simclr_augmented": simclr,
    "mae": mae,
    "lstm": lstm,
    "mlp": mlp,
}

OPS: dict[str, Callable[..., Any]] = {
    "conv2d": F.conv2d,
    "batch_norm_relu": lambda x, gamma, beta: F.relu(F.batch_norm(x, None, None, gamma, beta, training=True)),
    "max_pool2d": lambda x, size, stride, padding: F.max_pool2d(x, size, stride, padding),
    "layer_norm": lambda x, gamma, beta: F.layer_norm(x, gamma.shape, gamma, beta),
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "softmax": lambda x: F.softmax(x, -1),
    "attention": F.scaled_dot_product_attention,
    "matmul": torch.matmul,
    "embedding": lambda table, index: F.embedding(index, table),
    "scatter_add": lambda x, index, values: x.index_add(0, index, values),
    "nt_xent": nt_xent,
}
