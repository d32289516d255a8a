"""Losses that pick the positive out of a set of candidates: −log of its share in a softmax over similarities."""

from typing import Any

from minissl import backend, ops
from minissl.losses.rows import cosine_similarity, embeddings, pick, positive_temperature, without_self
from minissl.tensor import Tensor


def nt_xent(z1: Any, z2: Any, temperature: float = 0.5) -> Tensor:
    """The normalized, temperature-scaled cross entropy of SimCLR.

    −log e^{sim(i,j)/τ} / Σ_{k≠i} e^{sim(i,k)/τ}, mean over the 2N ordered pairs (i, j) of views of one image.
    sim is the cosine: scaling a row changes nothing.

    z1, z2: embeddings (N, D), row n of both from the same image. A row has 2N − 1 candidates: its positive and the
    2N − 2 views of the other images (the slide's text says N − 1 negatives, its formula has 2N − 2); itself is out.
    A small τ gives the nearest negatives the largest share of the gradient. When all embeddings are equal the loss is
    log(2N − 1). Raises ValueError for shapes that differ, fewer than two images or τ ≤ 0.

    (Chen et al., 2020, "A Simple Framework for Contrastive Learning of Visual Representations")
    """
    z1, z2 = embeddings("nt_xent", z1, z2, least=2)
    similarity = cosine_similarity(ops.concatenate([z1, z2]))  # (2N, 2N)
    logits = without_self(similarity / positive_temperature("nt_xent", temperature))
    N, xp = len(z1), backend.of(z1.data).xp
    partner = (xp.arange(2 * N) + N) % (2 * N)  # row i's positive is the other view of its image
    return -pick(ops.log_softmax(logits), partner).mean()
