"""Pictures for readers: image grids (Pillow), and curves and embeddings (matplotlib, imported when first drawn)."""

from minissl.viz.curves import curves
from minissl.viz.embedding import embedding_plot, project
from minissl.viz.images import image_grid

__all__ = ["curves", "embedding_plot", "image_grid", "project"]
