"""Arrays between the GPUs of several processes, by NCCL. MPI starts it: it tells the ranks how to find each other."""

import os
from typing import Any

from minissl.backend.base import Array

LOCAL_RANKS = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "MV2_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID")


def choose_device(cupy: Any) -> None:
    """Of a machine's GPUs the first for the first process that a launcher started there, and so on.

    Raises RuntimeError where there are more processes than GPUs: NCCL takes one for each.
    """
    local = next((int(os.environ[name]) for name in LOCAL_RANKS if name in os.environ), 0)
    devices = cupy.cuda.runtime.getDeviceCount()
    if local >= devices:
        raise RuntimeError(
            f"this is process {local + 1} of a machine with {devices} GPUs; start at most one for each (mpiexec -ppn), "
            "or use --backend numpy"
        )
    cupy.cuda.Device(local).use()


class Group:
    """All ranks, each with its GPU: see `choose_device`."""

    def __init__(self, rank: int, size: int) -> None:
        import cupy
        import cupyx.distributed

        self._xp, self._size = cupy, size
        self._nccl = cupyx.distributed.init_process_group(size, rank, backend="nccl", use_mpi=True)

    def all_reduce(self, array: Array) -> Array:
        array = self._xp.ascontiguousarray(array)
        total = self._xp.empty_like(array)
        self._nccl.all_reduce(array, total, op="sum")
        return total

    def all_gather(self, array: Array) -> Array:
        array = self._xp.ascontiguousarray(array)
        rows = self._xp.empty((self._size * len(array), *array.shape[1:]), array.dtype)
        self._nccl.all_gather(array, rows, array.size)
        return rows

    def broadcast(self, array: Array) -> Array:
        array = self._xp.array(array, order="C")
        self._nccl.broadcast(array, root=0)
        return array
