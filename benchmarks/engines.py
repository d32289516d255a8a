"""What is measured: an engine that has built one training step and can repeat it. This one is minissl's."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import threadpoolctl

from benchmarks import flops
from benchmarks.workloads import WORKLOADS, Size, build
from minissl import backend

MB = 2**20


class Engine(Protocol):
    """A training step in one library on one device, built and ready."""

    product_side: int  # side of the square matrices whose product shows what the device can do at most

    def step(self) -> float:
        """One update; returns the loss before it."""

    def synchronize(self) -> None:
        """Wait until the device has computed everything that was asked for."""

    def running(self) -> AbstractContextManager[Any]:
        """Enter around a run of several steps."""

    def product(self) -> Callable[[], Any]:
        """A function that multiplies two float32 matrices of `product_side`, with all cores."""

    def facts(self) -> dict[str, Any]:
        """What computes here: libraries, kernels, precision, threads."""

    def device_memory(self) -> dict[str, float]:
        """Memory of the device's pool in MB; nothing on the host."""


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def blas() -> str:
    """The library and kernel behind NumPy's matrix products, as in "openblas 0.3.31 SkylakeX"."""
    found = [library for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]
    names = (f"{f['internal_api']} {f['version']} {f.get('architecture', '')}".strip() for f in found)
    return ", ".join(names) or "unknown"


class MinisslEngine:
    """A step of `workloads.py` on one of minissl's backends."""

    def __init__(self, workload: str, size: Size, name: str) -> None:
        backend.use(name)
        self.home = backend.current()
        self.method, self.optimizer = build(workload, size)
        self.inputs = tuple(backend.to_device(array) for array in WORKLOADS[workload].inputs(size))
        self.product_side = 2048 if name == "numpy" else 8192

    def step(self) -> float:
        return self.method.training_step(self.inputs, self.optimizer)["loss"]

    def counted_step(self) -> tuple[float, int]:
        """One update; returns the loss and how many floating-point operations it took."""
        with flops.counting(self.method) as counts:
            return self.step(), sum(counts)

    def synchronize(self) -> None:
        self.home.synchronize()

    def running(self) -> AbstractContextManager[Any]:
        return self.home.training_run()

    def product(self) -> Callable[[], Any]:
        xp, n = self.home.xp, self.product_side
        a = xp.sin(xp.arange(n * n, dtype="float32")).reshape(n, n)  # many values: a GPU multiplies equal ones faster
        b, out = a.T.copy(), xp.empty_like(a)
        return lambda: xp.matmul(a, b, out=out)

    def facts(self) -> dict[str, Any]:
        if self.home.name == "numpy":
            from minissl.backend.cpu import threads

            return {"blas": blas(), "threads": threads.count(), "numpy": np.__version__}
        xp = self.home.xp
        device = xp.cuda.runtime.getDeviceProperties(xp.cuda.Device().id)["name"].decode()
        tf32 = os.environ.get("CUPY_TF32", "0")
        return {"blas": f"cuBLAS, CUPY_TF32={tf32}", "device": device, "cupy": xp.__version__}

    def device_memory(self) -> dict[str, float]:
        if self.home.name == "numpy":
            return {}
        pool = self.home.xp.get_default_memory_pool()
        return {"used": pool.used_bytes() / MB, "total": pool.total_bytes() / MB}
