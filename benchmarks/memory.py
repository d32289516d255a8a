"""The most memory that each training step holds at once, beside the same step in PyTorch.

A fresh process takes a few steps. On the host the figure is its peak (VmHWM) above what it held when the library had
been imported: weights, gradients, the optimizer's state, what backward needs, scratch memory, and the code that the
library loads when first used (a small step shows how much that is). On a GPU it is the size of the library's pool.
"""

from dataclasses import asdict

from benchmarks import harness, settings
from benchmarks.workloads import WORKLOADS


def table(results: harness.Results) -> str:
    """A measured step as lines: one per engine."""
    width = max(map(len, results))
    lines = [f"{'':{width}}  {'MB':>8}  {'at import':>9}" + "  ratio to torch" * ("memory_ratio" in str(results))]
    for name, r in results.items():
        figures = ["unknown" if n is None else f"{n:.0f}" for n in (r["memory_step"], r["memory_at_import"])]
        line = f"{name:{width}}  {figures[0]:>8}  {figures[1]:>9}"
        if ratio := r.get("memory_ratio"):
            line += f"  {ratio['ratio']:.2f}, {ratio['to']}"
        lines.append(line)
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Measure, print, and write the JSON file."""
    p = settings.parser("memory", __doc__, "step", WORKLOADS)
    settings.add_size(p)
    p.add_argument(
        "--steps", type=settings.positive, default=2, help="steps after the first one (default: %(default)s)"
    )
    options = p.parse_args(arguments)
    names = settings.chosen(options, "step", WORKLOADS)
    engines, found = settings.start(options)

    measured = {}
    for name in names:
        workload, size = WORKLOADS[name], settings.size_of(name, options)
        suited = settings.suited(engines, workload.layout)
        results = harness.measure_memory(name, size, suited, options.steps, options.keep_blas_pin)
        measured[name] = {"summary": workload.summary, "size": asdict(size), "engines": results}
        print(f"\n{workload.summary}\n{size}", settings.facts(results), table(results), sep="\n")
    settings.save("memory", options, found, memory=measured)
