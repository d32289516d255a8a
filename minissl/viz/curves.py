"""Series over time, such as the loss of each epoch, drawn by matplotlib."""

import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["curves"]

# Petroff (2021), arXiv:2107.02270: ten colours that stay distinct with colour-vision deficiency. Markers tell them
# apart without colour; ten and seven share no divisor, so the first seventy pairs differ.
COLOURS = ("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd")
MARKERS = "os^DvPX"
APART = 10.0  # series whose typical sizes differ by more than this factor get a panel of their own


def curves(
    history: Mapping[str, Sequence[float | None]],
    path: str | os.PathLike[str],
    title: str,
    x: str = "epoch",
    x_values: Sequence[float] | None = None,
    units: Mapping[str, str] | None = None,
    references: Mapping[str, float] | None = None,
    x_names: Sequence[str] | None = None,
) -> None:
    """Draw every series of `history` against `x` into the image file `path`.

    A series has one value per x: 1, 2, 3, ... or `x_values`. None means not measured there (the line runs on); NaN and
    infinity break the line. `units` names the unit of a series ("%", "ms"). Series that differ in unit, or in size by
    more than tenfold, get panels of their own, one below the other. `references` are level lines, such as the loss at
    which everything has collapsed, in the panel of the first series. `x_names` stand below the first, second, ... x.

    Raises ValueError when there is nothing to draw, a series and `x_values` differ in length, or a unit has no series.
    """
    from matplotlib.figure import Figure  # takes 0.3 s: only who draws pays for it
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    units, references = units or {}, references or {}
    series = {name: np.array([np.nan if v is None else v for v in values], float) for name, values in history.items()}
    if not any(np.isfinite(values).any() for values in series.values()):
        raise ValueError(f"curves: there is no finite value to draw in {sorted(history)}")
    if unknown := sorted(set(units) - set(series)):
        raise ValueError(f"curves: units are given for {unknown}, but the series are {sorted(series)}")
    if x_values is not None:
        lengths = {name: len(values) for name, values in history.items() if len(values) != len(x_values)}
        if lengths:
            raise ValueError(f"curves: expected {len(x_values)} values, one per x value, got {lengths}")

    panels = _panels(series, units)
    labels = {name: textwrap.fill(name, 26) for name in series}
    levels = [f"{textwrap.fill(name, 26)} = {level:.3g}" for name, level in references.items()]
    heading = textwrap.fill(title, 70)
    # Inches: a panel is as high as its legend needs.
    legends = [[labels[name] for name in names] + levels * (names is panels[0]) for names in panels]
    heights = [max(2.8, 0.6 + 0.2 * len("\n".join(texts).splitlines())) for texts in legends]
    figure = Figure(
        figsize=(8, 0.9 + 0.25 * len(heading.splitlines()) + sum(heights)),
        layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1),
    )
    figure.suptitle(heading, fontsize=13)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    order = list(series)
    for names, ax in zip(panels, axes, strict=True):
        for name in names:
            positions = np.asarray(x_values if x_values is not None else range(1, len(series[name]) + 1))
            measured = np.array([value is not None for value in history[name]], bool)
            _line(ax, positions[measured], series[name][measured], labels[name], order.index(name))
        if ax is axes[0]:
            for k, level in enumerate(references.values()):
                ax.axhline(level, color="0.35", linestyle=("--", ":", "-.")[k % 3], label=levels[k])
        unit, alone = units.get(names[0], ""), labels[names[0]]
        ax.set_ylabel(unit if len(names) > 1 else f"{alone} ({unit})" if unit else alone)
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
        if len(ax.lines) > 1:  # beside the panel, where it hides no data
            ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    axes[-1].set_xlabel(x)
    if x_names is not None:
        places = range(1, len(x_names) + 1) if x_values is None else x_values
        axes[-1].set_xticks(places, x_names, rotation=90 if len(x_names) > 8 else 0)
    elif x_values is None:
        longest = max(len(values) for values in series.values())
        axes[-1].set_xlim(1 - max(0.5, longest / 50), longest + max(0.5, longest / 50))
        axes[-1].xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    figure.savefig(path, dpi=120)


def _line(ax: Any, positions: np.ndarray, values: np.ndarray, label: str, number: int) -> None:
    # Markers where points are few, and always where a line of one point would be invisible.
    few = len(values) <= 40 or np.isfinite(values).sum() < 2
    ax.plot(
        positions,
        np.where(np.isfinite(values), values, np.nan),
        color=COLOURS[number % len(COLOURS)],
        marker=MARKERS[number % len(MARKERS)] if few else None,
        markersize=4,
        label=label,
    )


def _panels(series: Mapping[str, np.ndarray], units: Mapping[str, str]) -> list[list[str]]:
    """Names of the series in each panel, in order of appearance: one unit, and sizes within a factor `APART`."""
    panels: list[tuple[str, float, list[str]]] = []
    for name, values in series.items():
        size = float(np.median(np.abs(values[np.isfinite(values)]))) if np.isfinite(values).any() else 0.0
        for unit, other, names in panels:
            if unit == units.get(name, "") and max(size, other) <= APART * min(size, other):
                names.append(name)
                break
        else:
            panels.append((units.get(name, ""), size, [name]))
    return [names for _, _, names in panels]
