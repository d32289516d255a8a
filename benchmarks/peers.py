"""The same training steps and ops in PyTorch, written as PyTorch's users write them.

Imported only where torch is installed. A new step is a line in STEPS that builds network, loss and optimizer, named as
in `workloads.py`; a new op is a line in OPS, named as in `op_cases.py`. Modules have the names that
`minissl.models.torch_state` gives minissl's, so that weights can be copied by name.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.torch_networks import ConvAutoencoder, ResNet, SequenceClassifier, UNet, alexnet, vgg16
from benchmarks.torch_transformers import MaskedAutoencoder, SwinTransformer, VisionTransformer
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
    HIDDEN_UNITS,
    LEARNING_RATE,
    MOMENTUM,
    PATCH,
    TEMPERATURE,
    WEIGHT_DECAY,
    WINDOW,
    Size,
    decoder_width,
    heads,
    pixels,
)


class BatchNormReLU(nn.BatchNorm1d):
    """One layer, as minissl counts it."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


Built = tuple[nn.Module, Callable[..., Tensor], torch.optim.Optimizer]


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY)


def adam(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters(), ADAM_RATE)


def adamw(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(network.parameters(), ADAM_RATE, ADAMW_BETAS, weight_decay=ADAMW_DECAY)


def learner(network: nn.Module, optimizer: Callable[[nn.Module], torch.optim.Optimizer]) -> Built:
    """A network that learns classes of images or of pixels, or the images themselves."""

    def loss(x: Tensor, target: Tensor) -> Tensor:
        y = network(x)
        return F.mse_loss(y, target) if target.is_floating_point() else F.cross_entropy(y, target)

    return nn.ModuleDict({"network": network}), loss, optimizer(network)


def resnet18(size: Size, stem: str = "imagenet") -> nn.Module:
    return ResNet([2, 2, 2, 2], 1, size.width, CHANNELS, CLASSES, stem)


def vit(size: Size) -> nn.Module:
    return VisionTransformer(size.side, PATCH, CHANNELS, size.width, DEPTH, heads(size.width), CLASSES)


def swin_tiny(size: Size) -> nn.Module:
    return SwinTransformer((2, 2, 6, 2), (3, 6, 12, 24), size.width, WINDOW, 2, CHANNELS, CLASSES)


def lstm(size: Size) -> Built:
    return learner(SequenceClassifier(BANDS, size.width, CLASSES), adam)


def mlp(size: Size) -> Built:
    D = size.width
    layers = [nn.Linear(pixels(size), D), nn.ReLU(), nn.Linear(D, D), nn.ReLU(), nn.Linear(D, CLASSES)]
    return learner(nn.Sequential(*layers), adam)


def nt_xent(z1: Tensor, z2: Tensor) -> Tensor:
    z = F.normalize(torch.cat([z1, z2]))
    logits = z @ z.T / TEMPERATURE  # (2N, 2N)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    partner = (torch.arange(len(z), device=z.device) + len(z1)) % len(z)
    return F.cross_entropy(logits.masked_fill(itself, -torch.inf), partner)


def squared(a: Tensor, b: Tensor) -> Tensor:
    return ((a - b) ** 2).sum(1)


def unit_squared(a: Tensor, b: Tensor) -> Tensor:
    return squared(F.normalize(a), F.normalize(b))


def matched(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def clip(a: Tensor, b: Tensor) -> Tensor:
    S = F.normalize(a) @ F.normalize(b).T / TEMPERATURE
    return (matched(S) + matched(S.T)) / 2


def queue(q: Tensor, p: Tensor, queued: Tensor) -> Tensor:
    logits = torch.cat([(q * p).sum(1, keepdim=True), q @ queued.T], 1)  # (N, 1 + K)
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64, device=q.device))


def soft_nearest_neighbor(z: Tensor, labels: Tensor) -> Tensor:
    logits = -(torch.cdist(z, z) ** 2).fill_diagonal_(torch.inf)
    partners = logits.masked_fill(labels[:, None] != labels, -torch.inf).logsumexp(1)
    return (logits.logsumexp(1) - partners)[partners > -torch.inf].mean()


def simclr(size: Size) -> Built:
    features = 8 * size.width
    hidden, last = nn.Linear(features, features, bias=False), nn.Linear(features, EMBEDDING)
    head = nn.Sequential(hidden, BatchNormReLU(features), last)
    encoder = ResNet([2, 2, 2, 2], 1, size.width, CHANNELS, stem="cifar")
    network = nn.ModuleDict({"encoder": encoder, "head": head})

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
    width, narrow = size.width, decoder_width(size.width)
    autoencoder = MaskedAutoencoder(size.side, PATCH, CHANNELS, width, DEPTH, heads(width), narrow, DECODER_DEPTH)
    network = nn.ModuleDict({"autoencoder": autoencoder})

    def loss(images: Tensor, keep: Tensor, restore: Tensor, mask: Tensor) -> Tensor:
        target = patchify(images)
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
        error = ((autoencoder(images, keep, restore) - target) ** 2).mean(-1)  # (N, L)
        return (error * mask).sum() / mask.sum()

    return network, loss, adamw(network)


STEPS: dict[str, Callable[[Size], Built]] = {
    "resnet": lambda size: learner(resnet18(size, "cifar"), sgd),
    "vit": lambda size: learner(vit(size), sgd),
    "simclr": simclr,
    "simclr_augmented": simclr,
    "mae": mae,
    "lstm": lstm,
    "mlp": mlp,
    "resnet18": lambda size: learner(resnet18(size), sgd),
    "resnet50": lambda size: learner(ResNet([3, 4, 6, 3], 4, size.width, CHANNELS, CLASSES), sgd),
    "alexnet": lambda size: learner(alexnet(size.width, HIDDEN_UNITS, CHANNELS, CLASSES, 2), sgd),
    "vgg16": lambda size: learner(vgg16(size.width, HIDDEN_UNITS, CHANNELS, CLASSES), sgd),
    "vit_tiny": lambda size: learner(vit(size), adamw),
    "vit_small": lambda size: learner(vit(size), adamw),
    "swin_tiny": lambda size: learner(swin_tiny(size), adamw),
    "unet": lambda size: learner(UNet(CLASSES, CHANNELS, size.width, 4), sgd),
    "conv_autoencoder": lambda size: learner(ConvAutoencoder(size.side, CHANNELS, size.width, 4, EMBEDDING), adam),
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
    "losses.contrastive": lambda a, b, same: torch.where(same == 1, squared(a, b), F.relu(1 - squared(a, b))).mean(),
    "losses.triplet": lambda a, p, n: F.relu(squared(a, p) - squared(a, n) + 1).sum(),
    "losses.n_pair": lambda a, p, n: F.softplus(((n - p[:, None]) @ a[:, :, None])[:, :, 0].logsumexp(1)).mean(),
    "losses.n_pair_mc": lambda a, p: matched(a @ p.T),
    "losses.info_nce": lambda q, p: matched(q @ p.T),
    "losses.info_nce_queue": queue,
    "losses.nt_xent": nt_xent,
    "losses.soft_nearest_neighbor": soft_nearest_neighbor,
    "losses.instance_softmax": lambda v, bank, index: F.cross_entropy(v @ bank.T / 0.07, index),
    "losses.byol": lambda p1, z2, p2, z1: (unit_squared(p1, z2) + unit_squared(p2, z1)).mean(),
    "losses.clip": clip,
    "losses.distillation": lambda s, t: F.cross_entropy(s, F.softmax(t, 1)),
}
