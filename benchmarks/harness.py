"""Fair comparison: one process per engine, each waiting for its turn, and rounds A, B, A, B, ... on one machine."""

import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.workloads import Size

PIN = "OPENBLAS_CORETYPE"
PEERS = {"minissl numpy": "torch cpu", "minissl cupy": "torch cuda"}  # who is compared on the same device

Results = dict[str, dict[str, Any]]  # by engine


@dataclass(frozen=True)
class Plan:
    """How often: turns of each engine, steps in a turn, steps before the first turn."""

    rounds: int = 7
    steps: int = 3
    warmup: int = 2


class Child:
    """A process that runs one engine (see `worker.py`) and works only while it is asked something."""

    def __init__(self, engine: str, environment: dict[str, str]) -> None:
        self.engine = engine
        command = [sys.executable, "-m", "benchmarks.worker", *engine.split()]
        root = Path(__file__).parents[1]
        self.process = subprocess.Popen(
            command, cwd=root, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, command: str) -> dict[str, Any]:
        """Send a command and wait for its answer. Raises RuntimeError when the process has ended instead."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended already: the missing answer says so
            print(command, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"{self.engine} ended with code {self.process.wait()} at {command!r}; its error is above"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Let the process end, and wait for it."""
        self.process.communicate()


@contextmanager
def children(engines: list[str], keep_pin: bool) -> Iterator[list[Child]]:
    """One process per engine. OpenBLAS chooses its kernel by the processor there, unless `keep_pin`."""
    environment = {name: value for name, value in os.environ.items() if keep_pin or name != PIN}
    with ExitStack() as stack:
        started = []
        for engine in engines:
            started.append(Child(engine, environment))
            stack.callback(started[-1].close)
        yield started


def check_agreement(values: dict[str, list[float]]) -> None:
    """Raise ValueError unless all engines' first results agree: else they do not compute the same."""
    tolerance = 1e-2 if os.environ.get("CUPY_TF32") == "1" else 1e-4
    first = next(iter(values.values()))
    for other in values.values():  # NaN is close to nothing, and therefore an error
        if not all(math.isclose(a, b, rel_tol=tolerance) for a, b in zip(first, other, strict=True)):
            raise ValueError(f"the first results differ by more than {tolerance}, so they cannot be compared: {values}")


def begin(started: list[Child], name: str, size: Size) -> Results:
    """Let every engine build a step or an op and do it once. Raises ValueError when the first results differ."""
    results = {child.engine: child.ask(f"first {name} {json.dumps(asdict(size))}") for child in started}
    answers = {
        engine: r["gradients"] + [r["output"]] if "output" in r else [r["loss"]] for engine, r in results.items()
    }
    check_agreement(answers)
    return results


def take_turns(started: list[Child], results: Results, rounds: int, steps: dict[str, int], products: bool) -> None:
    """Time `steps` of each engine in every round, and a matrix product after them if `products`."""
    for child in started:
        results[child.engine] |= {"seconds": []} | ({"product_gflops": []} if products else {})
    for _ in range(rounds):
        for child in started:
            results[child.engine]["seconds"].append(child.ask(f"steps {steps[child.engine]}")["seconds"])
            if products:
                results[child.engine]["product_gflops"].append(child.ask("product")["gflops"])
    for result in results.values():
        result |= spread(result["seconds"])
    add_ratios(results)


def take_cost(results: Results, cost: str) -> int:
    """What minissl's engines have counted, taken out of the results; it is the same for all."""
    return int(next(n for n in [result.pop(cost, None) for result in results.values()] if n is not None))


def measure(name: str, size: Size, engines: list[str], plan: Plan, keep_pin: bool) -> dict[str, Any]:
    """Measure one step in all engines: {"flops", "engines": {name: {"seconds": one figure per round, ...}}}.

    Raises ValueError when initial losses differ, RuntimeError when an engine fails.
    """
    with children(engines, keep_pin) as started:
        results = begin(started, name, size)
        for child in started:
            if plan.warmup:
                child.ask(f"steps {plan.warmup}")
            results[child.engine] |= child.ask("memory")  # before the products, whose matrices would count
        take_turns(started, results, plan.rounds, dict.fromkeys(results, plan.steps), products=True)
    flops = take_cost(results, "flops")
    for result in results.values():
        result["images_per_second"] = size.images / result["median"]
        result["gflops"] = flops / result["median"] / 1e9
        result["peak_gflops"] = max(result["product_gflops"])
        result["share_of_peak"] = result["gflops"] / result["peak_gflops"]
    return {"flops": flops, "engines": results}


def measure_memory(name: str, size: Size, engines: list[str], steps: int, keep_pin: bool) -> Results:
    """The most memory that a step holds in each engine, after `steps` more than the first: {"memory_step": MB, ...}.

    On the host, the process's peak above what it held when the library had been imported; on a GPU, the pool's size.
    """
    with children(engines, keep_pin) as started:
        results = begin(started, name, size)
        for child in started:
            child.ask(f"steps {steps}")
            results[child.engine] |= child.ask("memory")
    take_cost(results, "flops")
    for result in results.values():
        result["memory_step"] = result["device_memory"].get("total")
        if result["memory_step"] is None and result["memory_peak"] is not None:
            result["memory_step"] = result["memory_peak"] - result["memory_at_import"]
    if all(result["memory_step"] is not None for result in results.values()):
        for engine, peer in pairs(results, "memory_step"):
            ratio = results[engine]["memory_step"] / results[peer]["memory_step"]
            results[engine]["memory_ratio"] = {"to": peer, "ratio": ratio}
    return results


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def pairs(results: Results, figure: str) -> Iterator[tuple[str, str]]:
    """Each of minissl's engines with PyTorch's on the same device, in the layout whose figure is smaller."""
    for engine, device in PEERS.items():
        peers = [name for name in results if name.startswith(device)]
        if engine in results and peers:
            yield engine, min(peers, key=lambda name: results[name][figure])


def add_ratios(results: Results) -> None:
    """Beside each of minissl's engines its time over that of PyTorch's faster layout on the same device, by round."""
    for engine, peer in pairs(results, "median"):
        rounds = zip(results[engine]["seconds"], results[peer]["seconds"], strict=True)
        ratios = [ours / theirs for ours, theirs in rounds]
        results[engine]["ratio"] = {"to": peer, "rounds": ratios} | spread(ratios)
