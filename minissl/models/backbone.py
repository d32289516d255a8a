"""Backbone: what all networks that turn images into features have in common."""

from collections.abc import Iterator

from minissl import nn
from minissl.tensor import Tensor


class Backbone(nn.Module):
    """Images (N, H, W, C) -> pooled features (N, out_features), or logits (N, K) where it was made with `classes`.

    A network writes `run`, and where they differ `pool` and `classify`. `stages` names what can be read on the way.
    """

    stages: tuple[str, ...]
    out_features: int

    def run(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Name and output of every stage, from shallow to deep: (N, h, w, C), or tokens (N, L, D)."""
        raise TypeError(f"{type(self).__name__} must define run(x)")

    def pool(self, x: Tensor) -> Tensor:
        """The last stage's output -> (N, out_features): the mean over all pixels."""
        return x.mean(axis=(1, 2))

    def classify(self, h: Tensor) -> Tensor:
        """Pooled features -> logits, where there is a classifier."""
        return h

    def features(self, x: Tensor, stage: str | None = None) -> Tensor:
        """Pooled features (N, out_features); with a stage's name what that stage gives, and nothing after it is run."""
        if stage is not None and stage not in self.stages:
            raise ValueError(f"{type(self).__name__}: expected a stage among {', '.join(self.stages)}, got {stage!r}")
        for name, output in self.run(x):
            if name == stage:
                return output
        return self.pool(output)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.features(x))
