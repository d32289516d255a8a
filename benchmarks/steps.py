"""Whole training steps of minissl, beside the same steps in PyTorch: time, share of the machine's peak, memory."""

from dataclasses import asdict
from typing import Any

from benchmarks import harness, settings
from benchmarks.workloads import WORKLOADS


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


def main(arguments: list[str]) -> None:
    """Measure, print, and write the JSON file."""
    p = settings.parser("steps", __doc__, "step", WORKLOADS)
    settings.add_size(p)
    settings.add_plan(p, harness.Plan())
    options = p.parse_args(arguments)
    names = settings.chosen(options, "step", WORKLOADS)
    engines, found = settings.start(options)

    measured = {}
    for name in names:
        workload, size = WORKLOADS[name], settings.size_of(name, options)
        suited = settings.suited(engines, workload.layout)
        result = harness.measure(name, size, suited, settings.plan_of(options), options.keep_blas_pin)
        measured[name] = {"summary": workload.summary, "size": asdict(size)} | result
        print(f"\n{workload.summary}\n{size}, {result['flops'] / 1e9:.1f} GFLOP a step")
        print(settings.facts(result["engines"]), table(result), sep="\n")
    settings.save("steps", options, found, steps=measured)
