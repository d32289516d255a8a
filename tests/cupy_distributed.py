"""The stand-in's `cupyx.distributed`: its communicator, over MPI, for the stand-in's arrays (see cupy_standin.py).

It asks what NCCL asks: arrays of the device, contiguous, of one of NCCL's types, with room for what comes back. And it
takes the arguments that CuPy's takes, by CuPy's names.
"""

from typing import Any

import numpy as np

from tests.cupy_array import ndarray

TYPES = "bBiIlLqQefdFD"  # of NCCL, by NumPy's letters: no bool


class NCCLBackend:
    """What `init_process_group` gives: one rank, that has a device."""

    def __init__(self, n_devices: int, rank: int) -> None:
        from mpi4py import MPI

        self._comm = MPI.COMM_WORLD
        if (n_devices, rank) != (self._comm.size, self._comm.rank):
            raise ValueError(f"expected rank {self._comm.rank} of {self._comm.size}, got {rank} of {n_devices}")

    def all_reduce(self, in_array: Any, out_array: Any, op: str = "sum", stream: Any = None) -> None:
        assert op == "sum", "other operations are not needed"
        source, target = memory(in_array), memory(out_array)
        assert source.shape == target.shape and source.dtype == target.dtype
        self._comm.Allreduce(source, target)

    def all_gather(self, in_array: Any, out_array: Any, count: int, stream: Any = None) -> None:
        source, target = memory(in_array), memory(out_array)
        assert source.size == count and target.size == count * self._comm.size and source.dtype == target.dtype
        self._comm.Allgather(source, target)

    def broadcast(self, in_out_array: Any, root: int = 0, stream: Any = None) -> None:
        self._comm.Bcast(memory(in_out_array), root)

    def barrier(self) -> None:
        self._comm.Barrier()


def init_process_group(
    n_devices: int, rank: int, *, backend: str = "nccl", host: Any = None, port: Any = None, use_mpi: bool = False
) -> NCCLBackend:
    """Here MPI must have been asked for: CuPy's own server would be one more thing to reach."""
    if backend != "nccl" or not use_mpi:
        raise ValueError(f"expected backend 'nccl' and use_mpi=True, got {backend!r} and {use_mpi}")
    return NCCLBackend(n_devices, rank)


def memory(array: Any) -> np.ndarray:
    """Where a device array lies."""
    if not isinstance(array, ndarray):
        raise TypeError(f"expected an array on the device, got {type(array)}")
    values: np.ndarray = array._values
    if not values.flags.c_contiguous and not values.flags.f_contiguous:
        raise RuntimeError("NCCL requires arrays to be either c- or f-contiguous")
    if values.dtype.char not in TYPES:
        raise TypeError(f"Unknown dtype {values.dtype} for NCCL")
    return values
