"""Whole training steps of minissl, beside the same steps in PyTorch: time, share of the machine's peak, memory.

With --models: one step, forward, backward and update, of each network instead, as images per second.
"""

from dataclasses import asdict
from typing import Any

from benchmarks import harness, settings
from benchmarks.workloads import MODELS, WORKLOADS


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


def row(name: str, result: dict[str, Any]) -> str:
    """A measured network as lines: one per backend of minissl, beside PyTorch."""
    size, lines = result["size"], []
    for engine, r in result["engines"].items():
        if not engine.startswith("minissl"):
            continue
        sizes = f"{size['images']:6}{size['side']:6}{size['width']:7}"
        line = f"{name:17}{sizes}  {engine:14}{r['images_per_second']:10.1f}"
        if ratio := r.get("ratio"):
            peer = result["engines"][ratio["to"]]["images_per_second"]
            line += f"{peer:10.1f}  {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f}), {ratio['to']}"
        lines.append(line)
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Measure, print, and write the JSON file."""
    p = settings.parser("steps", __doc__, "step", WORKLOADS)
    p.add_argument("--models", action="store_true", help=f"names are of networks: {', '.join(MODELS)}")
    settings.add_size(p)
    settings.add_plan(p, harness.Plan())
    options = p.parse_args(arguments)
    workloads, what = (MODELS, "model") if options.models else (WORKLOADS, "step")
    names = settings.chosen(options, what, workloads)
    engines, found = settings.start(options)

    measured = {}
    if options.models:
        head = f"\n{'':17}{'images':>6}{'side':>6}{'width':>7}  {'images/s:':14}{'minissl':>10}"
        print(head + f"{'torch':>10}  time over torch's (min to max)" * (len(engines) > 1))
    for name in names:
        workload, size = workloads[name], settings.size_of(name, options)
        suited = settings.suited(engines, workload.layout)
        result = harness.measure(name, size, suited, settings.plan_of(options), options.keep_blas_pin)
        measured[name] = {"summary": workload.summary, "size": asdict(size)} | result
        if options.models:
            print(row(name, measured[name]), flush=True)
            continue
        print(f"\n{workload.summary}\n{size}, {result['flops'] / 1e9:.1f} GFLOP a step")
        print(settings.facts(result["engines"]), table(result), sep="\n")
    settings.save("steps", options, found, steps=measured)
