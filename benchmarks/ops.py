"""Single ops of minissl, forward and backward, beside the same ops in PyTorch, in one process per engine.

Rates: GFLOP/s of the matrix products where there are some, else GB/s if inputs, output and their gradients were each
moved once. The gradients are those of ½ ‖y‖², for which dy = y.
"""

import math
from typing import Any

from benchmarks import harness, settings
from benchmarks.harness import Child, Results
from benchmarks.op_cases import CASES
from benchmarks.workloads import Size

AT_MOST = 1000  # repetitions in a turn, of the shortest ops


def measure(started: list[Child], name: str, images: int, rounds: int, seconds: float) -> dict[str, Any]:
    """One op in all engines: {"flops", "bytes", "engines"}; a turn takes about `seconds`.

    Raises ValueError when outputs or gradients differ.
    """
    results = harness.begin(started, name, Size(images))
    costs = {cost: harness.take_cost(results, cost) for cost in ("flops", "bytes")}
    repeat = {}
    for child in started:
        child.ask("steps 1")  # the second time is the first without allocating what is reused
        once = child.ask("steps 1")["seconds"]
        repeat[child.engine] = min(AT_MOST, max(1, math.ceil(seconds / once)))
    harness.take_turns(started, results, rounds, repeat, products=False)
    cost, rate = ("flops", "gflops") if costs["flops"] else ("bytes", "gbytes")
    for result in results.values():
        result[rate] = costs[cost] / result["median"] / 1e9
    return costs | {"engines": results}


def row(name: str, results: Results) -> str:
    """A measured op as a line per backend of minissl, and its peer in PyTorch."""
    lines = []
    for engine, r in results.items():
        if not engine.startswith("minissl"):
            continue
        line = f"{name:20}{engine:14}{1e3 * r['median']:10.3f}{_rate(r):>13}"
        if ratio := r.get("ratio"):
            peer = results[ratio["to"]]
            spread = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
            line += f"{1e3 * peer['median']:12.3f}{_rate(peer):>13}  {spread:22}{ratio['to']}"
        lines.append(line)
    return "\n".join(lines)


def _rate(result: dict[str, Any]) -> str:
    return f"{result['gflops']:.0f} GFLOP/s" if "gflops" in result else f"{result['gbytes']:.1f} GB/s"


def main(arguments: list[str]) -> None:
    """Measure, print, and write the JSON file."""
    p = settings.parser("ops", __doc__, "op", CASES)
    p.add_argument("--images", type=settings.positive, default=64, help="images in a batch (default: %(default)s)")
    p.add_argument(
        "--rounds", type=settings.positive, default=7, help="turns that each engine gets (default: %(default)s)"
    )
    p.add_argument("--seconds", type=float, default=0.2, help="length of a turn (default: %(default)s)")
    options = p.parse_args(arguments)
    names = settings.chosen(options, "op", CASES)
    engines, found = settings.start(options)

    cases = {name: CASES[name](options.images) for name in names}
    engines = settings.suited(engines, any(case.layout for case in cases.values()))
    measured: dict[str, Any] = {"ops": {}, "engines": {}}
    print(f"\n{'':20}{'':14}{'ms':>10}{'':13}{'torch: ms':>12}{'':13}  ratio (min to max)")
    with harness.children(engines, options.keep_blas_pin) as started:
        for name, case in cases.items():
            suited = settings.suited(engines, case.layout)
            now = [child for child in started if child.engine in suited]
            result = measure(now, name, options.images, options.rounds, options.seconds)
            for engine, r in result["engines"].items():
                measured["engines"][engine] = {"facts": r.pop("facts"), "memory_at_import": r.pop("memory_at_import")}
            shapes = [list(given.shape) for given in case.inputs]
            measured["ops"][name] = {"op": case.op, "inputs": shapes, "options": case.options} | result
            print(row(name, result["engines"]), flush=True)
        for child in started:
            measured["engines"][child.engine]["peak_gflops"] = child.ask("product")["gflops"]
    for engine, r in measured["engines"].items():
        print(settings.facts({engine: r}) + f", matrix product {r['peak_gflops']:.0f} GFLOP/s")
    settings.save("ops", options, found, **measured)
