"""Losses of two towers, sensors or views of one place, each of which has to find the other in the batch."""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from minissl import ops
from minissl.losses.rows import cosine_similarity, embeddings, matched, positive_temperature
from minissl.losses.softmax import nt_xent
from minissl.ops.checks import floating
from minissl.tensor import Tensor


def clip(a: Any, b: Any, logit_scale: Any) -> Tensor:
    """(CE(S) + CE(Sᵀ))/2 with S = s·âb̂ᵀ: a_i has to find b_i among all b, and b_i to find a_i among all a.

    a, b: embeddings (N, D) of the two towers, row n of both from one pair; their lengths do not matter. logit_scale:
    s = 1/τ, a number or a tensor of one element; `capped_scale` makes it of a learned parameter.
    Raises ValueError for shapes that differ, fewer than two pairs or a scale that is not above 0.

    (Radford et al., 2021, "Learning Transferable Visual Models From Natural Language Supervision")
    """
    a, b = embeddings("clip", a, b, least=2)
    value = logit_scale.item() if isinstance(logit_scale, Tensor) else logit_scale
    if not 0 < value < math.inf:
        raise ValueError(f"clip: expected a finite logit_scale above 0, got {value}; is it exp of the parameter?")
    return _both_ways(logit_scale * cosine_similarity(a, b)) / 2


def capped_scale(parameter: Any, largest: float = 100.0) -> Tensor:
    """s = min(e^t, largest) of a learned parameter t: CLIP's logit scale, which starts at t = ln(1/0.07).

    Above the cap t receives no gradient and stays where it is. CLIP sets t back to ln(largest) after each step instead:
    do that too if the scale is to fall again.
    """
    return ops.exp(ops.minimum(floating("capped_scale", parameter), math.log(largest)))


def cmc(views: Sequence[Any], temperature: float = 0.07, graph: str = "full") -> Tensor:
    """Σ over pairs of views (u, v) of CE(S) + CE(Sᵀ) with S = ûv̂ᵀ/τ: both directions added, not averaged.

    views: two or more embeddings (N, D), such as of L and ab or of visible and infrared bands; row n of all from one
    scene. Their lengths do not matter. graph "full": every pair; "core": view 0 with each other. Two views cost twice
    their `clip`. CMC itself draws its negatives from a memory bank; here they are the other scenes of the batch.
    Raises ValueError for fewer than two views or scenes, shapes that differ, τ ≤ 0 or an unknown graph.

    (Tian et al., 2020, "Contrastive Multiview Coding")
    """
    if graph not in ("full", "core"):
        raise ValueError(f"cmc: expected graph 'full' or 'core', got {graph!r}")
    if len(views) < 2:
        raise ValueError(f"cmc: expected at least two views, got {len(views)}")
    tau = positive_temperature("cmc", temperature)
    unit = [ops.l2_normalize(view) for view in embeddings("cmc", *views, least=2)]
    pairs = [(u, v) for u, v in combinations(unit, 2) if graph == "full" or u is unit[0]]
    terms = [_both_ways(u @ v.transpose() / tau) for u, v in pairs]
    return ops.stack(terms).sum()


def cross_sensor(z1: Any, z2: Any, temperature: float = 0.5, same_sensor_negatives: bool = True) -> Tensor:
    """−log e^{sim(R_i,R_j)/τ} / Σ_{k≠i} e^{sim(R_i,R_k)/τ}, mean over the 2N ordered pairs of sensors at one place.

    z1, z2: projections (N, D) of Sentinel-1 and Sentinel-2, row n of both from one place. The slide leaves R_i
    undefined; it is the projection, so this is `nt_xent` with a sensor for each view. Its sum over all k ≠ i includes
    the other places under the anchor's own sensor, which it tells apart more easily than it matches sensors.
    same_sensor_negatives=False leaves those out of the sum: the `clip` loss at scale 1/τ.
    Raises ValueError for shapes that differ, fewer than two places or τ ≤ 0.

    (Scheibenreif et al., 2022, "Self-supervised Vision Transformers for Land-cover Segmentation and Classification")
    """
    z1, z2 = embeddings("cross_sensor", z1, z2, least=2)
    tau = positive_temperature("cross_sensor", temperature)
    return nt_xent(z1, z2, tau) if same_sensor_negatives else clip(z1, z2, 1 / tau)


def _both_ways(S: Tensor) -> Tensor:
    """CE(S) + CE(Sᵀ): rows have to find their columns, and columns their rows."""
    return matched(S) + matched(S.transpose())
