"""Pictures for readers: image grids (Pillow), and curves and embeddings (matplotlib, imported when first drawn)."""

from minissl.viz.curves import curves
from minissl.viz.embedding import embedding_maps, embedding_plot, project
from minissl.viz.images import GREY, RIGHT, WRONG, framed, image_grid
from minissl.viz.similarity import similarity_table

__all__ = [
    "GREY",
    "RIGHT",
    "WRONG",
    "curves",
    "embedding_maps",
    "embedding_plot",
    "framed",
    "image_grid",
    "project",
    "similarity_table",
]
