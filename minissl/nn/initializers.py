"""How weights start. Each returns a float32 array on the current backend, drawn from `minissl.random`.

fan_in is how many inputs one output sums over, fan_out how many outputs one input goes to:
(D_in, D_out) for a linear weight, kh·kw·C_in and kh·kw·C_out for a convolution's (kh, kw, C_in, C_out).
"""

import math

from minissl import backend, random
from minissl.backend import Array


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight."""
    taps = math.prod(shape[:-2])
    return taps * shape[-2], taps * shape[-1]


def zeros(shape: tuple[int, ...]) -> Array:
    return backend.current().xp.zeros(shape, "float32")


def ones(shape: tuple[int, ...]) -> Array:
    return backend.current().xp.ones(shape, "float32")


def normal(shape: tuple[int, ...], deviation: float) -> Array:
    """Gaussian with mean 0."""
    return backend.to_device(random.generator().standard_normal(shape, "float32") * deviation).astype("float32")


def uniform(shape: tuple[int, ...], bound: float) -> Array:
    """Uniform between −bound and bound."""
    return backend.to_device(random.generator().uniform(-bound, bound, shape)).astype("float32")


def kaiming_normal(shape: tuple[int, ...], fan: str = "in") -> Array:
    """σ = √(2/fan): keeps the variance through a ReLU, forward (fan "in") or backward ("out").

    (He et al., 2015, "Delving Deep into Rectifiers")
    """
    return normal(shape, math.sqrt(2 / fans(shape)[("in", "out").index(fan)]))


def lecun_uniform(shape: tuple[int, ...]) -> Array:
    """Uniform within ±1/√fan_in. (LeCun et al., 1998, "Efficient BackProp")"""
    return uniform(shape, 1 / math.sqrt(fans(shape)[0]))


def xavier_uniform(shape: tuple[int, ...]) -> Array:
    """Uniform within ±√(6/(fan_in + fan_out)). (Glorot and Bengio, 2010)"""
    return uniform(shape, math.sqrt(6 / sum(fans(shape))))
