"""A table of cosines between images: who is near whom."""

import os
import textwrap

import numpy as np

__all__ = ["similarity_table"]


def similarity_table(
    rows: np.ndarray, columns: np.ndarray, cosines: np.ndarray, path: str | os.PathLike[str], title: str
) -> None:
    """Draw `cosines` (R, K), coloured and in numbers, between images `rows` (R, H, W, C) and `columns` (K, H, W, C).

    C is 1 or 3, values from 0 to 1. The diagonal, where a picture of pairs has its positives, is framed.
    Raises ValueError for shapes that do not fit.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    R, K = len(rows), len(columns)
    if cosines.shape != (R, K) or not cosines.size:
        raise ValueError(f"similarity_table: expected cosines ({R}, {K}), at least 1 x 1, got {cosines.shape}")
    figure = Figure(figsize=(0.85 * K + 2.4, 0.85 * R + 2.0), layout="constrained")
    grid = figure.subplots(R + 1, K + 1, squeeze=False, gridspec_kw={"wspace": 0.02, "hspace": 0.02})
    for ax in grid.flat:
        ax.axis("off")
    rgb = lambda image: np.broadcast_to(np.clip(image, 0, 1), (*image.shape[:2], 3))
    for i, image in enumerate(rows):
        grid[i + 1, 0].imshow(rgb(image), interpolation="nearest")
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
