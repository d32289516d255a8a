"""A linear probe of every stage of a backbone: where on the way the classes become linearly separable."""

import math
from collections.abc import Callable

import numpy as np

from minissl import backend, ops
from minissl.evaluation.features import Labelled, by_batch
from minissl.evaluation.linear import Probe, linear_probe
from minissl.models.backbone import Backbone
from minissl.models.segmentation import as_map
from minissl.tensor import Tensor

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of thousands of features each may weigh less than of a hundred


def layer_probes(
    encoder: Backbone,
    train: Labelled,
    validation: Labelled,
    test: Labelled,
    prepare: Callable[[backend.Array], backend.Array],
    limit: int = 10_000,
    penalties: tuple[float, ...] = PENALTIES,
) -> dict[str, Probe]:
    """A linear probe of every stage, from shallow to deep, each on at most about `limit` features.

    train, validation, test: images (N, H, W, C) and class numbers (N,). Maps are averaged over bins down to the largest
    square with h·w·C <= limit; tokens are taken as the map of their patches, without the class token. The features
    of all stages are held at once, at most 4·N·limit bytes for each.

    (as in Zhang, Isola and Efros, 2016, "Colorful Image Colorization", who pool to about 9,000 features)
    """
    if not isinstance(encoder, Backbone):
        raise TypeError(f"layer_probes: expected a Backbone, which has stages, got {type(encoder).__name__}")
    x, x_validation, x_test = (stage_features(encoder, part.x, prepare, limit) for part in (train, validation, test))
    return {
        stage: linear_probe(
            Labelled(x.pop(stage), train.y),
            Labelled(x_validation.pop(stage), validation.y),
            Labelled(x_test.pop(stage), test.y),
            penalties,
        )
        for stage in encoder.stages
    }


def stage_features(
    encoder: Backbone, images: np.ndarray, prepare: Callable[[backend.Array], backend.Array], limit: int
) -> dict[str, np.ndarray]:
    """What every stage gives for the images, pooled, (N, about `limit` or fewer): one pass for all stages."""

    def run(x: Tensor) -> dict[str, np.ndarray]:
        return {stage: pooled(y, limit) for stage, y in encoder.run(x)}

    batches = by_batch(encoder, run, images, prepare)
    return {stage: np.concatenate([batch.pop(stage) for batch in batches]) for stage in encoder.stages}


def pooled(y: Tensor, limit: int) -> np.ndarray:
    """A stage's output as rows on the host: (N, h, w, C) or tokens (N, L, C) with h·w·C <= limit; (N, D) as it is."""
    if y.ndim > 2:
        y = as_map(y)
        _, h, w, C = y.shape
        side = max(1, math.isqrt(limit // C))
        if side < max(h, w):
            y = ops.adaptive_average_pool2d(y, (min(h, side), min(w, side)))
    return backend.to_host(y.data).reshape(len(y), -1)
