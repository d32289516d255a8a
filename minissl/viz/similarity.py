"""A table of cosines between images, or between captions and images: who is near whom."""

import os
import textwrap
from collections.abc import Sequence

import numpy as np

__all__ = ["similarity_table"]


def similarity_table(
    rows: np.ndarray | Sequence[str],
    columns: np.ndarray,
    cosines: np.ndarray,
    path: str | os.PathLike[str],
    title: str,
) -> None:
    """Draw `cosines` (R, K), coloured and in numbers, between `rows` and images `columns` (K, H, W, C).

    rows: images (R, H, W, C), or R captions. C is 1 or 3, values from 0 to 1. The diagonal, where a picture of pairs
    has its positives, is framed. Raises ValueError for shapes that do not fit.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    R, K = len(rows), len(columns)
    if cosines.shape != (R, K) or not cosines.size:
        raise ValueError(f"similarity_table: expected cosines ({R}, {K}), at least 1 x 1, got {cosines.shape}")
    captions = isinstance(rows[0], str)
    first = 5 if captions else 1  # width of the column of rows, in cells
    figure = Figure(figsize=(0.85 * (K + first) + 1.5, 0.85 * R + 2.0), layout="constrained")
    space = {"wspace": 0.02, "hspace": 0.02, "width_ratios": [first] + [1] * K}
    grid = figure.subplots(R + 1, K + 1, squeeze=False, gridspec_kw=space)
    for ax in grid.flat:
        ax.axis("off")
    rgb = lambda image: np.broadcast_to(np.clip(image, 0, 1), (*image.shape[:2], 3))
    for i, row in enumerate(rows):
        if captions:
            grid[i + 1, 0].text(1, 0.5, textwrap.fill(str(row), 40), ha="right", va="center")
        else:
            grid[i + 1, 0].imshow(rgb(row), interpolation="nearest")
    for j, image in enumerate(columns):
        grid[0, j + 1].imshow(rgb(image), interpolation="nearest")
    for (i, j), cosine in np.ndenumerate(cosines):
        ax = grid[i + 1, j + 1]
        shown = ax.imshow([[cosine]], cmap="RdBu_r", vmin=-1, vmax=1)
        ax.text(0, 0, f"{cosine:.2f}", ha="center", va="center", color="white" if abs(cosine) > 0.6 else "black")
        if i == j:
            frame = Rectangle((0, 0), 1, 1, transform=ax.transAxes, fill=False, linewidth=3, clip_on=False)
            ax.add_patch(frame)
    figure.colorbar(shown, ax=grid, label="cosine", shrink=0.7)
    figure.suptitle(textwrap.fill(title, int(12 * K + 20)))
    figure.savefig(path, dpi=110)
