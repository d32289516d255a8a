"""The league's figures: of each run, as a table of means and deviations, and what few labels can do, as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minissl.viz.curves import COLOURS, MARKERS
from reference.transfer import SUFFIXES, TARGETS, percent

if TYPE_CHECKING:
    from reference.league import Entry, League

PIXELS = "raw pixels, 16x16"  # the row of what needs no network
Played = Sequence[tuple["Entry", dict[str, Any]]]
Rows = dict[str, list[dict[str, float]]]  # by title: of every run its figures by column


def publish(league: "League", played: Played, folder: Path, repeats: str = "seeds") -> None:
    """Print the table, and leave it in `folder` as table.md; few labels also as labels.png."""
    text = table(league, played, repeats)
    print(text)
    if folder.is_dir():
        (folder / "table.md").write_text(text + "\n")
        if played and len(league.labels or ()) > 2:
            draw_labels(league, rows(league, played), folder / "labels.png")


def table(league: "League", played: Played, repeats: str = "seeds") -> str:
    """In Markdown: a row per encoder, mean ± deviation over what was repeated (seeds, places), in per cent."""
    found = rows(league, played)
    columns = list(dict.fromkeys(column for runs in found.values() for run in runs for column in run))
    lines = [f"| encoder | {repeats} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for title, runs in found.items():
        cells = (spread([run[column] for run in runs if column in run]) for column in columns)
        lines.append(f"| {title} | {len(runs)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def rows(league: "League", played: Played) -> Rows:
    """Figures of all encoders, each chapter's own and the untrained and supervised ones that runs give."""
    with_baselines = [entry.baselines for entry in league.entries if entry.baselines]
    titles = [PIXELS, *(random for random, _ in with_baselines), *(entry.title for entry in league.entries)]
    titles += [supervised for _, supervised in with_baselines]
    found: Rows = {title: [] for title in titles}
    for entry, results in played:
        found[entry.title].append(figures(league, results, "trained" if entry.knows_labels else "pretrained"))
        others = dict(zip(("random", "supervised"), entry.baselines or (), strict=False))
        if entry.baselines and entry.baselines == with_baselines[0]:
            others["pixels"] = PIXELS
        for origin, title in others.items():
            found[title].append(figures(league, results, origin))
    return {title: runs for title, runs in found.items() if runs}


def figures(league: "League", results: dict[str, Any], origin: str) -> dict[str, float]:
    """The league's columns from what one run found, for one of its encoders."""
    probes = results.get("probes", {})
    parts = list(map(percent, league.labels or ()))
    suffixes = [SUFFIXES[TARGETS[score]] for score in league.scores or ()]
    columns: dict[str, dict[str, float]] = {}
    for suffix in suffixes:
        if len(parts) > 1:
            for part in parts:
                name = f"linear, {part}{suffix}".replace(", 100%", "")
                columns[f"linear probe, {part}{suffix}"] = probes.get(name, {})
        else:
            columns[f"linear probe{suffix}"] = probes.get(f"linear{suffix}", {})
    if len(parts) < 2:
        columns["kNN"] = probes.get("knn", {})
    if "layers" in results:
        columns["best layer"] = results["layers"]["best"]
    for suffix in suffixes:
        for part in parts:
            name = f"fine-tuned, {part} of labels{suffix}"
            columns[name] = results.get("fine_tuning", {}).get(part + suffix, {})
    for part in map(percent, league.segment or ()):
        columns[f"segmentation mIoU, {part} of masks"] = (
            results.get("segmentation", {}).get(part, {}).get("mean IoU", {})
        )
    return {column: values[origin] for column, values in columns.items() if origin in values}


def spread(values: list[float]) -> str:
    """Mean ± deviation (of the sample, over seeds), in per cent."""
    if not values:
        return ""
    mean = f"{100 * np.mean(values):.1f}"
    return f"{mean} ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else mean


def draw_labels(league: "League", found: Rows, path: Path) -> None:
    """Of each encoder the score against the part of the labels: pre-trained, and fully supervised from random weights.

    A point is the mean, and the band about it a deviation on either side. The dotted line has all labels and no
    pre-training: where the pre-trained curve crosses it, the rest of the labels was not needed.
    """
    from matplotlib.figure import Figure

    score = (league.scores or ("accuracy",))[0]
    suffix, parts = SUFFIXES[TARGETS[score]], sorted(league.labels or ())
    baselines = next((entry.baselines for entry in league.entries if entry.baselines), ("", ""))
    panels = [entry for entry in league.entries if entry.title in found]
    figure = Figure(figsize=(3.2 * len(panels) + 0.6, 4.4), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for entry, ax in zip(panels, axes, strict=True):
        random = (entry.baselines or baselines)[0]
        lines = {
            "pre-trained, fine-tuned": (entry.title, "fine-tuned, {} of labels" + suffix),
            "pre-trained, linear probe": (entry.title, "linear probe, {}" + suffix),
            "random weights, fully supervised": (random, "fine-tuned, {} of labels" + suffix),
        }
        for k, (label, (title, column)) in enumerate(lines.items()):
            runs = [[run.get(column.format(percent(part)), np.nan) for part in parts] for run in found.get(title, [])]
            scores = 100 * np.array(runs or [[np.nan] * len(parts)])  # (runs, parts)
            mean, deviation = scores.mean(axis=0), scores.std(axis=0, ddof=int(len(scores) > 1))
            x = 100 * np.array(parts)
            ax.plot(x, mean, color=COLOURS[k], marker=MARKERS[k], markersize=4, label=label)
            ax.fill_between(x, mean - deviation, mean + deviation, color=COLOURS[k], alpha=0.2, linewidth=0)
        if parts[-1] == 1:
            ax.axhline(mean[-1], color="0.35", linestyle=":", label="random weights, all labels")
        ax.set(title=entry.title, xscale="log", xlabel="labels, %")
        ax.set_xticks(x, [f"{part:g}" for part in x])
        ax.minorticks_off()
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel({"accuracy": "test accuracy, %", "mAP": "mean average precision, %"}[score])
    count = max(len(found[entry.title]) for entry in panels)
    figure.suptitle(f"What few labels can do: mean ± deviation of {count} runs")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=120)
