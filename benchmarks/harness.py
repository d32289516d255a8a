"""Fair comparison: one process per engine, each waiting for its turn, and rounds A, B, A, B, ... on one machine."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.workloads import Size

PIN = "OPENBLAS_CORETYPE"


class Child:
    """A process that runs one engine (see `worker.py`) and works only while it is asked something."""

    def __init__(self, workload: str, size: Size, engine: str, environment: dict[str, str]) -> None:
        self.engine = engine
        command = [sys.executable, "-m", "benchmarks.worker", workload, json.dumps(asdict(size)), *engine.split()]
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
def children(workload: str, size: Size, engines: list[str], keep_pin: bool) -> Iterator[list[Child]]:
    """One process per engine. OpenBLAS chooses its kernel by the processor there, unless `keep_pin`."""
    environment = {name: value for name, value in os.environ.items() if keep_pin or name != PIN}
    with ExitStack() as stack:
        started = []
        for engine in engines:
            started.append(Child(workload, size, engine, environment))
            stack.callback(started[-1].close)
        yield started


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def check_losses(losses: dict[str, float]) -> None:
    """Raise ValueError unless all engines start from the same loss: else they do not compute the same."""
    tolerance = 1e-2 if os.environ.get("CUPY_TF32") == "1" else 1e-4
    first = next(iter(losses.values()))
    if not all(abs(loss - first) <= tolerance for loss in losses.values()):  # so written, NaN is an error
        raise ValueError(f"the initial losses differ by more than {tolerance}, so times cannot be compared: {losses}")


def measure(
    workload: str, size: Size, engines: list[str], rounds: int, steps: int, warmup: int, keep_pin: bool
) -> dict[str, Any]:
    """Measure one step in all engines: {"flops", "engines": {name: {"seconds": one figure per round, ...}}}.

    Raises ValueError when initial losses differ, RuntimeError when an engine fails.
    """
    with children(workload, size, engines, keep_pin) as started:
        results = {child.engine: child.ask("first") for child in started}
        check_losses({engine: result["loss"] for engine, result in results.items()})
        if warmup:
            for child in started:
                child.ask(f"steps {warmup}")
        for result in results.values():
            result["seconds"], result["product_gflops"] = [], []
        for _ in range(rounds):
            for child in started:
                results[child.engine]["seconds"].append(child.ask(f"steps {steps}")["seconds"])
                results[child.engine]["product_gflops"].append(child.ask("product")["gflops"])
        for child in started:
            results[child.engine] |= child.ask("memory")
    flops = next(counts for result in results.values() if (counts := result.pop("flops", None)))
    for result in results.values():
        result |= spread(result["seconds"])
        result["gflops"] = flops / result["median"] / 1e9
        result["peak_gflops"] = max(result["product_gflops"])
        result["share_of_peak"] = result["gflops"] / result["peak_gflops"]
    add_ratios(results)
    return {"flops": flops, "engines": results}


def add_ratios(results: dict[str, dict[str, Any]]) -> None:
    """Beside each of minissl's backends its time over that of PyTorch's faster layout on the same device, by round."""
    for engine, device in {"minissl numpy": "torch cpu", "minissl cupy": "torch cuda"}.items():
        peers = [name for name in results if name.startswith(device)]
        if engine not in results or not peers:
            continue
        peer = min(peers, key=lambda name: results[name]["median"])
        pairs = zip(results[engine]["seconds"], results[peer]["seconds"], strict=True)
        ratios = [ours / theirs for ours, theirs in pairs]
        results[engine]["ratio"] = {"to": peer, "rounds": ratios} | spread(ratios)
