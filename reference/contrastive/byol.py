"""BYOL: a network predicts what a slow copy of itself makes of another view of the image, and nothing is pushed apart.

The online network is an encoder f, a projector g and a predictor q. The target network is a copy of f and g that
receives no gradient and follows the online one slowly. With p = q(g(f(x))) for one view and z′ the target's projection
of the other, all of unit length:

    loss = ‖p₁ − z′₂‖² + ‖p₂ − z′₁‖²              target ← μ target + (1 − μ) (f, g)

μ rises from its first value to 1 along half a cosine, 1 − μ = (1 − μ₀) (cos(π · part of the training done) + 1)/2.

Notice that the slide calls this contrastive, yet it has no negatives: no term tells two images apart, and giving every
image the same embedding would make the loss 0. That training does not go there rests on two things: the predictor,
which only the online network has, and the target, which receives no gradient. Take one of them away with --no-predictor
or --no-stop-gradient, and watch std, which is logged: 1 when embeddings are spread over the sphere, and 0 when they
have collapsed. The loss then looks better than ever.

(Grill et al., 2020, "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning")

Differs from the paper: a ResNet-18 and smaller heads; SGD; both views have the same augmentations; μ₀ is that of their
shorter trainings, and μ rises from epoch to epoch, theirs from step to step. Of the target's BatchNorm the paper says
nothing: here it uses the statistics of its own batch in training, and its running averages are the online network's.
"""

import math
from dataclasses import dataclass
from typing import Any

from minissl import losses, models, nn, ops
from minissl.optim import WeightAverage
from minissl.tensor import Tensor
from reference import contrast
from reference.method import Inputs


@dataclass(kw_only=True)
class Config(contrast.Config):
    """BYOL's settings."""

    # Size D of the projections z, and of the predictions of them
    embedding: int = 128
    # Hidden units of the projector and of the predictor, with batch norm
    hidden: int = 256
    # μ₀: how much of itself the target keeps in each step of the first epoch; from there on it rises to 1
    momentum: float = 0.99
    # The online network's predictor; without it training collapses
    predictor: bool = True
    # No gradient to the target. Otherwise the online network is its own target and learns on both sides: it collapses
    stop_gradient: bool = True


class BYOL(contrast.Contrastive):
    """Online: encoder f, projector g, predictor q. Target: the slow copy of f and g."""

    settings = Config
    config: Config

    def __init__(self, config: Config, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        D, hidden = config.embedding, config.hidden
        self.projector = models.mlp(self.encoder.out_features, hidden, D, batch_norm=True)
        self.predictor = models.mlp(D, hidden, D, batch_norm=True) if config.predictor else nn.Identity()
        self.target = WeightAverage(self.online, config.momentum, buffers="copy")

    @property
    def online(self) -> nn.Sequential:
        """What the target is a copy of: f and g, without the predictor."""
        return nn.Sequential(self.encoder, self.projector)

    def start_epoch(self, epoch: int) -> None:
        done = epoch / self.config.epochs
        self.target.momentum = 1 - (1 - self.config.momentum) * (math.cos(math.pi * done) + 1) / 2

    def embed(self, views: tuple[Any, ...]) -> tuple[Tensor, ...]:
        """The online projections z1, z2 of the two views, and the target's."""
        x = ops.concatenate(list(views))  # (2N, H, W, C)
        z = self.online(x)  # (2N, D)
        target = self.target(x) if self.config.stop_gradient else z
        return *ops.split(z, 2), *ops.split(target, 2)

    def compare(self, z1: Tensor, z2: Tensor, target1: Tensor, target2: Tensor) -> Tensor:
        p1, p2 = ops.split(self.predictor(ops.concatenate([z1, z2])), 2)  # (N, D) each
        if self.config.stop_gradient:
            return losses.byol(p1, target2, p2, target1)
        cosine = lambda p, z: (ops.l2_normalize(p) * ops.l2_normalize(z)).sum(axis=1)  # (N,)
        return (4 - 2 * cosine(p1, target2) - 2 * cosine(p2, target1)).mean()  # the same, with a gradient to both sides

    def after_step(self) -> None:
        self.target.update(self.online)
