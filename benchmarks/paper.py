"""python -m benchmarks.paper: what a step of SimCLR should cost on many GPUs. A model on paper; see docs/scale.md.

Compute is divided by the number of GPUs P, all else is not:

    networks       n F / (u R)                        n = B/P images a GPU, F operations an image, R peak, u its share
    comparison     6 (2B)² D / (u R)                  every rank compares the whole batch: products forward and back
    gather         2B D bytes · (P − 1)/P / w  + l    embeddings of two views, and as much time for messages
    all-reduce     2 G (P − 1)/P / w  + l             G bytes of gradients
    batch norm     2 L l                              L layers, one message each way
    a message      l = a log₂ P                       a tree of hops of a seconds
"""

from dataclasses import dataclass, replace
from math import log2


@dataclass(frozen=True)
class Machine:
    """P GPUs. What is not measured comes from data sheets: NVIDIA H200 SXM, eight of them on NVLink, InfiniBand NDR."""

    gpus: int
    peak: float = 67e12  # R: FLOP/s in float32 (H200 data sheet)
    used: float = 0.49  # u: of the measured peak of the CPU that ResNet steps of minissl reach (README, measured)
    inside: float = 450e9  # w up to 8 GPUs: bytes/s in one direction (NVLink 4, data sheet: 900 GB/s both ways)
    outside: float = 50e9  # w beyond: bytes/s for each GPU (NDR InfiniBand, data sheet: 400 Gb/s)
    hop: float = 5e-6  # a: an assumption, of the order of NCCL's published latencies

    @property
    def bandwidth(self) -> float:
        return self.inside if self.gpus <= 8 else self.outside

    @property
    def message(self) -> float:
        return self.hop * log2(self.gpus) if self.gpus > 1 else 0.0


@dataclass(frozen=True)
class Work:
    """SimCLR as in its paper: ResNet-50 at 224 pixels, two views, embeddings of 128 numbers in float32."""

    batch: int
    operations: float = 2 * 3 * 2 * 4.1e9  # F: two views; backward is twice forward; 4.1 G multiply-adds (He et al.)
    features: int = 128  # D
    gradients: float = 4 * 28e6  # G: 25.6 million weights (torchvision's listing) and the head's
    norms: int = 54  # L: of ResNet-50, and the head's


def seconds(work: Work, machine: Machine) -> dict[str, float]:
    """What each part of a step takes, none of it overlapped."""
    P, rate, others = machine.gpus, machine.used * machine.peak, (machine.gpus - 1) / machine.gpus
    return {
        "networks": work.batch / P * work.operations / rate,
        "comparison": 6 * (2 * work.batch) ** 2 * work.features / rate,
        "gather": 2 * work.batch * work.features * 4 * others / machine.bandwidth + machine.message,
        "all-reduce": 2 * work.gradients * others / machine.bandwidth + machine.message,
        "batch norm": 2 * work.norms * machine.message,
    }


def table(title: str, works: list[tuple[Work, Machine]]) -> str:
    lines = [
        f"{title:34}" + "".join(f"{name:>12}" for name in seconds(*works[0])) + f"{'step, ms':>12}{'efficiency':>12}"
    ]
    for work, machine in works:
        parts = seconds(work, machine)
        total, useful = sum(parts.values()), parts["networks"] + parts["comparison"] / machine.gpus
        row = f"{machine.gpus} GPUs, batch {work.batch}, {work.batch / machine.gpus:g} each"
        lines.append(
            f"{row:34}"
            + "".join(f"{1e3 * v:12.2f}" for v in parts.values())
            + f"{1e3 * total:12.1f}{useful / total:12.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    counts = (8, 64, 512)
    print(table("the paper's batch, shared out", [(Work(4096), Machine(P)) for P in counts]) + "\n")
    print(table("64 images on each GPU", [(Work(64 * P), Machine(P)) for P in counts]) + "\n")
    faster = [(Work(64 * P), replace(Machine(P), peak=495e12)) for P in counts]  # TF32, dense (H200 data sheet)
    print(table("64 each, products in TF32", faster))


if __name__ == "__main__":
    main()
