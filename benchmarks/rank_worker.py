"""A program on each rank: steps of SimCLR on noise, and how long they and what the ranks say to each other take.

    mpiexec -n 2 python -m benchmarks.rank_worker '{"images": 64, ...}'        rank 0 prints one line of JSON

Time in communication is what a rank spends in its calls, waiting for the others included: unevenness, and cores that
something else uses, are part of it. Processor time outside of the calls is not disturbed by what else runs.
"""

import json
import sys
import time
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from minissl import backend, nn, parallel, random
from minissl.backend.cpu import threads
from reference.contrastive.simclr import Config, SimCLR
from reference.method import Inputs, build
from reference.trainer import average_over_ranks, make_optimizer

CALLS = ("all_reduce", "all_gather")
LARGE = 45_000_000 // 4  # numbers of a ResNet-18 of width 64


class Watched:
    """Notes time, processor time, calls and bytes of a communicator's calls from now on."""

    def __init__(self, world: parallel.Alone) -> None:
        self.seconds, self.processor, self.calls, self.bytes = 0.0, 0.0, 0, 0
        for name in CALLS:
            setattr(world, name, self.timed(getattr(world, name)))

    def timed(self, call: Any) -> Any:
        def timed(array: Any) -> Any:
            started, used = time.perf_counter(), time.process_time()
            result = call(array)
            self.seconds += time.perf_counter() - started
            self.processor += time.process_time() - used
            self.calls, self.bytes = self.calls + 1, self.bytes + array.nbytes
            return result

        return timed


def measure(images: int, side: int, width: int, stem: Any, sync_bn: bool, steps: int, warmup: int) -> dict[str, Any]:
    """Seconds of each step of this batch, and the means over its steps of what is said."""
    world, rng = parallel.world(), np.random.default_rng(0)
    config = Config(batch_size=images, image_size=side, width=width, stem=stem, learning_rate=0.01, sync_bn=sync_bn)
    method = build(SimCLR, config, Inputs(3, [0.5] * 3, [0.25] * 3, ()))
    nn.synchronize(method, sync_bn)
    optimizer = make_optimizer(method, config)
    optimizer.before_step = lambda: average_over_ranks(method)
    noise = rng.integers(0, 256, (images, side, side, 3), np.uint8)
    batch = {"images": parallel.own_rows(noise)}
    watched, seconds = Watched(world), list[float]()
    before, used = list(vars(watched).values()), time.process_time()
    with backend.current().training_run():
        for step in range(-warmup, steps):
            if step == 0:
                seconds, before, used = [], list(vars(watched).values()), time.process_time()
            started = time.perf_counter()
            random.seed(0, step + warmup)
            method.training_step(method.views(batch, random.rows(len(batch["images"]))), optimizer)
            seconds.append(time.perf_counter() - started)
    used = (time.process_time() - used) / steps
    said = [(now - then) / steps for now, then in zip(vars(watched).values(), before, strict=True)]
    communication, processor, calls, numbers = said
    return {
        "seconds": seconds,
        "computing": used - processor,
        "communication": communication,
        "calls": calls,
        "bytes": numbers,
    }


def channel(repeats: int = 7) -> dict[str, float]:
    """Seconds of the shortest message, and of the gradients of a ResNet-18: the least of a few, as load only adds."""
    world, found = parallel.world(), {}
    for name, numbers in (("latency", 1), ("large", LARGE)):
        array, times = np.ones(numbers, np.float32), []
        for _ in range(repeats):
            world.barrier()
            started = time.perf_counter()
            world.all_reduce(array)
            times.append(time.perf_counter() - started)
        found[name] = min(times)
    return found


def main(options: str) -> None:
    world = parallel.start()
    with threadpool_limits(threads.count(), user_api="blas"):
        found = measure(**json.loads(options)) | channel()
    if world.rank == 0:
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
