"""What is measured: an engine that has built one training step or op and can repeat it. These are minissl's."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import threadpoolctl

from benchmarks import flops
from benchmarks.loss_cases import FUNCTIONS, MEASURED
from benchmarks.op_cases import Case
from benchmarks.workloads import EVERY, Size, build
from minissl import backend
from minissl.tensor import Tensor

MB = 2**20


class Engine(Protocol):
    """A training step or an op in one library on one device, built and ready."""

    product_side: int  # side of the square matrices whose product shows what the device can do at most

    def first(self) -> dict[str, Any]:
        """Do it once; returns in what all engines must agree, {"loss"} or {"output", "gradients"}, and its costs."""

    def step(self) -> float | None:
        """Do it once; a training step returns the loss before its update."""

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


class MinisslEngine(ABC):
    """What a step and an op share on one of minissl's backends."""

    def __init__(self, name: str) -> None:
        backend.use(name)
        self.home = backend.current()
        self.product_side = 2048 if name == "numpy" else 8192

    @abstractmethod
    def first(self) -> dict[str, Any]: ...

    @abstractmethod
    def step(self) -> float | None: ...

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


class MinisslStep(MinisslEngine):
    """A training step of `workloads.py`."""

    def __init__(self, name: str, size: Size, backend_name: str) -> None:
        super().__init__(backend_name)
        workload = EVERY[name]
        self.method = build(name, size)
        self.optimizer = workload.optimizer(self.method)
        arrays = workload.inputs(size)
        self.raw = arrays[0] if workload.views else None
        self.ready = () if workload.views else tuple(backend.to_device(array) for array in arrays)
        self.rng = np.random.default_rng(2)

    def first(self) -> dict[str, Any]:
        with flops.counting(self.method) as counts:
            return {"loss": self.step(), "flops": sum(counts)}

    def step(self) -> float:
        views = self.ready if self.raw is None else self.method.views({"images": self.raw}, self.rng)
        return self.method.training_step(views, self.optimizer)["loss"]


class MinisslOp(MinisslEngine):
    """An op of `op_cases.py`, y = f(x), and the gradients of ½ ‖y‖², for which dy = y."""

    def __init__(self, case: Case, backend_name: str) -> None:
        super().__init__(backend_name)
        self.case, self.function = case, FUNCTIONS[case.op]
        arrays = [backend.to_device(array) for array in case.arrays()]
        pairs = list(zip(case.inputs, arrays, strict=True))
        self.inputs = [array if given.below else Tensor(array, given.learned) for given, array in pairs]
        self.learned = [x for x, (given, _) in zip(self.inputs, pairs, strict=True) if given.learned]

    def first(self) -> dict[str, Any]:
        y = self.run()
        gradients = [mean_size(x.grad) for x in self.learned]
        costs = {"flops": self.case.flops(y.size), "bytes": self.case.bytes(y.size)}
        return {"output": mean_size(y.data), "gradients": gradients} | costs

    def step(self) -> None:
        self.run()

    def run(self) -> Tensor:
        for x in self.learned:
            x.grad = None
        y = self.function(*self.inputs, **self.case.options)
        y.backward(y.data)
        return y


def mean_size(array: Any) -> float:
    return float(abs(array).mean())


def make(name: str, size: Size, backend_name: str) -> Engine:
    """minissl's engine for a step of `workloads.py`, an op of `op_cases.py` or a loss of `loss_cases.py`."""
    if name in MEASURED:
        return MinisslOp(MEASURED[name](size.images), backend_name)
    return MinisslStep(name, size, backend_name)
