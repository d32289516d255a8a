"""PyTorch's engines: the steps and ops of `peers.py`, given the weights and inputs that minissl's have."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.engines import MB, Engine, mean_size
from benchmarks.loss_cases import MEASURED
from benchmarks.op_cases import Case, Input
from benchmarks.peers import OPS, STEPS
from benchmarks.workloads import EVERY, Size, build
from minissl import backend, models, nn
from minissl.backend.cpu import threads

LAYOUTS = {"channels_first": torch.contiguous_format, "channels_last": torch.channels_last}


class TorchEngine(ABC):
    """What a step and an op share on the CPU or on a GPU ("cuda"), images in one of the two layouts."""

    def __init__(self, device: str, layout: str) -> None:
        torch.set_num_threads(threads.count())  # MINISSL_THREADS holds for both libraries
        tf32 = os.environ.get("CUPY_TF32") == "1"  # both libraries at one precision
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        self.device, self.layout = device, LAYOUTS[layout]
        self.product_side = 2048 if device == "cpu" else 8192

    @abstractmethod
    def first(self) -> dict[str, Any]: ...

    @abstractmethod
    def step(self) -> float | None: ...

    def image(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to (N, C, H, W) in this engine's layout."""
        return x.to(self.device).permute(0, 3, 1, 2).contiguous(memory_format=self.layout)

    def synchronize(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def running(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def product(self) -> Callable[[], Any]:
        n = self.product_side
        a, b, out = (torch.randn(n, n, device=self.device) for _ in range(3))
        return lambda: torch.matmul(a, b, out=out)

    def facts(self) -> dict[str, Any]:
        if self.device == "cpu":
            kernel = "MKL" if torch.backends.mkl.is_available() else "BLAS"
            kernel = f"{kernel} {torch.backends.cpu.get_cpu_capability()}"
            return {"blas": kernel, "threads": torch.get_num_threads(), "torch": torch.__version__}
        tf32 = int(torch.backends.cuda.matmul.allow_tf32)
        return {"blas": f"cuBLAS, TF32={tf32}", "device": torch.cuda.get_device_name(), "torch": torch.__version__}

    def device_memory(self) -> dict[str, float]:
        if self.device == "cpu":
            return {}
        return {"used": torch.cuda.max_memory_allocated() / MB, "total": torch.cuda.max_memory_reserved() / MB}


class TorchStep(TorchEngine):
    """A training step of `peers.py`. Views, where a step makes them, are minissl's on the same device."""

    ready: tuple[Tensor, ...] | None

    def __init__(self, name: str, size: Size, device: str, layout: str) -> None:
        super().__init__(device, layout)
        network, self.loss, self.optimizer = STEPS[name](size)
        backend.use("numpy")
        method = build(name, size)
        weights = {name: torch.from_numpy(array) for name, array in models.torch_state(method).items()}
        network.load_state_dict(weights)  # strictly: two steps never differ unnoticed
        place: dict[str, Any] = {"device": device, "memory_format": self.layout}
        network.to(**place)
        arrays = EVERY[name].inputs(size)
        if not EVERY[name].views:
            self.ready = tuple(self.input(torch.from_numpy(array)) for array in arrays)
            return
        backend.use("cupy" if device == "cuda" else "numpy")
        self.ready, self.raw, self.rng, self.method = None, arrays[0], np.random.default_rng(2), method
        for part in dict(method.children()):  # it only makes views: its network would be counted as PyTorch's memory
            setattr(method, part, nn.Identity())

    def input(self, x: Tensor) -> Tensor:
        return self.image(x) if x.ndim == 4 else x.to(self.device)

    def views(self) -> tuple[Tensor, ...]:
        if self.ready is not None:
            return self.ready
        with backend.current().training_run():
            made = self.method.views({"images": self.raw}, self.rng)
        return tuple(self.input(torch.from_dlpack(array)) for array in made)

    def first(self) -> dict[str, Any]:
        return {"loss": self.step()}

    def step(self) -> float:
        loss = self.loss(*self.views())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


class TorchOp(TorchEngine):
    """An op of `peers.py`, y = f(x), and the gradients of ½ ‖y‖², for which dy = y."""

    def __init__(self, case: Case, device: str, layout: str) -> None:
        super().__init__(device, layout)
        self.case, self.function = case, OPS[case.op]
        self.inputs = [self.input(*pair) for pair in zip(case.inputs, case.arrays(), strict=True)]
        self.learned = [x for x in self.inputs if x.requires_grad]

    def input(self, given: Input, array: np.ndarray) -> Tensor:
        if given.kind == "image":
            x = self.image(torch.from_numpy(array))
        elif given.kind == "kernel":
            x = torch.from_numpy(array.transpose(3, 2, 0, 1).copy())  # (kh, kw, C, O) to (O, C, kh, kw)
            x = x.to(self.device).contiguous(memory_format=self.layout)
        else:
            x = torch.from_numpy(array).to(self.device)
        return x.requires_grad_(given.learned)

    def first(self) -> dict[str, Any]:
        y = self.run().detach()
        return {"output": mean_size(y), "gradients": [mean_size(x.grad) for x in self.learned]}

    def step(self) -> None:
        self.run()

    def run(self) -> Tensor:
        for x in self.learned:
            x.grad = None
        y = self.function(*self.inputs, **self.case.options)
        y.backward(y.detach())
        return y


def make(name: str, size: Size, device: str, layout: str) -> Engine:
    """PyTorch's engine for a step of `workloads.py`, an op of `op_cases.py` or a loss of `loss_cases.py`."""
    if name in MEASURED:
        return TorchOp(MEASURED[name](size.images), device, layout)
    return TorchStep(name, size, device, layout)
