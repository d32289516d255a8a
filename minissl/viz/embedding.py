"""Embeddings seen from the direction in which they vary most."""

import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minissl.viz.curves import COLOURS, MARKERS

__all__ = ["embedding_maps", "embedding_plot", "project"]


def project(z: np.ndarray) -> np.ndarray:
    """The first two principal components of embeddings `z`, (N, D) to (N, 2), in float64.

    Each axis points to where its largest loading is positive, so that the same embeddings give the same picture.
    Raises ValueError for another shape, fewer than two rows or columns, and values that are not finite.
    """
    return _principal(z)[0]


def _principal(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`project(z)`, (N, 2), and the fraction of the variance that each of the two explains, (2,)."""
    z = np.asarray(z, dtype=np.float64)
    if z.ndim != 2 or min(z.shape) < 2:
        raise ValueError(f"project: expected embeddings (N, D) with N and D at least 2, got {z.shape}")
    if not np.isfinite(z).all():
        bad = np.flatnonzero(~np.isfinite(z).all(1))
        raise ValueError(f"project: {len(bad)} of {len(z)} embeddings hold NaN or infinity, the first in row {bad[0]}")
    centred = z - z.mean(0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)  # axes (min(N, D), D)
    axes = axes[:2]
    loadings = np.take_along_axis(axes, np.abs(axes).argmax(1, keepdims=True), 1)
    axes = np.where(loadings < 0, -axes, axes)
    variance = singular**2
    total = variance.sum()
    # A collapsed encoder has no variance, and then nothing explains any of it.
    return centred @ axes.T, variance[:2] / total if total > 0 else np.zeros(2)


def embedding_plot(
    z: np.ndarray, labels: np.ndarray, classes: Sequence[str], path: str | os.PathLike[str], title: str
) -> None:
    """Draw embeddings `z` (N, D), projected, into the image file `path`: one colour and marker per class.

    `labels` (N,) are integers that index `classes`, the names in the legend.
    Raises ValueError as `project` does, and for labels of another length or outside `classes`.
    """
    from matplotlib.figure import Figure  # takes 0.3 s: only who draws pays for it
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    points, explained = _principal(z)
    labels = _checked("embedding_plot", labels, len(points), classes)
    names = [textwrap.fill(name, 24) for name in classes]
    columns = math.ceil(len("\n".join(names).splitlines()) / 22)
    figure = Figure(figsize=(6.1 + 2.5 * columns, 6), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    ax = figure.subplots()
    _scatter(ax, points, labels, names)
    ax.set_title(textwrap.fill(title, 60))
    ax.set_xlabel(f"first principal component ({explained[0]:.0%} of the variance)")
    ax.set_ylabel(f"second principal component ({explained[1]:.0%} of the variance)")
    ax.set_aspect("equal", adjustable="datalim")  # distances are what the picture shows
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", ncols=columns, frameon=False, markerscale=1.5)
    figure.savefig(path, dpi=120)


def embedding_maps(
    features: Mapping[str, np.ndarray],
    labels: np.ndarray,
    classes: Sequence[str],
    path: str | os.PathLike[str],
    title: str,
) -> None:
    """Draw several embeddings of the same n rows, each (n, D) projected by itself, side by side: titles are the keys.

    Raises ValueError as `embedding_plot` does.
    """
    from matplotlib.figure import Figure

    columns = min(4, len(features))
    rows = math.ceil(len(features) / columns)
    names = [textwrap.fill(name, 24) for name in classes]
    figure = Figure(figsize=(3.2 * columns + 2.5, 3.2 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for ax, (name, z) in zip(grid.flat, features.items(), strict=False):
        points, explained = _principal(z)
        _scatter(ax, points, _checked("embedding_maps", labels, len(points), classes), names)
        ax.set_title(f"{name} ({explained.sum():.0%} of the variance)", fontsize=10)
        ax.set_aspect("equal", adjustable="datalim")
    for ax in grid.flat:
        ax.set(xticks=[], yticks=[])
    for ax in grid.flat[len(features) :]:
        ax.axis("off")
    handles, texts = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside right upper", frameon=False, markerscale=1.5)
    figure.suptitle(f"{title}, each on its first two principal components")
    figure.savefig(path, dpi=110)


def _checked(name: str, labels: np.ndarray, count: int, classes: Sequence[str]) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != (count,):
        raise ValueError(f"{name}: expected {count} labels, one per embedding, got shape {labels.shape}")
    known = np.arange(len(classes))
    if not np.isin(labels, known).all():
        raise ValueError(f"{name}: expected labels from 0 to {len(classes) - 1}, got {np.setdiff1d(labels, known)}")
    return labels


def _scatter(ax: Any, points: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> None:
    """Points (n, 2), one colour and marker per class."""
    for k, name in enumerate(names):
        ax.scatter(
            points[labels == k, 0],
            points[labels == k, 1],
            s=float(np.clip(8000 / len(points), 8, 40)),
            c=COLOURS[k % len(COLOURS)],
            marker=MARKERS[k % len(MARKERS)],
            alpha=0.75,
            linewidths=0,
            label=name,
        )
