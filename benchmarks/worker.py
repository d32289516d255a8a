"""The process in which one engine is measured. It waits without work until a line on its input asks for something.

first NAME SIZE    build a step or an op and do it once: {"loss" or "output" and "gradients", "facts",
                   "memory_at_import", "flops" and "bytes" (minissl only)}; asked again, it replaces the one before
steps K            do it K times: {"seconds" each, "loss" of the last (a step's)}
product            multiply large matrices, again and again for a moment: {"gflops" of the fastest}
memory             {"memory_peak", "device_memory"} so far; the matrices of a product before it count

Started as `python -m benchmarks.worker ENGINE...`, for example `minissl numpy`, and asked `first simclr {"images": 8}`.
Each answer is one line of JSON; whatever else is printed goes to standard error.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.engines import Engine
from benchmarks.workloads import Size

MODULES = {"minissl": "benchmarks.engines", "torch": "benchmarks.torch_engines"}
PRODUCT_SECONDS = 0.4  # how long matrix products are repeated in search of the fastest


def memory_peak() -> float | None:
    """The most memory this process has held at once, in MB; None where the system does not tell.

    Linux's VmHWM is preferred: the figure of `getrusage` starts at what the parent process held.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        lines = (line.split() for line in status.read_text().splitlines())
        return next((int(line[1]) / 1024 for line in lines if line[0] == "VmHWM:"), None)
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def load(kind: str) -> Callable[..., Engine]:
    """Import the library and return what builds an engine on it."""
    made: Callable[..., Engine] = importlib.import_module(MODULES[kind]).make
    return made


def time_steps(engine: Engine, count: int) -> dict[str, float | None]:
    with engine.running():
        engine.synchronize()
        clock = time.perf_counter()
        for _ in range(count):
            loss = engine.step()
        engine.synchronize()
        return {"seconds": (time.perf_counter() - clock) / count, "loss": loss}


def product_gflops(engine: Engine) -> float:
    """The fastest of many matrix products, in 10⁹ operations a second: the limit of a step that consists of them."""
    product, fastest = engine.product(), float("inf")
    start = time.perf_counter()
    while time.perf_counter() - start < PRODUCT_SECONDS:
        clock = time.perf_counter()
        product()
        engine.synchronize()
        fastest = min(fastest, time.perf_counter() - clock)
    return 2 * engine.product_side**3 / fastest / 1e9


def main(arguments: list[str]) -> None:
    answers, sys.stdout = sys.stdout, sys.stderr
    kind, *options = arguments
    make = load(kind)
    at_import = memory_peak()
    engine: Engine | None = None
    for line in sys.stdin:
        command, *numbers = line.split(maxsplit=2)
        answer: dict[str, Any]
        if command == "first":
            engine = None  # the one before frees its memory first
            engine = make(numbers[0], Size(**json.loads(numbers[1])), *options)
            answer = {"facts": engine.facts(), "memory_at_import": at_import} | engine.first()
        elif engine is None:
            raise ValueError(f"{command!r} came before 'first'")
        elif command == "steps":
            answer = time_steps(engine, int(numbers[0]))
        elif command == "product":
            answer = {"gflops": product_gflops(engine)}
        elif command == "memory":
            answer = {"memory_peak": memory_peak(), "device_memory": engine.device_memory()}
        else:
            raise ValueError(f"expected first, steps, product or memory, got {command!r}")
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
