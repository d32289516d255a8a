"""What all benchmarks share: flags, the choice of engines, the machine they ran on, and the file of results."""

import argparse
import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import minissl
from benchmarks import harness
from benchmarks.engines import cores
from benchmarks.workloads import EVERY, Size
from minissl import backend, checkpoint

NO_TORCH = "torch is not installed: pip install torch==2.13.0 to compare"


def parser(command: str, description: str | None, what: str, names: Mapping[str, Any]) -> argparse.ArgumentParser:
    """The flags that every command has. what: what `names` are, for its help."""
    p = argparse.ArgumentParser(prog=f"python -m benchmarks {command}", description=description)
    p.add_argument("names", nargs="*", metavar=what.upper(), help=f"which {what}s: {', '.join(names)} (default: all)")
    p.add_argument("--backends", nargs="+", metavar="NAME", help="minissl's backends (default: all that run here)")
    p.add_argument("--keep-blas-pin", action="store_true", help=f"keep {harness.PIN} for the measured processes")
    p.add_argument("--without-torch", action="store_true", help="measure minissl alone")
    p.add_argument("--json", type=Path, metavar="PATH", help=f"for results (default: runs/benchmarks/{command}.json)")
    return p


def add_plan(p: argparse.ArgumentParser, default: harness.Plan) -> None:
    p.add_argument(
        "--rounds", type=positive, default=default.rounds, help="turns that each engine gets (default: %(default)s)"
    )
    p.add_argument("--steps", type=positive, default=default.steps, help="steps in a turn (default: %(default)s)")
    p.add_argument(
        "--warmup", type=int, default=default.warmup, help="steps before the first round (default: %(default)s)"
    )


def add_size(p: argparse.ArgumentParser) -> None:
    """Flags that change a step's usual size."""
    p.add_argument("--images", type=positive, help="images (or sequences) in a batch (default: the step's own)")
    p.add_argument("--width", type=positive, help="width of the network (default: the step's own)")
    p.add_argument("--side", type=positive, help="an image's side, a sequence's steps (default: the step's own)")


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
    return number


def size_of(name: str, options: argparse.Namespace) -> Size:
    given = {key: getattr(options, key) for key in ("images", "width", "side")}
    return replace(EVERY[name].size, **{key: value for key, value in given.items() if value is not None})


def plan_of(options: argparse.Namespace) -> harness.Plan:
    return harness.Plan(options.rounds, options.steps, options.warmup)


def chosen(options: argparse.Namespace, what: str, names: Mapping[str, Any]) -> list[str]:
    """The names asked for, or all. Raises ValueError for an unknown one."""
    if unknown := set(options.names) - set(names):
        raise ValueError(f"there is no {what} {', '.join(sorted(unknown))}; choose from: {', '.join(names)}")
    return options.names or list(names)


def torch_installed() -> bool:
    return importlib.util.find_spec("torch") is not None


def torch_sees_gpu() -> bool:
    """Asked in a process of its own, as this one never imports torch."""
    question = "import torch; raise SystemExit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", question]).returncode == 0


def choose_engines(backends: list[str] | None, torch: bool) -> list[str]:
    """Names of the engines to measure. Raises ValueError or RuntimeError for a backend that cannot run here."""
    reasons = backend.reasons()
    for name in backends or []:
        backend.get(name)
    chosen = backends or [name for name, reason in reasons.items() if reason == "available"]
    engines = [f"minissl {name}" for name in dict.fromkeys(chosen)]
    devices = ["cpu"] * ("numpy" in chosen) + ["cuda"] * ("cupy" in chosen and torch and torch_sees_gpu())
    return engines + [f"torch {d} {o}" for d in devices * torch for o in ("channels_first", "channels_last")]


def suited(engines: list[str], layout: bool) -> list[str]:
    """Where nothing has an image layout, PyTorch's second would only repeat its first."""
    return [engine for engine in engines if layout or not engine.endswith("channels_last")]


def start(options: argparse.Namespace) -> tuple[list[str], dict[str, Any]]:
    """The engines to measure, and the machine; prints what a reader must know of it."""
    engines, found = choose_engines(options.backends, torch_installed() and not options.without_torch), machine()
    print(introduction(options.keep_blas_pin, found))
    if not torch_installed():
        print(NO_TORCH)
    return engines, found


def machine() -> dict[str, Any]:
    """What the figures depend on and no library decides."""
    processor, file = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if file.is_file():
        lines = (line.partition(":") for line in file.read_text().splitlines())
        processor = next((value.strip() for name, _, value in lines if name.strip() == "model name"), processor)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"processor": processor, "cores": cores(), "system": platform.platform(), "load_at_start": load}


def versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version(), "minissl": minissl.__version__}
    for name in ("numpy", "torch"):
        found[name] = metadata.version(name) if importlib.util.find_spec(name) else None
    return found


def introduction(keep_pin: bool, found: dict[str, Any]) -> str:
    load = found["load_at_start"]
    text = f"{found['processor']}, {found['cores']} cores" + (f", load {load:.2f} at start" if load is not None else "")
    if load is not None and load > found["cores"] / 4:
        text += "\nOther programs are running: times, and shares of the peak, will be worse and scattered."
    if (pin := os.environ.get(harness.PIN)) is not None:
        text += f"\n{harness.PIN}={pin} is {'kept' if keep_pin else 'removed for the measured processes'}."
    return text


def facts(results: harness.Results) -> str:
    """A line for each engine: what computes there, and where it started if it learns."""
    lines = []
    for engine, r in results.items():
        known = ", ".join(f"{key} {value}" for key, value in r["facts"].items())
        loss = f"initial loss {r['loss']:.6f}; " if "loss" in r else ""
        lines.append(f"  {engine}: {loss}{known}")
    return "\n".join(lines)


def save(command: str, options: argparse.Namespace, found: dict[str, Any], **measured: Any) -> Path:
    """Write the JSON file: machine, versions, settings, and what was measured; returns its path."""
    path: Path = options.json or Path("runs", "benchmarks", f"{command}.json")
    settings = {name: value for name, value in vars(options).items() if name != "json"}
    names = (harness.PIN, "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MINISSL_THREADS", "CUPY_TF32")
    environment = {name: os.environ.get(name) for name in names}
    report = {"machine": found, "versions": versions(), "environment": environment, "settings": settings}
    checkpoint.write_json(path, report | measured)
    print(f"\nAll figures: {path}")
    return path
