"""A limit on how large a step may get."""

from collections.abc import Iterable

from minissl import backend
from minissl.nn import Parameter


def clip_gradients(parameters: Iterable[Parameter], max_norm: float) -> float:
    """Scale all gradients by one factor so that their common norm √Σ‖g‖² is at most `max_norm`; return it as it was.

    Their direction stays. Call it between `backward` and `step`. Reading the norm waits for the device.
    Raises ValueError where the norm is not finite, naming the first parameter whose gradient is not.
    (Pascanu et al., 2013, "On the Difficulty of Training Recurrent Neural Networks")
    """
    if not max_norm > 0:
        raise ValueError(f"clip_gradients: expected a positive max_norm, got {max_norm}")
    learned = [(i, p, p.grad) for i, p in enumerate(dict.fromkeys(parameters)) if p.grad is not None]
    if not learned:
        return 0.0
    home = backend.of(learned[0][2])
    squares = home.xp.stack([(g.astype("float64") ** 2).sum() for _, _, g in learned])  # float32 would overflow
    norm = float(home.to_host(home.xp.sqrt(squares.sum())))
    if not norm < float("inf"):
        bad = home.to_host(~home.xp.isfinite(squares)).tolist()
        i, parameter, _ = learned[bad.index(True)]
        raise ValueError(
            f"clip_gradients: the gradient of parameter {i}, of shape {parameter.shape}, is not finite; "
            "a smaller learning rate, or a look at the loss, may help"
        )
    if norm > max_norm:
        for _, parameter, g in learned:  # new arrays: a gradient that was set by hand may be shared
            parameter.grad = g * (max_norm / norm)
    return norm
