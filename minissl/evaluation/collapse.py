"""Have embeddings collapsed? What a loss does not tell: BYOL's is least when every image has the same embedding."""

from typing import Any

from minissl import backend, ops

ROWS = 512  # at most so many embeddings are compared with each other


def spread(z1: Any, z2: Any) -> dict[str, float]:
    """How embeddings z1, z2 (N, D) of two views lie on the unit sphere (rows are brought to unit length first):

    std         deviation of a coordinate over the images, times √D, mean over D: 1 when spread evenly, 0 collapsed
    cosine      mean of ẑ_i·ẑ_j over different images: 0 when spread evenly, 1 collapsed
    alignment   mean of ‖ẑ1 − ẑ2‖² over the pairs: 0 when the views of an image agree
    uniformity  log of the mean of e^{−2‖ẑ_i − ẑ_j‖²} over different images: 0 collapsed, about −4 spread evenly

    All but alignment look at z1, at its first 512 rows. One copy to the host. Raises ValueError for shapes that differ
    or fewer than two rows.

    (Wang and Isola, 2020, "Understanding Contrastive Representation Learning through Alignment and Uniformity on the
    Hypersphere")
    """
    z1, z2 = z1[:ROWS], z2[:ROWS]
    if z1.ndim != 2 or z1.shape != z2.shape or len(z1) < 2:
        raise ValueError(f"spread: expected embeddings of two views, (N, D), N at least 2, got {z1.shape}, {z2.shape}")
    home = backend.of(z1)
    xp, (N, D) = home.xp, z1.shape
    a, b = ops.l2_normalize(z1).data, ops.l2_normalize(z2).data
    S = a @ a.T  # (N, N)
    over_others = lambda values: (values.sum() - xp.trace(values)) / (N * (N - 1))
    figures = {
        "std": a.std(axis=0).mean() * D**0.5,
        "cosine": over_others(S),
        "alignment": ((a - b) ** 2).sum(axis=1).mean(),
        "uniformity": xp.log(over_others(xp.exp(4 * S - 4))),  # ‖a − b‖² = 2 − 2 a·b
    }
    return dict(zip(figures, home.to_host(xp.stack(list(figures.values()))).tolist(), strict=True))
