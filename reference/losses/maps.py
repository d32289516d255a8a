"""Maps of a loss over the plane: its value as colour, the force on the moving point as arrows."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from minissl.viz.curves import COLOURS
from reference.losses import forces
from reference.losses.forces import OfPoint

ARROWS = 15  # along a side
POINTS = {"anchor": ("*", 230), "positive": ("o", 80), "negative": ("X", 90), "target": ("o", 80)}
INK = {"anchor": "black", "positive": "#1a7f37", "negative": COLOURS[2], "target": "#1a7f37"}


def sheet(title: str, width: float, height: float) -> Figure:
    """A page in inches with a title."""
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
    figure.suptitle(title, fontsize=13)
    return figure


def loss_map(ax: Any, loss: OfPoint, title: str, grid: int, reach: float = 1.6, least: float = 0.0) -> None:
    """Colour: `loss` with the moving point there. Arrows: the force on it, nearer than `least` to the origin none."""
    side = np.linspace(-reach, reach, grid)
    x, y = np.meshgrid(side, side)  # (grid, grid)
    values, _ = forces.value_and_force(loss, np.stack([x.ravel(), y.ravel()], 1))
    filled = ax.contourf(x, y, values.reshape(grid, grid), 12, cmap="YlGnBu", alpha=0.8)
    ax.figure.colorbar(filled, ax=ax, label="loss", shrink=0.8)

    cell = 2 * reach / ARROWS
    side = np.linspace(-reach + cell / 2, reach - cell / 2, ARROWS)
    at = np.stack([axis.ravel() for axis in np.meshgrid(side, side)], 1)  # (ARROWS², 2)
    at = at[np.hypot(*at.T) >= least]
    _, force = forces.value_and_force(loss, at)
    length = np.hypot(*force.T)
    longest = length.max()
    pushed = length > 1e-3 * longest
    # A dot stands where nothing pulls; the longest arrow is a little longer than its cell.
    ax.plot(*at[~pushed].T, ".", color="0.45", markersize=2.5)
    ax.quiver(*at[pushed].T, *force[pushed].T, angles="xy", scale_units="xy", scale=longest / (1.3 * cell), width=0.005)
    ax.set(title=f"{title}\nlongest arrow: force {longest:.2g}", xlim=(-reach, reach), ylim=(-reach, reach))
    ax.set(xlabel="first coordinate", ylabel="second coordinate", aspect="equal")
    ax.title.set_fontsize(10)


def mark(ax: Any, kind: str, points: np.ndarray) -> None:
    marker, size = POINTS[kind]
    ax.scatter(*points.T, marker=marker, s=size, color=INK[kind], edgecolor="white", zorder=5, label=f"{kind} (fixed)")


def circle(ax: Any, radius: float, label: str, style: str = "--", colour: str = "black") -> None:
    ax.plot(*radius * forces.on_circle(np.arange(361)).T, style, color=colour, linewidth=1.4, label=label)


def legend(ax: Any, columns: int = 2) -> None:
    """Below the axes, where it hides no arrow."""
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), fontsize=8, ncols=columns, frameon=False)


def plot_lines(ax: Any, x: np.ndarray, lines: dict[str, np.ndarray], xlabel: str, ylabel: str) -> None:
    for k, (label, y) in enumerate(lines.items()):
        ax.plot(x, y, color=COLOURS[k], linestyle=("-", "--", "-.", ":")[k % 4], linewidth=2, label=label)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)


def contrastive(out: Path, grid: int) -> None:
    """A positive pair, a negative one under both hinges, and all three along a ray from the anchor."""
    cases = {
        "positive pair: d²": forces.positive_pair,
        "negative pair, the slide: max(0, ε − d²)": forces.negative_pair,
        "negative pair, Hadsell 2006: max(0, ε − d)²": forces.negative_pair_hadsell,
    }
    figure = sheet("contrastive, ε = 1: the anchor is fixed, the other point moves", 15, 9.6)
    layout = figure.add_gridspec(2, 6)
    for k, (title, loss) in enumerate(cases.items()):
        ax = figure.add_subplot(layout[0, 2 * k : 2 * k + 2])
        loss_map(ax, loss, title, grid)
        mark(ax, "anchor", forces.ANCHOR)
        if k:
            circle(ax, forces.MARGIN, "margin: no force outside")
        legend(ax)

    d = np.linspace(0, 1.5, 301)
    along = [forces.value_and_force(loss, np.stack([d, 0 * d], 1)) for loss in cases.values()]
    value_axis, force_axis = figure.add_subplot(layout[1, :3]), figure.add_subplot(layout[1, 3:])
    plot_lines(
        value_axis, d, {name: value for name, (value, _) in zip(cases, along, strict=True)}, "distance d", "loss"
    )
    away = {name: force[:, 0] for name, (_, force) in zip(cases, along, strict=True)}
    plot_lines(force_axis, d[1:], {name: f[1:] for name, f in away.items()}, "distance d", "force away from the anchor")
    force_axis.axhline(0, color="0.4", linewidth=1)
    force_axis.set_ylim(-3.2, 3.2)
    for ax in (value_axis, force_axis):
        ax.axvline(1, color="black", linestyle="--", linewidth=1)
    value_axis.legend(fontsize=9)
    value_axis.set_title("value", fontsize=10)
    force_axis.set_title("force: above 0 it pushes away, below 0 it pulls", fontsize=10)
    notes = {
        "the slide's dead zone: at d = 0 no force,\nso a collapsed pair stays collapsed": ((0, 0), (0.02, -2.7)),
        "Hadsell pushes hardest at d = 0": ((0.01, 2), (0.15, 2.6)),
        "the slide's force jumps to 0\nat the margin": ((1, 1.9), (1.08, 2.2)),
    }
    for text, (point, place) in notes.items():
        force_axis.annotate(text, point, place, fontsize=9, arrowprops={"arrowstyle": "->"})
    figure.savefig(out / "contrastive.png", dpi=100)


def triplet(out: Path, grid: int) -> None:
    """The negative moves, then the positive."""
    figure = sheet("triplet, max(0, d²(a, p) − d²(a, n) + ε) with ε = 1: one of three points moves", 12.5, 7.2)
    left, right = figure.subplots(1, 2)
    loss_map(left, forces.triplet_negative, "the negative moves: pushed away,\nbut hardly where it is nearest", grid)
    d2 = float((forces.POSITIVE**2).sum())
    mark(left, "anchor", forces.ANCHOR)
    mark(left, "positive", forces.POSITIVE)
    circle(left, d2**0.5, "d(a, n) = d(a, p): inside are hard negatives", ":")
    circle(left, (d2 + forces.MARGIN) ** 0.5, "d² = d²(a, p) + ε: semi-hard inside, no loss outside")
    loss_map(
        right,
        forces.triplet_positive,
        "the positive moves: pulled to the anchor\nuntil it is nearer than the negative by the margin",
        grid,
    )
    mark(right, "anchor", forces.ANCHOR)
    mark(right, "negative", forces.NEGATIVE)
    circle(right, (float((forces.NEGATIVE**2).sum()) - forces.MARGIN) ** 0.5, "d² = d²(a, n) − ε: no loss inside")
    for ax in (left, right):
        legend(ax, columns=1)
    figure.savefig(out / "triplet.png", dpi=100)


def many_negatives(out: Path, grid: int) -> None:
    """The anchor moves among a positive and three negatives, under three losses."""
    cases = {
        "triplet, summed over the negatives: each adds\n2(p − n) or, where it is far, nothing": forces.triplets,
        "lifted_structured: a soft maximum,\nso the nearest negative pushes most": forces.lifted_structured,
        "n_pair: dot products, no margin:\nthe longer the anchor, the smaller the loss": forces.n_pair,
    }
    figure = sheet("one positive, three negatives, three losses: the anchor moves (margin ε = 1)", 16.5, 6.2)
    for ax, (title, loss) in zip(figure.subplots(1, 3), cases.items(), strict=True):
        loss_map(ax, loss, title, grid)
        mark(ax, "positive", forces.PARTNER)
        mark(ax, "negative", forces.NEGATIVES)
        legend(ax)
    figure.savefig(out / "many_negatives.png", dpi=100)


def circle_losses(out: Path, grid: int) -> None:
    """Losses of unit vectors: only the direction counts, so the force is tangential."""
    cases: dict[str, OfPoint] = {
        "byol: one target, no negatives": forces.byol,
        "nt_xent, τ = 0.5": partial(forces.nt_xent, temperature=0.5),
        "nt_xent, τ = 0.1": partial(forces.nt_xent, temperature=0.1),
    }
    figure = sheet(
        "losses of unit vectors: the force only turns the point, and is the weaker the longer the row", 16.5, 10
    )
    layout = figure.add_gridspec(2, 6)
    for k, (title, loss) in enumerate(cases.items()):
        ax = figure.add_subplot(layout[0, 2 * k : 2 * k + 2])
        # The force grows as 1/length towards the origin, where there is no direction.
        loss_map(ax, loss, title, grid, least=0.45)
        circle(ax, 1, "unit circle", "-", "0.3")
        mark(ax, "target", forces.on_circle(forces.TARGET))
        if k:
            mark(ax, "negative", forces.on_circle(forces.OTHERS))
        legend(ax)

    degrees = np.linspace(-180, 180, 361)
    ring, angle = forces.on_circle(degrees), np.radians(degrees)
    tangent = np.stack([-np.sin(angle), np.cos(angle)], 1)
    along = {name: forces.value_and_force(loss, ring) for name, loss in cases.items()}
    value_axis, force_axis = figure.add_subplot(layout[1, :3]), figure.add_subplot(layout[1, 3:])
    values = {name: value for name, (value, _) in along.items()}
    turns = {name: (force * tangent).sum(1) for name, (_, force) in along.items()}
    plot_lines(value_axis, degrees, values, "angle from the target (degrees)", "loss")
    plot_lines(force_axis, degrees, turns, "angle from the target (degrees)", "force along the circle")
    value_axis.set_title("value on the unit circle", fontsize=10)
    force_axis.set_title("force on the unit circle: above 0 it turns towards larger angles", fontsize=10)
    force_axis.axhline(0, color="0.4", linewidth=1)
    for ax in (value_axis, force_axis):
        ax.set_xticks(range(-180, 181, 60))
        for k, other in enumerate(forces.OTHERS):
            direction = (other + 180) % 360 - 180
            ax.axvline(direction, color=COLOURS[2], linestyle=":", linewidth=1, label=None if k else "a negative")
        ax.legend(fontsize=9)
    figure.savefig(out / "circle.png", dpi=100)


PICTURES = (contrastive, triplet, many_negatives, circle_losses)
