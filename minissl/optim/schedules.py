"""Learning rates as functions of the step."""

import math


def warmup_cosine(step: int, steps: int, warmup: int = 0) -> float:
    """The factor on the peak rate: rising linearly over `warmup` steps, then half a cosine down to 0 at `steps`.

    (Loshchilov and Hutter, 2017, "SGDR"; Goyal et al., 2017, for the warm-up)
    """
    if not 0 <= warmup <= steps:
        raise ValueError(f"warmup_cosine: expected 0 <= warmup <= steps, got {warmup} and {steps}")
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
