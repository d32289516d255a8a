"""How the time of a training step grows with the images in a batch, their side and the network's width.

One of the three changes at a time, the others staying at the step's usual size. A straight line through the logarithms
gives the exponent p of time ≈ a·sizeᵖ; beside it stands the exponent of the operations that the step needs. Time that
grows more slowly than operations had a part that does not grow; time that grows faster falls out of a cache.
With --ranks: one batch on several processes instead, see `benchmarks.ranks`.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness, ranks, settings
from benchmarks.workloads import WORKLOADS, Size

FACTORS = {"images": (0.125, 0.25, 0.5, 1), "side": (0.5, 0.75, 1, 1.5), "width": (0.25, 0.5, 0.75, 1)}
OPERATIONS = "operations"


def power_law(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """The a and p for which a·xᵖ is nearest to y, by least squares in logarithms; `off`: the largest factor between."""
    log_x, log_y = np.log(x), np.log(y)
    p, log_a = np.polyfit(log_x, log_y, 1)
    off = np.exp(np.abs(log_a + p * log_x - log_y).max())
    return {"exponent": float(p), "factor": float(np.exp(log_a)), "off": float(off)}


def values_of(dimension: str, given: list[int] | None, usual: Size) -> list[int]:
    """The values to measure: those given, or fractions of the usual. Raises ValueError when one alone is left."""
    values = sorted(
        set(given if given is not None else (round(f * getattr(usual, dimension)) for f in FACTORS[dimension]))
    )
    if len(values) == 1:
        raise ValueError(
            f"--{dimension}: expected two different values at least, or none to leave it out, got {values}"
        )
    return values


def curve(dimension: str, points: list[dict[str, Any]]) -> dict[str, Any]:
    """What each engine's step costs at each value, with its power law; and the same of the operations needed."""
    values = [point["size"][dimension] for point in points]
    costs: dict[str, list[float]] = {OPERATIONS: [point["flops"] for point in points]}
    for engine in points[0]["engines"]:
        costs[engine] = [point["engines"][engine]["median"] for point in points]
    laws = {name: {"cost": cost} | power_law(values, cost) for name, cost in costs.items()}
    return {"values": values, "costs": laws, "points": points}


def table(dimension: str, result: dict[str, Any]) -> str:
    """A curve as lines: the cost at each value, and the exponent."""
    width = max(map(len, result["costs"]))
    head = "".join(f"{value:>10}" for value in result["values"])
    lines = [f"{dimension:{width}}{head}    exponent (largest factor off the line)"]
    for name, cost in result["costs"].items():
        unit, scale = ("GFLOP", 1e-9) if name == OPERATIONS else ("ms", 1e3)
        figures = "".join(f"{scale * c:10.4g}" for c in cost["cost"])
        lines.append(f"{name:{width}}{figures}    {cost['exponent']:.2f} ({cost['off']:.2f})  {unit}")
    return "\n".join(lines)


def plot(title: str, curves: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw a step's times against each dimension, with their power laws, on logarithmic axes."""
    from matplotlib.figure import Figure  # takes 0.3 s: only who draws pays for it
    from matplotlib.ticker import NullLocator, StrMethodFormatter

    from minissl.viz.curves import COLOURS, MARKERS

    figure = Figure(figsize=(1 + 4 * len(curves), 4.6), layout="constrained")
    figure.suptitle(title, fontsize=11)
    for ax, (dimension, result) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        x = np.array(result["values"])
        engines = {name: cost for name, cost in result["costs"].items() if name != OPERATIONS}
        for i, (name, cost) in enumerate(engines.items()):
            label = f"{name}: {cost['exponent']:.2f}"
            ax.plot(x, 1e3 * np.array(cost["cost"]), MARKERS[i], color=COLOURS[i], label=label)
            ax.plot(x, 1e3 * cost["factor"] * x ** cost["exponent"], color=COLOURS[i], linewidth=1)
        ax.set(xscale="log", yscale="log", xlabel=dimension, ylabel="ms a step", xticks=x)
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.grid(alpha=0.3)
        law = result["costs"][OPERATIONS]["exponent"]
        ax.legend(title=f"exponents (operations: {law:.2f})", fontsize=8, title_fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main(arguments: list[str]) -> None:
    """Measure, print, and write the JSON file and, if asked, a picture of each step beside it."""
    p = settings.parser("scaling", __doc__, "step", WORKLOADS)
    for name, factors in FACTORS.items():
        usual = ", ".join(f"{f:g}" for f in factors)
        text = f"values of this size; none leaves it out (default: {usual} times the step's own)"
        p.add_argument(f"--{name}", type=settings.positive, nargs="*", metavar="N", help=text)
    settings.add_plan(p, harness.Plan(rounds=5, steps=2, warmup=1))
    p.add_argument("--plot", action="store_true", help="draw a PNG of each step beside the JSON file")
    p.add_argument(
        "--ranks", type=settings.positive, nargs="+", metavar="N", help="numbers of processes, such as 1 2 4"
    )
    options = p.parse_args(arguments)
    if options.ranks:
        ranks.main(options)
        return
    names = settings.chosen(options, "step", WORKLOADS)
    asked = {n: {d: values_of(d, getattr(options, d), WORKLOADS[n].size) for d in FACTORS} for n in names}
    if not any(asked[names[0]].values()):
        raise ValueError("all of --images, --side and --width are left out: there is nothing to measure")
    engines, found = settings.start(options)

    measured: dict[str, Any] = {}
    for name in names:
        workload = WORKLOADS[name]
        suited, points, curves = settings.suited(engines, workload.layout), {}, {}
        print(f"\n{workload.summary}\nusual: {workload.size}")
        for dimension, values in asked[name].items():
            sizes = [replace(workload.size, **{dimension: value}) for value in values]
            for size in sizes:
                if size not in points:  # the usual size is a point of all three
                    result = harness.measure(name, size, suited, settings.plan_of(options), options.keep_blas_pin)
                    points[size] = {"size": asdict(size)} | result
            if sizes:
                curves[dimension] = curve(dimension, [points[size] for size in sizes])
                print(table(dimension, curves[dimension]))
        measured[name] = {"summary": workload.summary, "size": asdict(workload.size), "curves": curves}
    path = settings.save("scaling", options, found, scaling=measured)
    for name in names if options.plot else ():
        picture = path.with_name(f"{path.stem}_{name}.png")
        plot(WORKLOADS[name].summary, measured[name]["curves"], picture)
        print(f"Picture: {picture}")
