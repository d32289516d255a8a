"""The single ops that are measured: shapes as they occur in the steps of `workloads.py`.

A new op is its line in OPS and one of the same name in `peers.OPS`; a new shape is a line in CASES.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from benchmarks.workloads import TEMPERATURE
from minissl import losses, ops

Kind = Literal["rows", "image", "kernel"]


@dataclass(frozen=True)
class Input:
    """An array that goes into an op.

    kind: "image" (N, H, W, C) and "kernel" (kh, kw, C, O) are laid out differently in PyTorch; "rows" are not.
    learned: whether its gradient is asked for. below: it holds integers 0..below−1 instead of normal numbers.
    """

    shape: tuple[int, ...]
    kind: Kind = "rows"
    learned: bool = True
    below: int | None = None

    def array(self, seed: int) -> np.ndarray:
        """Standard normal numbers; kernels smaller, so that outputs are about 1."""
        rng = np.random.default_rng(seed)
        if self.below is not None:
            return rng.integers(0, self.below, self.shape)
        scale = math.prod(self.shape[:-1]) ** -0.5 if self.kind == "kernel" else 1.0
        return rng.standard_normal(self.shape, np.float32) * np.float32(scale)


@dataclass(frozen=True)
class Case:
    """An op with the inputs and options it is measured with."""

    op: str
    inputs: tuple[Input, ...]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def layout(self) -> bool:
        """Whether there are images, which PyTorch holds in one of two layouts."""
        return any(given.kind == "image" for given in self.inputs)

    def arrays(self) -> list[np.ndarray]:
        return [given.array(seed) for seed, given in enumerate(self.inputs, 1)]

    def flops(self, outputs: int) -> int:
        """Operations of the matrix products, forward and for the gradients asked for; 0 where there are none."""
        match self.op, self.inputs[0].shape, self.inputs[-1].shape:
            case "conv2d", _, (*window, _):
                products = outputs * math.prod(window)
            case "matmul", (_, inner), _:
                products = outputs * inner
            case "attention", _, (*_, tokens, _):
                products = 2 * outputs * tokens  # q kᵀ, then P v
            case "nt_xent", (N, D), _:
                products = (2 * N) ** 2 * D
            case _:
                products = 0
        return 2 * products * (1 + min(2, sum(given.learned for given in self.inputs)))

    def bytes(self, outputs: int) -> int:
        """What must be moved at least: inputs, output, and a gradient of each that is learned, once."""
        return 4 * (sum(math.prod(given.shape) * (1 + given.learned) for given in self.inputs) + 2 * outputs)


OPS: dict[str, Callable[..., Any]] = {
    "conv2d": ops.conv2d,
    "batch_norm_relu": lambda x, gamma, beta: ops.batch_norm(x, gamma, beta, relu=True)[0],
    "max_pool2d": ops.max_pool2d,
    "layer_norm": ops.layer_norm,
    "gelu": ops.gelu,
    "softmax": ops.softmax,
    "attention": ops.scaled_dot_product_attention,
    "matmul": ops.matmul,
    "embedding": ops.embedding,
    "scatter_add": ops.scatter_add,
    "nt_xent": lambda z1, z2: losses.nt_xent(z1, z2, TEMPERATURE),
}


def convolution(
    images: int, side: int, channels: int, outputs: int, size: int = 3, stride: int = 1, first: bool = False
) -> Case:
    """A convolution size x size; the first of a network needs no gradient of its images."""
    x = Input((images, side, side, channels), "image", learned=not first)
    w = Input((size, size, channels, outputs), "kernel")
    return Case("conv2d", (x, w), {"stride": stride, "padding": 0 if size == stride else size // 2})


def lookup(op: str, *inputs: Input, rows: int, number: tuple[int, ...]) -> Case:
    """An op on a table with `rows` rows of 192, and integers that name some of them."""
    return Case(op, (Input((rows, 192)), Input(number, learned=False, below=rows), *inputs))


def image(N: int, side: int = 32, channels: int = 64) -> Input:
    return Input((N, side, side, channels), "image")


# By name, for N images: maps of ResNet-18, tokens of ViT-Tiny (65 of 192 features, 3 heads), embeddings of SimCLR.
CASES: dict[str, Callable[[int], Case]] = {
    "conv2d_stem": lambda N: convolution(N, 32, 3, 64, first=True),
    "conv2d_patches": lambda N: convolution(N, 64, 3, 192, size=8, stride=8, first=True),
    "conv2d_c16": lambda N: convolution(N, 64, 16, 16),
    "conv2d_c64": lambda N: convolution(N, 32, 64, 64),
    "conv2d_c128": lambda N: convolution(N, 16, 128, 128),
    "conv2d_c256": lambda N: convolution(N, 8, 256, 256),
    "conv2d_c512": lambda N: convolution(N, 4, 512, 512),
    "conv2d_stride2": lambda N: convolution(N, 32, 64, 128, stride=2),
    "conv2d_1x1_stride2": lambda N: Case(
        "conv2d", (image(N), Input((1, 1, 64, 128), "kernel")), {"stride": 2, "padding": 0}
    ),
    "batch_norm_relu": lambda N: Case("batch_norm_relu", (image(N), Input((64,)), Input((64,)))),
    "max_pool2d": lambda N: Case("max_pool2d", (image(N),), {"size": 3, "stride": 2, "padding": 1}),
    "layer_norm": lambda N: Case("layer_norm", (Input((N, 65, 192)), Input((192,)), Input((192,)))),
    "gelu": lambda N: Case("gelu", (Input((N, 65, 768)),)),
    "softmax": lambda N: Case("softmax", (Input((N, 3, 65, 65)),)),
    "attention": lambda N: Case("attention", (Input((N, 3, 65, 64)),) * 3),
    "matmul_tokens": lambda N: Case("matmul", (Input((N * 65, 192)), Input((192, 768)))),
    "matmul_square": lambda N: Case("matmul", (Input((16 * N, 16 * N)),) * 2),
    "embedding": lambda N: lookup("embedding", rows=1000, number=(N, 65)),
    "scatter_add": lambda N: lookup("scatter_add", Input((N * 65, 192)), rows=1000, number=(N * 65,)),
    "nt_xent": lambda N: Case("nt_xent", (Input((8 * N, 128)),) * 2),
}
