"""The one source of random numbers: a NumPy generator on the host, so that every backend sees the same numbers.

CuPy's own generator lacks normal, permutation, choice and a state that can be saved; numbers drawn here go to the
device with `backend.to_device`. The trainer seeds it anew for every step from (seed, epoch, step): a resumed run
therefore draws exactly what an uninterrupted one would, and no generator state has to be stored.

Where a batch is shared out among processes there are two kinds of draws, and code says which it means:

    rows(N).random((N, L))       numbers of images, on the first axis: the own ones of those drawn for the whole batch
    whole(rng).permutation(K)    numbers for all images together: the same in every process
"""

from typing import Any

import numpy as np

_generator = np.random.default_rng(0)
_part, _parts = 0, 1


def seed(*numbers: int) -> np.random.Generator:
    """Start the generator again from one or several non-negative integers, and return it."""
    global _generator
    _generator = np.random.default_rng(numbers)
    return _generator


def generator() -> np.random.Generator:
    """The generator from which initializers draw, and all that is the same in every process."""
    return _generator


def share(part: int, parts: int) -> None:
    """From now on this process holds part 0, 1, ... of every batch, which is shared out in so many equal parts."""
    global _part, _parts
    _part, _parts = part, parts


def rows(images: int) -> Any:
    """The generator for draws of which the first axis belongs to the `images` that this process holds of a batch."""
    return _generator if _parts == 1 else Rows(_generator, images, _part, _parts)


def whole(rng: Any) -> np.random.Generator:
    """Of the generator of an image's numbers that of the whole batch's: what it draws is the same in every process."""
    return rng.generator if isinstance(rng, Rows) else rng


def seeded_like(rng: Any, number: int) -> Any:
    """A new generator of this seed, for draws of the same images."""
    new = np.random.default_rng(number)
    return Rows(new, rng.images, rng.part, rng.parts) if isinstance(rng, Rows) else new


class Draws:
    """The methods of NumPy's Generator that draw numbers of images; how many and which are kept, `_own` says."""

    def _own(self, method: str, shape: tuple[int, ...], *arguments: Any, **options: Any) -> np.ndarray:
        raise NotImplementedError

    def _drawn(self, method: str, size: Any, *arguments: Any, **options: Any) -> np.ndarray:
        shape = (size,) if isinstance(size, int) else tuple(size or ())
        if not shape:
            raise ValueError(f"{method}: expected a size; one number for all images comes of random.whole(rng)")
        return self._own(method, shape, *arguments, **options)

    def random(self, size: Any = None, dtype: Any = np.float64) -> np.ndarray:
        return self._drawn("random", size, dtype=dtype)

    def standard_normal(self, size: Any = None, dtype: Any = np.float64) -> np.ndarray:
        return self._drawn("standard_normal", size, dtype=dtype)

    def uniform(self, low: float = 0.0, high: float = 1.0, size: Any = None) -> np.ndarray:
        return self._drawn("uniform", size, low, high)

    def integers(self, low: int, high: int | None = None, size: Any = None) -> np.ndarray:
        return self._drawn("integers", size, low, high)

    def beta(self, a: float, b: float, size: Any = None) -> np.ndarray:
        return self._drawn("beta", size, a, b)


class Rows(Draws):
    """Draws the numbers of a whole batch and keeps those of its own part: the first axis of every draw is images.

    So an image gets the same numbers whatever the number of processes, and the generator stands alike in all of them.
    Numbers are cheap; what is made of them, images, is made once. An image may have several rows, one after the other.
    Raises ValueError for draws of which the first axis is not images.
    """

    def __init__(self, generator: np.random.Generator, images: int, part: int, parts: int) -> None:
        self.generator, self.images, self.part, self.parts = generator, images, part, parts

    def _own(self, method: str, shape: tuple[int, ...], *arguments: Any, **options: Any) -> np.ndarray:
        n = shape[0]
        if n % self.images:
            raise ValueError(
                f"{method}: expected numbers for {self.images} images on the first axis, got size {shape}; "
                "what all images share comes of random.whole(rng)"
            )
        drawn = getattr(self.generator, method)(*arguments, size=(n * self.parts, *shape[1:]), **options)
        return drawn[self.part * n : (self.part + 1) * n]

    def permuted(self, x: np.ndarray, axis: int) -> np.ndarray:
        """Each row of x shuffled along another axis."""
        n = len(x)
        return self.generator.permuted(np.tile(x, (self.parts, *[1] * (x.ndim - 1))), axis=axis)[
            self.part * n : (self.part + 1) * n
        ]

    def permutation(self, n: int) -> np.ndarray:
        """A random order of this part's images among themselves: what a mixture pairs with is at hand."""
        order = self.generator.permutation(n * self.parts) - self.part * n
        return order[(order >= 0) & (order < n)]


class Some(Draws):
    """Draws for each of `images` images and keeps the numbers of the `chosen` ones, which may be none."""

    def __init__(self, rng: Any, images: int, chosen: np.ndarray) -> None:
        self.rng, self.images, self.chosen = rng, images, chosen

    def _own(self, method: str, shape: tuple[int, ...], *arguments: Any, **options: Any) -> np.ndarray:
        return getattr(self.rng, method)(*arguments, size=(self.images, *shape[1:]), **options)[self.chosen]
