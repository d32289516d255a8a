"""Normalizing layers: over the batch, over each token, over groups of channels."""

from minissl import backend, ops
from minissl.nn import initializers
from minissl.nn.module import Buffer, Module, Parameter
from minissl.tensor import Tensor


class BatchNorm(Module):
    """Batch normalization over all axes but the last; see `ops.batch_norm`.

    Training uses the batch's own mean and variance and averages them, new = (1 − momentum)·old + momentum·batch (the
    variance unbiased there, M/(M − 1)); evaluation uses the averages, so that an image's output is its own alone.
    With sub_batches G, training normalizes each G-th of the batch (in order) by its own statistics, as so many devices
    would; MoCo's shuffled batch norm rests on that. N must be a multiple of G.
    relu: a ReLU follows, in the same passes over memory.
    """

    def __init__(
        self,
        channels: int,
        momentum: float = 0.1,
        epsilon: float = 1e-5,
        sub_batches: int = 1,
        relu: bool = False,
    ) -> None:
        self.weight = Parameter(initializers.ones((channels,)))
        self.bias = Parameter(initializers.zeros((channels,)))
        self.running_mean = Buffer(initializers.zeros((channels,)))
        self.running_var = Buffer(initializers.ones((channels,)))
        self.momentum, self.epsilon, self.sub_batches, self.relu = momentum, epsilon, sub_batches, relu

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            scale = self.weight / ops.sqrt(self.running_var + self.epsilon)
            y = x * scale + (self.bias - self.running_mean * scale)
            return ops.relu(y) if self.relu else y
        if self.sub_batches == 1:
            return self._normalize(x)
        return ops.concatenate([self._normalize(part) for part in ops.split(x, self.sub_batches)])

    def _normalize(self, x: Tensor) -> Tensor:
        y, mean, variance = ops.batch_norm(x, self.weight, self.bias, self.epsilon, self.relu)
        M = x.size // x.shape[-1]
        self._average(self.running_mean, mean)
        self._average(self.running_var, variance * (M / (M - 1)))
        return y

    def _average(self, running: Buffer, batch: backend.Array) -> None:
        momentum = self.momentum / self.sub_batches
        running.data = (1 - momentum) * running.data + momentum * batch


class LayerNorm(Module):
    """Each row of (..., D) to mean 0 and deviation 1, then scaled and shifted; see `ops.layer_norm`."""

    def __init__(self, features: int, epsilon: float = 1e-6) -> None:
        self.weight = Parameter(initializers.ones((features,)))
        self.bias = Parameter(initializers.zeros((features,)))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return ops.layer_norm(x, self.weight, self.bias, self.epsilon)


class GroupNorm(Module):
    """Each image's groups of channels to mean 0, deviation 1; see `ops.group_norm`. groups = channels: InstanceNorm."""

    def __init__(self, groups: int, channels: int, epsilon: float = 1e-5) -> None:
        self.weight = Parameter(initializers.ones((channels,)))
        self.bias = Parameter(initializers.zeros((channels,)))
        self.groups, self.epsilon = groups, epsilon

    def forward(self, x: Tensor) -> Tensor:
        return ops.group_norm(x, self.groups, self.weight, self.bias, self.epsilon)
