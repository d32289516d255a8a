"""Memory and time of three ways to have many negatives: a large batch, a memory bank, MoCo's queue.

    python -m reference.memory_table                          at 256 and 1,024 negatives
    python -m reference.memory_table --negatives 64 --width 4

The slide on MoCo v2 has such a table. End-to-end, negatives are the other images of the batch, and what backward needs
of all of them is in memory at once: the batch has to grow with their number. A bank and a queue hold old vectors, some
hundred numbers each, and the batch stays as it is. The bank has one for every image of the data, of which it draws.

Each row is measured in a process of its own, in which the chapters' own classes take some steps on noise. Memory is the
peak above what the process held when all had been imported (on a GPU, the pool); time is the median of the steps after
the first.
"""

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from benchmarks.engines import MB
from benchmarks.worker import memory_peak
from minissl import backend, losses, ops
from minissl.backend import BackendUnavailable
from minissl.tensor import Tensor
from reference.contrastive import instance_discrimination, moco, simclr
from reference.contrastive.instance_discrimination import InstanceDiscrimination
from reference.contrastive.moco import MoCo
from reference.league import flags
from reference.method import Inputs, Method, build
from reference.settings import DEFAULT_BACKEND, Settings
from reference.trainer import make_optimizer

Mechanism = Literal["end-to-end", "bank", "queue"]
TITLES: dict[Mechanism, str] = {
    "end-to-end": "end-to-end",
    "bank": "memory bank",
    "queue": "MoCo's queue",
}


@dataclass(kw_only=True)
class Table:
    """Sizes of what is measured."""

    # Negatives of every query: a row of the table for each number and mechanism
    negatives: tuple[int, ...] = (256, 1024)
    # Images in a step of bank and queue; end to end it has as many as there are negatives
    batch_size: int = 64
    # Images of the data, each with a row of the bank
    images: int = 10000
    # Side of an image in pixels
    image_size: int = 64
    # Channels of the ResNet-18's first stage
    width: int = 16
    # Size D of what is compared
    embedding: int = 128
    # Steps that are timed, after a first one
    steps: int = 3
    # Where arrays live: NumPy on the CPU or CuPy on a GPU; MINISSL_BACKEND sets the default
    backend: Literal["numpy", "cupy"] = DEFAULT_BACKEND
    # Only this mechanism with the first number of negatives, in this process, as JSON
    only: Mechanism | None = None


class EndToEnd(simclr.SimCLR):
    """Query and key from one network and one batch, with a gradient through both: K negatives want K + 1 images."""

    def compare(self, z1: Tensor, z2: Tensor) -> Tensor:
        return losses.info_nce(ops.l2_normalize(z1), ops.l2_normalize(z2), temperature=self.config.temperature)


def made(table: Table, mechanism: Mechanism, K: int) -> Method:
    """The method that gives every query K negatives by this mechanism."""
    batch = K + 1 if mechanism == "end-to-end" else table.batch_size
    shared: dict[str, Any] = {"width": table.width, "embedding": table.embedding, "batch_size": batch}
    chapter: type[Method]
    config: Settings
    if mechanism == "end-to-end":
        chapter, config = EndToEnd, simclr.Config(**shared)
    elif mechanism == "bank":
        chapter, config = InstanceDiscrimination, instance_discrimination.Config(noise=K, **shared)
    else:
        chapter, config = MoCo, moco.Config(queue=K, **shared)
    return build(chapter, config, Inputs(3, [0.0] * 3, [1.0] * 3, (), max(table.images, batch)))


def measured(table: Table, mechanism: Mechanism, K: int) -> dict[str, Any]:
    """Of some steps in this process: images in each, peak of memory in MB (None if unknown), seconds of each."""
    before = memory_peak()
    home = backend.use(table.backend).backend
    method = made(table, mechanism, K)
    optimizer, N = make_optimizer(method, method.config), method.config.batch_size
    rng, seconds = np.random.default_rng(0), []
    with home.training_run():
        for _ in range(1 + table.steps):
            x1, x2 = rng.standard_normal((2, N, table.image_size, table.image_size, 3), "float32")
            other = rng.permutation(method.inputs.images)[:N] if mechanism == "bank" else x2
            views = backend.to_device(x1), backend.to_device(other)
            home.synchronize()
            clock = time.perf_counter()
            method.training_step(views, optimizer)
            home.synchronize()
            seconds.append(time.perf_counter() - clock)
    after = memory_peak()
    memory = None if before is None or after is None else after - before
    if home.name == "cupy":
        memory = home.xp.get_default_memory_pool().total_bytes() / MB
    return {"batch": N, "memory": memory, "seconds": seconds[1:]}


def row(table: Table, mechanism: Mechanism, K: int) -> str:
    """A row of the table, measured in a process of its own."""
    settings = {key: value for key, value in vars(table).items() if key not in ("negatives", "only")}
    line = [
        sys.executable,
        "-m",
        "reference.memory_table",
        *flags(settings),
        "--negatives",
        str(K),
        "--only",
        mechanism,
    ]
    done = subprocess.run(line, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])  # MoCo's first step prints, too
    memory = "unknown" if found["memory"] is None else f"{found['memory']:,.0f}"
    seconds = statistics.median(found["seconds"])
    per_thousand = 1000 * seconds / found["batch"]
    return f"| {TITLES[mechanism]} | {K:,} | {found['batch']:,} | {memory} | {seconds:.3g} | {per_thousand:.3g} |"


def main(arguments: list[str]) -> None:
    """Measure, and print the table."""
    table = tyro.cli(Table, prog="python -m reference.memory_table", description=__doc__, args=arguments)
    if table.only:
        print(json.dumps(measured(table, table.only, table.negatives[0])))
        return
    print("| mechanism | negatives | batch | memory, MB | seconds a step | seconds per 1,000 images |")
    print("|---|--:|--:|--:|--:|--:|")
    for K in table.negatives:
        for mechanism in TITLES:
            print(row(table, mechanism, K), flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ValueError, BackendUnavailable, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
