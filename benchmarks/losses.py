"""Each loss of a batch of embeddings (N, D), forward and backward: its time and memory as N grows, beside PyTorch.

Time is measured in one process per engine that take turns. Memory is the most that a fresh process holds above what it
held when the library had been imported: inputs, gradients, all that lies between, and the library's code that is loaded
when first used (the smallest N shows how much that is). A size is skipped where a loss that grows with N² would hold
more than --limit there. PyTorch's formula is the plain one, with the whole matrix of similarities.
"""

from typing import Any

from benchmarks import harness, ops, settings
from benchmarks.harness import Child, Results
from benchmarks.loss_cases import BESIDE_TORCH, LOSSES
from benchmarks.workloads import Size

SIZES = (64, 256, 1024, 4096, 8192)


def expected(memory: dict[int, float], N: int) -> float:
    """MB at N, from those at smaller sizes, if all that the largest holds above the smallest grows with N²."""
    largest = max(memory)
    base = memory[min(memory)]
    return base + (memory[largest] - base) * (N / largest) ** 2


def measure(started: list[Child], name: str, N: int, options: Any) -> Results:
    """One loss at one size in all engines: {engine: {"seconds" of each round, "median", ..., "memory_step"}}."""
    engines = [child.engine for child in started]
    memory = harness.measure_memory(f"losses.{name}", Size(N), engines, 1, options.keep_blas_pin)
    results: Results = ops.measure(started, f"losses.{name}", N, options.rounds, options.seconds)["engines"]
    for engine, result in results.items():
        for rate in ("gflops", "gbytes"):
            result.pop(rate, None)  # a loss moves much more than its inputs: it would say little
        result |= {key: memory[engine][key] for key in ("memory_step", "memory_ratio") if key in memory[engine]}
    return results


def most_memory(results: Results) -> float:
    return max(result["memory_step"] or 0.0 for result in results.values())


def rows(name: str, N: int, results: Results) -> str:
    """A measured size as a line per backend of minissl, and its peer in PyTorch."""
    lines = []
    for engine, r in results.items():
        if not engine.startswith("minissl"):
            continue
        line = f"{name:22}{N:6}  {engine:14}{_time(r):>30}{_memory(r):>8}"
        if ratio := r.get("ratio"):
            peer = results[ratio["to"]]
            line += f"  {_time(peer):>30}{_memory(peer):>8}{ratio['median']:8.2f}"
        lines.append(line)
    return "\n".join(lines)


def _time(result: dict[str, Any]) -> str:
    return f"{1e3 * result['median']:.2f} ({1e3 * result['min']:.2f} to {1e3 * result['max']:.2f})"


def _memory(result: dict[str, Any]) -> str:
    return "unknown" if result["memory_step"] is None else f"{result['memory_step']:.0f}"


def main(arguments: list[str]) -> None:
    """Measure, print, and write the JSON file."""
    p = settings.parser("losses", __doc__, "loss", LOSSES)
    p.add_argument("--sizes", type=settings.positive, nargs="+", default=SIZES, metavar="N", help="rows in a batch")
    p.add_argument("--limit", type=settings.positive, default=2048, help="MB that no loss shall exceed (default: 2048)")
    p.add_argument("--rounds", type=settings.positive, default=7, help="turns of each engine (default: %(default)s)")
    p.add_argument("--seconds", type=float, default=0.2, help="length of a turn (default: %(default)s)")
    options = p.parse_args(arguments)
    names = settings.chosen(options, "loss", LOSSES)
    engines, found = settings.start(options)

    engines = settings.suited(engines, layout=False)
    measured: dict[str, dict[int, Any]] = {}
    facts: dict[str, Any] = {}
    head = f"{'':22}{'N':>6}  {'':14}{'ms (min to max)':>30}{'MB':>8}"
    print(f"\n{head}  {'torch: ms (min to max)':>30}{'MB':>8}{'ratio':>8}")
    with harness.children(engines, options.keep_blas_pin) as started:
        for name in names:
            now = [child for child in started if child.engine.startswith("minissl") or name in BESIDE_TORCH]
            measured[name] = {}
            memory: dict[int, float] = {}
            for N in sorted(options.sizes):
                if memory and (about := expected(memory, N)) > options.limit:
                    measured[name][N] = {"skipped": f"about {about:.0f} MB"}
                    print(f"{name:22}{N:6}  skipped: about {about:.0f} MB, above --limit {options.limit}")
                    continue
                results = measure(now, name, N, options)
                memory[N] = most_memory(results)
                for engine, result in results.items():
                    facts[engine] = {"facts": result.pop("facts")}
                    result.pop("memory_at_import")
                measured[name][N] = {"engines": results}
                print(rows(name, N, results), flush=True)
    print(settings.facts(facts))
    settings.save("losses", options, found, losses=measured, engines=facts)
