"""A program: what the ranks tell each other, and the parts of the library that rest on it, checked on every rank.

mpiexec -n 2 python -m tests.parallel.pieces numpy|cupy        cupy: on CuPy's stand-in, or on GPUs
"""

import sys
from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np

from minissl import backend, evaluation, nn, ops, parallel
from minissl.backend import Array
from minissl.tensor import Tensor
from tests import cupy_standin, gpu_emulation
from tests.conftest import real_cupy


def host(array: Array) -> np.ndarray:
    return backend.to_host(array)


def communication(world: parallel.Alone) -> None:
    """Sums, rows and rank 0's array; of any layout, and for the types that are sent."""
    r, size = world.rank, world.size
    for dtype in ("float32", "float64", "int64", "uint8"):
        a = backend.to_device(np.arange(6).reshape(2, 3).T.astype(dtype) + r)  # (3, 2), in Fortran's order
        every = [host(a) - r + i for i in range(size)]
        before = host(a).copy()
        np.testing.assert_array_equal(host(world.all_reduce(a)), sum(every))
        np.testing.assert_array_equal(host(world.all_gather(a)), np.concatenate(every))
        np.testing.assert_array_equal(host(world.broadcast(a)), every[0])
        np.testing.assert_array_equal(host(a), before)
    on_host = np.full(2, r)  # goes over MPI whatever the device
    np.testing.assert_array_equal(world.all_reduce(on_host), np.full(2, sum(range(size))))
    world.barrier()


def means(world: parallel.Alone) -> None:
    """Of arrays of all sizes, in as few messages as they fit into."""
    shapes = [(3,), (), (2, 4), (parallel.SMALL // 8 + 1,), (5,)]
    arrays = [backend.to_device(np.full(shape, float(i + world.rank))) for i, shape in enumerate(shapes)]
    middle = (world.size - 1) / 2
    for i, (mean, shape) in enumerate(zip(parallel.mean(arrays), shapes, strict=True)):
        np.testing.assert_array_equal(host(mean), np.full(shape, i + middle))
    assert [len(bucket) for bucket in parallel.buckets(arrays)] == [3, 1, 1]


def gathered_gradient(world: parallel.Alone) -> None:
    """The mean over ranks of what reaches w is the gradient of the loss of all rows."""
    numbers = np.random.default_rng(0)
    x, w = numbers.normal(size=(4 * world.size, 3)), numbers.normal(size=(3, 2))

    def loss(z: Tensor) -> Tensor:
        return (z @ z.transpose()).exp().sum()

    alone = Tensor(w, requires_grad=True)
    loss(Tensor(x) @ alone).backward()
    own = Tensor(backend.to_device(w.copy()), requires_grad=True)
    together = loss(parallel.gather(Tensor(backend.to_device(parallel.own_rows(x))) @ own))
    together.backward()
    [mean] = parallel.mean([own.grad])
    np.testing.assert_allclose(host(mean), alone.grad, rtol=1e-12)
    constant = parallel.gather(Tensor(backend.to_device(parallel.own_rows(x))))
    np.testing.assert_array_equal(host(constant.data), x)
    assert not constant.requires_grad


def batch_norm(world: parallel.Alone, relu: bool, sub_batches: int) -> None:
    """Synchronized, output, gradients and averages are those of one process with the whole batch."""
    numbers = np.random.default_rng(1)
    x, g = numbers.normal(100, 3, size=(2, 4 * world.size, 5, 3))
    g -= 100
    weight, bias = numbers.normal(size=(2, 3))

    def run(x: np.ndarray, g: np.ndarray, parts: int) -> SimpleNamespace:
        layer = nn.BatchNorm(3, relu=relu, sub_batches=parts).astype("float64").to(backend.current().name)
        layer.weight.data, layer.bias.data = backend.to_device(weight.copy()), backend.to_device(bias.copy())
        layer.synchronized = True
        leaf = Tensor(backend.to_device(x.copy()), requires_grad=True)
        y = layer(leaf)
        y.backward(backend.to_device(g.copy()))
        return SimpleNamespace(
            y=host(y.data),
            dx=host(leaf.grad),
            learned=[layer.weight.grad, layer.bias.grad],
            running=[host(layer.running_mean.data), host(layer.running_var.data)],
        )

    with parallel.alone():
        whole = run(x, g, sub_batches)
    part = run(parallel.own_rows(x), parallel.own_rows(g), sub_batches)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12 * np.abs(b).max())
    close(part.y, parallel.own_rows(whole.y))
    close(part.dx, parallel.own_rows(whole.dx))
    for total, expected in zip(parallel.mean(part.learned), whole.learned, strict=True):
        close(host(total) * world.size, host(expected))
    for found, expected in zip(part.running, whole.running, strict=True):
        close(found, expected)


def features(world: parallel.Alone) -> None:
    """Each rank computes a part; all get all, also where it does not come out even."""
    counts = []

    class Counting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            counts.append(len(x))
            return x.mean(axis=(1, 2))

    for n in (1, 7):
        images = np.random.default_rng(2).random((n, 4, 4, 3), dtype=np.float32)
        found = evaluation.extract(Counting(), images, lambda x: x, batch_size=2)
        np.testing.assert_allclose(found, images.mean(axis=(1, 2)), rtol=1e-6)
        assert sum(counts) == -(-n // world.size)
        counts.clear()


def main(name: str) -> None:
    with ExitStack() as stack:
        if name == "cupy" and not real_cupy():
            stack.enter_context(cupy_standin.installed()).cuda.runtime.getDeviceCount = lambda: 4
            backend._made.pop("cupy", None)
            if gpu_emulation.COMPILER is None:
                backend._made["cupy"] = gpu_emulation.textbook_backend()
        stack.enter_context(backend.use(name))
        world = parallel.start(device=name == "cupy")
        assert world.size == parallel.launched() > 1
        communication(world)
        means(world)
        gathered_gradient(world)
        for relu, sub_batches in ((False, 1), (True, 1), (True, 4)):
            batch_norm(world, relu, sub_batches)
        ops.dropout(Tensor(backend.to_device(np.ones((3, 2), "float32"))), 0.5)
        features(world)
        print(f"{world.name} {world.rank}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
