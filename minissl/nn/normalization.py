"""Normalizing layers: over the batch, over each token, over groups of channels."""

from minissl import backend, ops, parallel
from minissl.nn import initializers
from minissl.nn.module import Buffer, Module, Parameter
from minissl.tensor import Tensor


class BatchNorm(Module):
    """Batch normalization over all axes but the last; see `ops.batch_norm`.

    Training uses the batch's own mean and variance and averages them, new = (1 − momentum)·old + momentum·batch (the
    variance unbiased there, M/(M − 1)); evaluation uses the averages, so that an image's output is its own alone.
    With sub_batches G, training normalizes each G-th of the batch (in order) by its own statistics, as so many devices
    would; MoCo's shuffled batch norm rests on that. N must be a multiple of G.
    synchronized: the batch is that of all ranks (see `minissl.parallel`), of which each has a part, and its statistics
    are of all. G counts the sub-batches of all ranks, which have equally many each: only their averages are of all.
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
        self.synchronized = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            scale = self.weight / ops.sqrt(self.running_var + self.epsilon)
            y = x * scale + (self.bias - self.running_mean * scale)
            return ops.relu(y) if self.relu else y
        world = parallel.world() if self.synchronized else parallel.ALONE
        if self.sub_batches == 1:
            y, mean, variance = self._normalize(x, world)
            self._average(mean, variance, self.momentum)
            return y
        own = self.sub_batches // parallel.world().size
        found = [self._normalize(part, parallel.ALONE) for part in ops.split(x, own)]
        xp = backend.of(x.data).xp
        statistics = world.all_gather(xp.stack([xp.stack(both) for _, *both in found]))  # (parts of all ranks, 2, C)
        for mean, variance in statistics:
            self._average(mean, variance, self.momentum / len(statistics))
        return ops.concatenate([y for y, _, _ in found])

    def _normalize(self, x: Tensor, world: parallel.Alone) -> tuple[Tensor, backend.Array, backend.Array]:
        """The output, and mean and unbiased variance of the batch of which this rank of the world has x."""
        pool = parallel.Pool(world) if world.size > 1 else None
        y, mean, variance = ops.batch_norm(x, self.weight, self.bias, self.epsilon, self.relu, pool)
        M = world.size * x.size // x.shape[-1]
        return y, mean, variance * (M / (M - 1))

    def _average(self, mean: backend.Array, variance: backend.Array, momentum: float) -> None:
        for running, batch in ((self.running_mean, mean), (self.running_var, variance)):
            running.data = (1 - momentum) * running.data + momentum * batch


def synchronize(network: Module, on: bool) -> None:
    """Whether a network's batch norms have the statistics of the batch of all ranks, or of their own part of it."""
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.synchronized = on


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
