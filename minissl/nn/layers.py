"""Layers without a memory of their own: parameters and the op that uses them. Images (N, H, W, C), tokens (N, L, D)."""

from typing import Literal

from minissl import backend, ops, random
from minissl.nn import initializers
from minissl.nn.module import Module, Parameter
from minissl.tensor import Tensor

Pair = int | tuple[int, int]


class Linear(Module):
    """y = x W + b: (..., D_in) -> (..., D_out). W and b start uniform within ±1/√D_in."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        self.weight = Parameter(initializers.lecun_uniform((inputs, outputs)))
        self.bias = Parameter(initializers.uniform((outputs,), inputs**-0.5)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight, self.bias)


class ChannelwiseLinear(Module):
    """A linear layer over all positions, one for each channel: (N, H, W, C) -> (N, H, W, C), weight (C, HW, HW).

    It spreads information over the whole image without the cost of mixing channels.
    (Pathak et al., 2016, "Context Encoders")
    """

    def __init__(self, height: int, width: int, channels: int) -> None:
        self.weight = Parameter(initializers.lecun_uniform((channels, height * width, height * width)))
        self.bias = Parameter(initializers.zeros((channels, 1, height * width)))

    def forward(self, x: Tensor) -> Tensor:
        N, H, W, C = x.shape
        planes = x.reshape(N, H * W, C).transpose(2, 0, 1)  # (C, N, HW)
        mixed = planes @ self.weight + self.bias  # (C, N, HW)
        return mixed.transpose(1, 2, 0).reshape(N, H, W, C)


class Conv2d(Module):
    """Convolution (N, H, W, C_in) -> (N, OH, OW, C_out), weight (kh, kw, C_in/groups, C_out); see `ops.conv2d`."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        kh, kw = (size, size) if isinstance(size, int) else size
        self.weight = Parameter(initializers.kaiming_normal((kh, kw, inputs // groups, outputs)))
        self.bias = Parameter(initializers.zeros((outputs,))) if bias else None
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def forward(self, x: Tensor) -> Tensor:
        y = ops.conv2d(x, self.weight, self.stride, self.padding, self.dilation, self.groups)
        return y if self.bias is None else y + self.bias


class Conv1d(Module):
    """Convolution (N, L, C_in) -> (N, OL, C_out), weight (k, C_in/groups, C_out); see `ops.conv1d`."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        self.weight = Parameter(initializers.kaiming_normal((size, inputs // groups, outputs)))
        self.bias = Parameter(initializers.zeros((outputs,))) if bias else None
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def forward(self, x: Tensor) -> Tensor:
        y = ops.conv1d(x, self.weight, self.stride, self.padding, self.dilation, self.groups)
        return y if self.bias is None else y + self.bias


class ConvTranspose2d(Module):
    """Transposed convolution (N, H, W, C_in) -> (N, OH, OW, C_out), weight (kh, kw, C_out, C_in).

    See `ops.conv_transpose2d`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        output_padding: Pair = 0,
        bias: bool = True,
    ) -> None:
        kh, kw = (size, size) if isinstance(size, int) else size
        self.weight = Parameter(initializers.kaiming_normal((kh, kw, outputs, inputs)))
        self.bias = Parameter(initializers.zeros((outputs,))) if bias else None
        self.stride, self.padding, self.output_padding = stride, padding, output_padding

    def forward(self, x: Tensor) -> Tensor:
        y = ops.conv_transpose2d(x, self.weight, self.stride, self.padding, self.output_padding)
        return y if self.bias is None else y + self.bias


class Embedding(Module):
    """Rows of a learned table (K, D) by their numbers: integers (...) -> (..., D). Starts Gaussian, σ = 0.02."""

    def __init__(self, count: int, features: int) -> None:
        self.weight = Parameter(initializers.normal((count, features), 0.02))

    def forward(self, index: backend.Array) -> Tensor:
        return ops.embedding(self.weight, index)


class PatchEmbed(Module):
    """Images as tokens: each patch of size x size pixels through one linear layer, (N, H, W, C) -> (N, L, D).

    Patches come in reading order; the pixels of one in the order (row, column, channel).
    (Dosovitskiy et al., 2021, "An Image is Worth 16x16 Words")
    """

    def __init__(self, size: int, channels: int, features: int) -> None:
        self.proj = Conv2d(channels, features, size, stride=size)

    def forward(self, x: Tensor) -> Tensor:
        y = self.proj(x)  # (N, H/size, W/size, D)
        return y.reshape(len(y), -1, y.shape[-1])


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(x)


class GELU(Module):
    """x Φ(x); see `ops.gelu`."""

    def __init__(self, form: Literal["tanh", "erf"] = "tanh") -> None:
        self.form: Literal["tanh", "erf"] = form

    def forward(self, x: Tensor) -> Tensor:
        return ops.gelu(x, self.form)


class Identity(Module):
    """x, unchanged."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Dropout(Module):
    """While training, each element 0 with probability `rate`; see `ops.dropout`."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.rate) if self.training else x


class DropPath(Module):
    """While training, the whole branch 0 for some images, the others divided by 1 − rate: a net of random depth.

    (Huang et al., 2016, "Deep Networks with Stochastic Depth")
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = random.rows(len(x)).random((len(x),) + (1,) * (x.ndim - 1), "float32") >= self.rate
        return x * (backend.of(x.data).to_device(kept).astype(x.dtype) / (1 - self.rate))


class MaxPool2d(Module):
    """The largest value of each window; see `ops.max_pool2d`."""

    def __init__(self, size: Pair, stride: Pair | None = None, padding: Pair = 0) -> None:
        self.size, self.stride, self.padding = size, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return ops.max_pool2d(x, self.size, self.stride, self.padding)


class GlobalAveragePool(Module):
    """The mean over all pixels: (N, H, W, C) -> (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(axis=(1, 2))


class Upsample(Module):
    """`factor` times as many pixels each way, by repetition or bilinear interpolation."""

    def __init__(self, factor: int, mode: Literal["nearest", "bilinear"] = "nearest") -> None:
        self.factor, self.mode = factor, mode

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "nearest":
            return ops.upsample_nearest(x, self.factor)
        return ops.upsample_bilinear(x, (x.shape[1] * self.factor, x.shape[2] * self.factor))


class UpsampleConv2d(Conv2d):
    """Every pixel repeated 2x2, then a 3x3 convolution with padding 1: (N, H, W, C_in) -> (N, 2H, 2W, C_out).

    The same as `Conv2d(C_in, C_out, 3, 1, 1)` after `Upsample(2)`, for less than half the products. A pixel and its
    copy meet two taps of the kernel at once; with those added up, a transposed convolution at stride 2 does both steps.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 3, 1, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.weight[::-1, ::-1].transpose(0, 1, 3, 2)  # (3, 3, C_out, C_in)
        for axis in (0, 1):  # [a, b, c] -> [a, a + b, b + c, c]
            before, after = ([(0, 0)] * 4, [(0, 0)] * 4)
            before[axis], after[axis] = (1, 0), (0, 1)
            kernel = ops.pad(kernel, before) + ops.pad(kernel, after)
        y = ops.conv_transpose2d(x, kernel, stride=2, padding=1)
        return y if self.bias is None else y + self.bias
