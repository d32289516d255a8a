"""Prototypes: learned directions to which embeddings are assigned, as cluster centres on the unit sphere."""

from typing import Any

from minissl import ops
from minissl.nn.memory import unit_rows
from minissl.nn.module import Module, Parameter
from minissl.tensor import Tensor


class Prototypes(Module):
    """Scores s_k = ⟨ẑ, c_k⟩ of embeddings with K prototypes, from −1 to 1: (N, features) -> (N, K). ẑ = z/‖z‖.

    `rows` (K, features) start as random unit rows; after every step of an optimizer `renormalize` brings them back.

    (Caron et al., 2020, "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments")
    """

    def __init__(self, features: int, K: int) -> None:
        if min(features, K) < 1:
            raise ValueError(f"Prototypes: expected at least 1 feature and 1 prototype, got {features} and {K}")
        self.rows = Parameter(unit_rows(K, features))

    def forward(self, z: Any) -> Tensor:
        return ops.l2_normalize(z) @ self.rows.transpose()

    def renormalize(self) -> None:
        """c_k ← c_k/‖c_k‖."""
        self.rows.data = ops.l2_normalize(self.rows.data).data
