"""The same training steps in PyTorch, written as PyTorch's users write them. Imported only where torch is installed.

A new step is one function here that builds network, loss and optimizer, named as in `workloads.py`. Modules have the
names that minissl's have, so that weights can be copied by name.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.engines import MB, cores
from benchmarks.workloads import (
    CHANNELS,
    EMBEDDING,
    LEARNING_RATE,
    MOMENTUM,
    TEMPERATURE,
    WEIGHT_DECAY,
    WORKLOADS,
    Size,
    build,
)
from minissl import backend

LAYOUTS = {"channels_first": torch.contiguous_format, "channels_last": torch.channels_last}


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + shortcut)


class ResNet18(nn.Module):
    """With a 3x3 stem at stride 1: (N, C, H, W) -> (N, 8·width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(CHANNELS, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(BasicBlock(width, width, 1), BasicBlock(width, width, 1))
        self.layer2 = nn.Sequential(BasicBlock(width, 2 * width, 2), BasicBlock(2 * width, 2 * width, 1))
        self.layer3 = nn.Sequential(BasicBlock(2 * width, 4 * width, 2), BasicBlock(4 * width, 4 * width, 1))
        self.layer4 = nn.Sequential(BasicBlock(4 * width, 8 * width, 2), BasicBlock(8 * width, 8 * width, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean((2, 3))


Built = tuple[nn.Module, Callable[..., Tensor], torch.optim.Optimizer]


def simclr(size: Size) -> Built:
    features = 8 * size.width
    head = nn.Sequential(
        nn.Linear(features, features, bias=False),
        nn.BatchNorm1d(features),
        nn.ReLU(),
        nn.Linear(features, EMBEDDING),
    )
    network = nn.ModuleDict({"encoder": ResNet18(size.width), "head": head})

    def loss(view1: Tensor, view2: Tensor) -> Tensor:
        z = F.normalize(network["head"](network["encoder"](torch.cat([view1, view2]))))
        logits = z @ z.T / TEMPERATURE  # (2N, 2N)
        itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
        partner = (torch.arange(len(z), device=z.device) + len(z) // 2) % len(z)
        return F.cross_entropy(logits.masked_fill(itself, -torch.inf), partner)

    return network, loss, torch.optim.SGD(network.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY)


PEERS: dict[str, Callable[[Size], Built]] = {"simclr": simclr}


def from_minissl(array: np.ndarray) -> Tensor:
    """minissl's layout of a weight to PyTorch's: (kh, kw, C, O) to (O, C, kh, kw), (D_in, D_out) to (D_out, D_in)."""
    order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim, tuple(range(array.ndim)))
    return torch.from_numpy(np.ascontiguousarray(array.transpose(order)))


class TorchEngine:
    """A step above on the CPU or on a GPU ("cuda"), its images in one of the two layouts."""

    def __init__(self, workload: str, size: Size, device: str, layout: str) -> None:
        torch.set_num_threads(cores())
        tf32 = os.environ.get("CUPY_TF32") == "1"  # both libraries at one precision
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        self.device, self.product_side = device, 2048 if device == "cpu" else 8192
        network, self.loss, self.optimizer = PEERS[workload](size)
        with backend.use("numpy"):
            weights = {name: from_minissl(array) for name, array in build(workload, size)[0].state_dict().items()}
        unset = network.load_state_dict(weights, strict=False)
        if unset.unexpected_keys or any(not name.endswith("num_batches_tracked") for name in unset.missing_keys):
            raise ValueError(f"the PyTorch network of {workload!r} differs from minissl's: {unset}")
        place: dict[str, Any] = {"device": device, "memory_format": LAYOUTS[layout]}
        network.to(**place)
        self.inputs = tuple(self._input(array, layout) for array in WORKLOADS[workload].inputs(size))

    def _input(self, array: np.ndarray, layout: str) -> Tensor:
        tensor = torch.from_numpy(array).to(self.device)
        if tensor.ndim != 4:
            return tensor
        return tensor.permute(0, 3, 1, 2).contiguous(memory_format=LAYOUTS[layout])  # (N, C, H, W)

    def step(self) -> float:
        loss = self.loss(*self.inputs)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

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
