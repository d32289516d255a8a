"""The one source of random numbers: a NumPy generator on the host, so that every backend sees the same numbers.

CuPy's own generator lacks normal, permutation, choice and a state that can be saved; numbers drawn here go to the
device with `backend.to_device`. The trainer seeds it anew for every step from (seed, epoch, step): a resumed run
therefore draws exactly what an uninterrupted one would, and no generator state has to be stored.
"""

import numpy as np

_generator = np.random.default_rng(0)


def seed(*numbers: int) -> np.random.Generator:
    """Start the generator again from one or several non-negative integers, and return it."""
    global _generator
    _generator = np.random.default_rng(numbers)
    return _generator


def generator() -> np.random.Generator:
    """The generator from which initializers, dropout and augmentations draw."""
    return _generator
