"""Whole training steps of minissl, beside the same steps in PyTorch: time, share of the machine's peak, memory."""

import argparse
import importlib.util
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import minissl
from benchmarks import harness
from benchmarks.engines import cores
from benchmarks.workloads import WORKLOADS, Size
from minissl import backend, checkpoint

NO_TORCH = "torch is not installed: pip install torch==2.13.0 to compare"


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m benchmarks steps", description=__doc__)
    names = ", ".join(WORKLOADS)
    p.add_argument("names", nargs="*", metavar="STEP", help=f"which steps: {names} (default: all)")
    p.add_argument("--backends", nargs="+", metavar="NAME", help="minissl's backends (default: all that run here)")
    p.add_argument("--images", type=_positive, default=Size.images, help="images in a batch (default: %(default)s)")
    p.add_argument("--width", type=_positive, default=Size.width, help="width of the network (default: %(default)s)")
    p.add_argument("--rounds", type=_positive, default=7, help="turns that each engine gets (default: %(default)s)")
    p.add_argument("--steps", type=_positive, default=3, help="steps in a turn (default: %(default)s)")
    p.add_argument("--warmup", type=int, default=2, help="steps before the first round (default: %(default)s)")
    p.add_argument("--keep-blas-pin", action="store_true", help=f"keep {harness.PIN} for the measured processes")
    p.add_argument("--without-torch", action="store_true", help="measure minissl alone")
    p.add_argument("--json", type=Path, metavar="PATH", help="where results go (default: runs/benchmarks/steps.json)")
    return p


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
    return number


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


def table(result: dict[str, Any]) -> str:
    """A measured step as lines: one per engine."""
    engines = result["engines"]
    width = max(map(len, engines))
    head = f"{'':{width}}  {'ms a step (min to max)':>26}  {'GFLOP/s':>8}  {'of peak':>14}  {'peak MB (import)':>16}"
    lines = [head + "  ratio to torch (min to max)" * any("ratio" in r for r in engines.values())]
    for name, r in engines.items():
        ms = f"{1e3 * r['median']:.1f} ({1e3 * r['min']:.1f} to {1e3 * r['max']:.1f})"
        peak = f"{100 * r['share_of_peak']:.0f}% of {r['peak_gflops']:.0f}"
        memory = "unknown" if r["memory_peak"] is None else f"{r['memory_peak']:.0f} ({r['memory_at_import']:.0f})"
        line = f"{name:{width}}  {ms:>26}  {r['gflops']:8.0f}  {peak:>14}  {memory:>16}"
        if ratio := r.get("ratio"):
            line += f"  {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f}), {ratio['to']}"
        lines.append(line)
        if r["device_memory"]:
            lines.append("    device memory: " + ", ".join(f"{k} {v:.0f} MB" for k, v in r["device_memory"].items()))
    return "\n".join(lines)


def introduction(keep_pin: bool, found: dict[str, Any]) -> str:
    load = found["load_at_start"]
    text = f"{found['processor']}, {found['cores']} cores" + (f", load {load:.2f} at start" if load is not None else "")
    if load is not None and load > found["cores"] / 4:
        text += "\nOther programs are running: times, and shares of the peak, will be worse and scattered."
    if (pin := os.environ.get(harness.PIN)) is not None:
        text += f"\n{harness.PIN}={pin} is {'kept' if keep_pin else 'removed for the measured processes'}."
    return text


def main(arguments: list[str]) -> None:
    """Measure, print, and write the JSON file."""
    options = parser().parse_args(arguments)
    if unknown := set(options.names) - set(WORKLOADS):
        raise ValueError(f"there is no step {', '.join(sorted(unknown))}; choose from: {', '.join(WORKLOADS)}")
    torch = torch_installed() and not options.without_torch
    engines = choose_engines(options.backends, torch)
    found = machine()
    print(introduction(options.keep_blas_pin, found))
    if not torch_installed():
        print(NO_TORCH)

    size, measured = Size(options.images, options.width), {}
    for name in options.names or WORKLOADS:
        result = harness.measure(
            name, size, engines, options.rounds, options.steps, options.warmup, options.keep_blas_pin
        )
        measured[name] = {"summary": WORKLOADS[name].summary, "size": asdict(size)} | result
        print(f"\n{WORKLOADS[name].summary}\n{size}, {result['flops'] / 1e9:.1f} GFLOP a step")
        for engine, r in result["engines"].items():
            facts = ", ".join(f"{k} {v}" for k, v in r["facts"].items())
            print(f"  {engine}: initial loss {r['loss']:.6f}; {facts}")
        print(table(result))

    path = options.json or Path("runs", "benchmarks", "steps.json")
    settings = {name: getattr(options, name) for name in ("rounds", "steps", "warmup", "keep_blas_pin")}
    pin = {harness.PIN: os.environ.get(harness.PIN)}
    report = {"machine": found, "versions": versions(), "environment": pin, "settings": settings, "steps": measured}
    checkpoint.write_json(path, report)
    print(f"\nAll figures: {path}")
