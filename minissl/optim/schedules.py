"""Learning rates as functions of the step."""

import math
from collections.abc import Iterable


def warmup_cosine(step: int, steps: int, warmup: int = 0) -> float:
    """The factor on the peak rate: rising linearly over `warmup` steps, then half a cosine down to 0 at `steps`.

    (Loshchilov and Hutter, 2017, "SGDR"; Goyal et al., 2017, for the warm-up)
    """
    if not 0 <= warmup <= steps:
        raise ValueError(f"warmup_cosine: expected 0 <= warmup <= steps, got {warmup} and {steps}")
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def step_decay(step: int, milestones: Iterable[int], factor: float) -> float:
    """The factor on the first rate: multiplied by `factor` at each milestone that has been reached.

    (He et al., 2016: a tenth at 50% and at 75% of training)
    """
    if factor <= 0:
        raise ValueError(f"step_decay: expected a positive factor, got {factor}")
    return factor ** sum(step >= milestone for milestone in milestones)
