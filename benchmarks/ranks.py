"""One batch on more and more processes: how much faster a step gets, and how much of it is spent in communication.

The batch stays as it is, each process (rank) has one thread, and beside them stands one process with as many threads as
there are cores. Efficiency is T(1 rank) / (ranks · T(ranks)): 1 where ranks cost nothing. Computing is the processor
time of rank 0 outside of communication, which does not hang on what else the machine does. A round starts each setup
once; figures are medians over rounds.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from benchmarks import harness, settings
from benchmarks.engines import cores
from benchmarks.rank_worker import LARGE

SIZE: dict[str, Any] = {"images": 64, "side": 64, "width": 16, "stem": "halving"}  # the demo's


def run(ranks: int, threads: int, options: dict[str, Any]) -> dict[str, Any]:
    """What `benchmarks.rank_worker` finds. Raises RuntimeError where it fails."""
    beside = Path(sys.executable).parent / "mpiexec"
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    if ranks > 1 and mpiexec is None:
        raise RuntimeError("there is no mpiexec: pip install 'minissl[mpi]'")
    command = [sys.executable, "-m", "benchmarks.rank_worker", json.dumps(options)]
    if ranks > 1:
        command = [str(mpiexec), "-n", str(ranks), *command]
    environment = {name: value for name, value in os.environ.items() if name != harness.PIN}
    environment |= {"MINISSL_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    done = subprocess.run(command, cwd=Path(__file__).parents[1], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{ranks} ranks ended with code {done.returncode}: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The median over rounds of a setup's median step, and of the shares in it."""
    steps = [statistics.median(each["seconds"]) for each in rounds]
    share = [each["communication"] * len(each["seconds"]) / sum(each["seconds"]) for each in rounds]
    return {
        "step": statistics.median(steps),
        "steps": steps,
        "share": statistics.median(share),
        "computing": statistics.median(each["computing"] for each in rounds),
        "calls": rounds[0]["calls"],
        "megabytes": rounds[0]["bytes"] / 1e6,
        "latency": min(each["latency"] for each in rounds),
        "large": min(each["large"] for each in rounds),
    }


def table(found: dict[str, dict[str, Any]]) -> str:
    first = found["1 rank"]["step"]
    columns = [("ms a step (min to max)", 26), ("efficiency", 12), ("computing, CPU ms", 19), ("in communication", 18)]
    columns += [("calls", 7), ("MB", 7), ("latency, µs", 13), (f"{4 * LARGE / 1e6:.0f} MB, ms", 11)]
    lines = [" " * 26 + "".join(f"{title:>{width}}" for title, width in columns)]
    for name, f in found.items():
        step = f"{1e3 * f['step']:.0f} ({1e3 * min(f['steps']):.0f} to {1e3 * max(f['steps']):.0f})"
        line = f"{name:26}{step:>26}{first / (f['processors'] * f['step']):12.2f}{1e3 * f['computing']:19.0f}"
        if f["calls"] and "rank" in name and name != "1 rank":
            line += f"{100 * f['share']:17.0f}%{f['calls']:7.0f}{f['megabytes']:7.1f}"
            line += f"{1e6 * f['latency']:13.0f}{1e3 * f['large']:11.1f}"
        lines.append(line)
    return "\n".join(lines)


def main(options: Namespace) -> None:
    """Measure, print, and write the JSON file."""
    found = settings.machine()
    print(settings.introduction(False, found))
    setups: dict[str, tuple[int, int, bool]] = {"1 rank": (1, 1, True)}
    if cores() > 1:
        setups[f"1 process, {cores()} threads"] = (1, cores(), True)
    for ranks in sorted(set(options.ranks) - {1}):
        setups[f"{ranks} ranks"] = (ranks, 1, True)
        setups[f"{ranks} ranks, --no-sync-bn"] = (ranks, 1, False)
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in setups}
    for _ in range(options.rounds):
        for name, (ranks, threads, sync_bn) in setups.items():
            plan = SIZE | {"sync_bn": sync_bn, "steps": options.steps, "warmup": options.warmup}
            results[name].append(run(ranks, threads, plan))
    measured = {
        name: summary(rounds) | {"processors": max(setups[name][:2]), "rounds": rounds}
        for name, rounds in results.items()
    }
    print(f"SimCLR, ResNet-18 of width {SIZE['width']}, {SIZE['images']} images of {SIZE['side']} pixels in all")
    print(table(measured))
    settings.save("ranks", options, found, ranks=measured)
