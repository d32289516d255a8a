"""Layers: parameters and the op that uses them. Images are (N, H, W, C), embeddings (N, D)."""

from minissl import backend, ops
from minissl.nn import initializers
from minissl.nn.module import Buffer, Module, Parameter
from minissl.tensor import Tensor

Pair = int | tuple[int, int]


class Linear(Module):
    """y = x W + b: (..., D_in) -> (..., D_out). W and b start uniform within ±1/√D_in."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        self.weight = Parameter(initializers.lecun_uniform((inputs, outputs)))
        self.bias = Parameter(initializers.uniform((outputs,), inputs**-0.5)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight, self.bias)


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


class BatchNorm(Module):
    """Batch normalization over all axes but the last; see `ops.batch_norm`.

    Training uses the batch's own mean and variance and averages them, new = (1 − momentum)·old + momentum·batch (the
    variance unbiased there, M/(M − 1)); evaluation uses the averages, so that an image's output is its own alone.
    """

    def __init__(self, channels: int, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        self.weight = Parameter(initializers.ones((channels,)))
        self.bias = Parameter(initializers.zeros((channels,)))
        self.running_mean = Buffer(initializers.zeros((channels,)))
        self.running_var = Buffer(initializers.ones((channels,)))
        self.momentum, self.epsilon = momentum, epsilon

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            scale = self.weight / ops.sqrt(self.running_var + self.epsilon)
            return x * scale + (self.bias - self.running_mean * scale)
        y, mean, variance = ops.batch_norm(x, self.weight, self.bias, self.epsilon)
        M = x.size // x.shape[-1]
        self._average(self.running_mean, mean)
        self._average(self.running_var, variance * (M / (M - 1)))
        return y

    def _average(self, running: Buffer, batch: backend.Array) -> None:
        running.data = (1 - self.momentum) * running.data + self.momentum * batch


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(x)


class Identity(Module):
    """x, unchanged."""

    def forward(self, x: Tensor) -> Tensor:
        return x


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
