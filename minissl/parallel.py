"""Several processes that train one network together: who they are, and what they tell each other.

    mpiexec -n 4 python -m reference simclr        every process runs the same program, and is one rank of four

Each holds a quarter of every batch. `world()` says which, and carries arrays between them: over MPI on the host, over
NCCL between GPUs. In one process it is `Alone`, which needs and imports nothing. All ranks must make the same calls in
the same order, as each call waits for the others.

Three things make what they compute that of one process:

    rows          rank r holds rows r·n to (r + 1)·n of a batch: joined in the order of ranks they are the batch
    gradients     of a mean over the batch are the mean of the ranks' own
    losses        that compare images with each other are given all embeddings: see `gather`
"""

import importlib.util
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from minissl import backend, random
from minissl.backend import Array
from minissl.tensor import Tensor, record

# Where launchers say how many processes they started: Open MPI; MPICH, Intel MPI and Slurm; MVAPICH; Slurm's steps.
SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
SMALL = 1 << 23  # bytes up to which arrays travel together (8 MB)
SOON, PAUSE = 2e-4, 2e-5  # seconds: the others are looked for without a pause, and then with pauses
LAST_WORDS = 0.3  # seconds in which the launcher reads what was printed; on an abort it throws away the rest


class Alone:
    """One process: what it says to all others, it has heard already."""

    name = "one process"
    rank, size = 0, 1

    def all_reduce(self, array: Array) -> Array:
        """The sum of the ranks' arrays, which have one shape."""
        return array

    def all_gather(self, array: Array) -> Array:
        """The rows of all ranks' arrays (n, ...), in the order of ranks: (size·n, ...)."""
        return array

    def broadcast(self, array: Array) -> Array:
        """The array of rank 0; the others give one of its shape."""
        return array

    def barrier(self) -> None:
        """Wait until all ranks are here."""

    def all_here(self, seconds: float) -> bool:
        """Whether all ranks ask this within some seconds: before they end."""
        return True

    def abort(self, code: int) -> NoReturn:
        """End all ranks at once, wherever they are."""
        sys.exit(code)


class MPI(Alone):
    """Arrays on the host, by MPI's buffer calls. Raises ValueError where MPI is not what the launcher promised."""

    name = "MPI"

    def __init__(self, promised: int) -> None:
        if importlib.util.find_spec("mpi4py") is None:
            raise ValueError(
                f"{promised} processes were started, but mpi4py is not installed: pip install 'minissl[mpi]'"
            )
        from mpi4py import MPI

        self._comm = MPI.COMM_WORLD
        self._last = self._comm.Dup()  # for `all_here`, which must not be taken for another call that waits
        self.rank, self.size = self._comm.rank, self._comm.size
        if self.size != promised:
            library = MPI.Get_library_version().splitlines()[0].strip("\0 ")
            raise ValueError(
                f"the launcher started {promised} processes, but MPI says {self.size}: this mpiexec is not that of "
                f"mpi4py's MPI ({library}); use the one in {Path(sys.executable).parent}, or build mpi4py with the "
                "launcher's MPI: pip install --force-reinstall --no-binary mpi4py mpi4py"
            )

    def all_reduce(self, array: Array) -> Array:
        xp = backend.of(array).xp
        total = xp.empty(array.shape, array.dtype)
        wait(self._comm.Iallreduce(xp.asarray(array, order="C"), total))
        return total

    def all_gather(self, array: Array) -> Array:
        xp = backend.of(array).xp
        rows = xp.empty((self.size * len(array), *array.shape[1:]), array.dtype)
        wait(self._comm.Iallgather(xp.asarray(array, order="C"), rows))
        return rows

    def broadcast(self, array: Array) -> Array:
        array = backend.of(array).xp.array(array, order="C")
        wait(self._comm.Ibcast(array))
        return array

    def barrier(self) -> None:
        wait(self._comm.Ibarrier())

    def all_here(self, seconds: float) -> bool:
        asked, until = self._last.Ibarrier(), time.monotonic() + seconds
        while not (here := asked.Test()) and time.monotonic() < until:
            time.sleep(0.01)
        return here

    def abort(self, code: int) -> NoReturn:
        sys.stdout.flush()
        sys.stderr.flush()
        time.sleep(LAST_WORDS)
        self._comm.Abort(code)
        raise SystemExit(code)  # not reached


def wait(request: Any) -> None:
    """Until the others are as far. MPI's own wait never sleeps, and keeps from its core a rank that shares it."""
    soon = time.perf_counter() + SOON
    while not request.Test():
        if time.perf_counter() > soon:
            time.sleep(PAUSE)


class NCCL(MPI):
    """Arrays on GPUs, one for each rank, by NCCL; those on the host by MPI."""

    name = "NCCL"

    def __init__(self, promised: int) -> None:
        super().__init__(promised)
        from minissl.backend.gpu.communication import Group

        self._group = Group(self.rank, self.size)

    def all_reduce(self, array: Array) -> Array:
        return self._group.all_reduce(array) if on_device(array) else super().all_reduce(array)

    def all_gather(self, array: Array) -> Array:
        return self._group.all_gather(array) if on_device(array) else super().all_gather(array)

    def broadcast(self, array: Array) -> Array:
        return self._group.broadcast(array) if on_device(array) else super().broadcast(array)


def on_device(array: Array) -> bool:
    return backend.of(array).name != "numpy"


ALONE = Alone()
_world = ALONE


def world() -> Alone:
    """The ranks of this program."""
    return _world


def launched() -> int:
    """How many processes the launcher says that it has started; 1 without one."""
    return max(1, *(int(os.environ.get(name) or 1) for name in SIZES))


def start(device: bool = False) -> Alone:
    """Find the other ranks, where a launcher started several processes. `device`: arrays on GPUs will be sent, too.

    From then on this process holds its part of every batch. Raises ValueError, with the remedy, where they cannot be
    reached.
    """
    global _world
    if (promised := launched()) > 1:
        _world = NCCL(promised) if device else MPI(promised)
        random.share(_world.rank, _world.size)
    return _world


@contextmanager
def alone() -> Iterator[None]:
    """In here each rank computes the same of the same, by itself: layers ask for nothing of others."""
    global _world
    before, _world = _world, ALONE
    try:
        yield
    finally:
        _world = before


def own_rows(whole: Array) -> Array:
    """This rank's part of the rows of all ranks."""
    n = len(whole) // _world.size
    return whole[_world.rank * n : (_world.rank + 1) * n]


def gather(z: Tensor) -> Tensor:
    """The rows of all ranks' z (n, ...), as (size·n, ...), with a gradient to the own ones.

    From them every rank computes the same loss L, and every rank gets the same ∂L/∂z of the whole. The gradient is the
    sum over all rows, ∂L/∂w = Σ_r ∂L/∂z_r ∂z_r/∂w, but the trainer takes the mean of what the ranks give: so each gives
    size times its own term. What L has of weights behind the gather is the same on all ranks, and so is its mean.
    """
    return z if _world.size == 1 else record(_world.all_gather(z.data), (z, own_gradient))


def own_gradient(g: Array) -> Array:
    """Of the gradient of gathered rows that of the own ones, as the trainer's mean over ranks wants it."""
    return _world.size * own_rows(g) if _world.size > 1 else g


def mean(arrays: Sequence[Array]) -> list[Array]:
    """The mean over ranks of each array, small ones travelling together. All lie on one backend."""
    if _world.size == 1 or not arrays:
        return list(arrays)
    found: list[Array] = []
    for bucket in buckets(arrays):
        xp = backend.of(bucket[0]).xp
        flat = xp.concatenate([array.reshape(-1) for array in bucket]) if len(bucket) > 1 else bucket[0].reshape(-1)
        flat = _world.all_reduce(flat) / _world.size
        start = 0
        for array in bucket:
            found.append(flat[start : start + array.size].reshape(array.shape))
            start += array.size
    return found


def buckets(arrays: Sequence[Array]) -> Iterator[list[Array]]:
    """The arrays in their order, in groups of one type that hold up to SMALL bytes, or one larger array."""
    group: list[Array] = []
    for array in arrays:
        if group and (array.dtype != group[0].dtype or sum(a.nbytes for a in group) + array.nbytes > SMALL):
            yield group
            group = []
        group.append(array)
    yield group


class Pool:
    """Statistics of a batch that is shared out in equal parts, from those of the parts: for batch norm."""

    def __init__(self, communicator: Alone) -> None:
        self._world = communicator

    def moments(self, mean: Array, variance: Array) -> tuple[Array, Array]:
        """μ = mean μ_r and σ² = mean σ²_r + mean (μ_r − μ)², which does not cancel."""
        xp = backend.of(mean).xp
        means, variances = self._world.all_gather(xp.stack([mean, variance])[None]).swapaxes(0, 1)  # (size, C) each
        whole = means.mean(axis=0)
        return whole, (variances + (means - whole) ** 2).mean(axis=0)

    def means(self, *statistics: Array) -> Array:
        """The mean over ranks of each: what a gradient has of the whole batch."""
        return self._world.all_reduce(backend.of(statistics[0]).xp.stack(statistics)) / self._world.size
