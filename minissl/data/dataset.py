"""A data set: equally long arrays that belong together, by name."""

import tempfile
from collections.abc import Mapping, Sequence

import numpy as np

PARTS = ("train", "validation", "test")
MEMORY_LIMIT = 2 * 2**30


class DataSet:
    """Equally long host arrays by name: always "images", (N, H, W, C), and often "labels", (N,), and "part", (N,).

    Arrays may be memory-mapped; nothing is read before it is indexed. `classes[label]` is a label's name, `part` holds
    an index into `PARTS`, `tags[k]` names column k of "multi_labels", (N, K) of 0 and 1, `bands` the channels of the
    images where these are known ("B4", ...), and `skipped` says "path: reason" for every file that was left out because
    it could not be used. Raises ValueError when the arrays differ in length or the images have no four axes.
    """

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        classes: tuple[str, ...] = (),
        name: str = "data",
        skipped: Sequence[str] = (),
        tags: tuple[str, ...] = (),
        bands: tuple[str, ...] = (),
    ) -> None:
        if "images" not in arrays:
            raise ValueError(f"data set {name!r} needs an array 'images', got {sorted(arrays)}")
        if arrays["images"].ndim != 4:
            shape = arrays["images"].shape
            raise ValueError(f"the images of data set {name!r} must be (N, H, W, C), got shape {shape}; reshape them")
        lengths = {key: len(array) if array.ndim else "a single value" for key, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the arrays of data set {name!r} must be equally long, got {lengths}")
        self.arrays, self.classes, self.name, self.skipped = dict(arrays), classes, name, list(skipped)
        self.tags, self.bands = tags, bands

    def __len__(self) -> int:
        return len(self.arrays["images"])

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self.arrays:
            raise KeyError(f"data set {self.name!r} has no array {key!r}; it has {sorted(self.arrays)}")
        return self.arrays[key]

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    @property
    def channels(self) -> int:
        """C, the number of bands of an image."""
        return self["images"].shape[-1]

    def select(self, index: np.ndarray) -> "DataSet":
        """The rows `index` (integers or a mask) of every array, copied; what is too large for memory goes to a file."""
        chosen = {key: _take(array, index) for key, array in self.arrays.items()}
        return DataSet(chosen, self.classes, self.name, self.skipped, self.tags, self.bands)

    def some(self, count: int) -> "DataSet":
        """At most `count` rows to look at, from all over the data."""
        return self.select(evenly(len(self), count))

    def part(self, name: str) -> "DataSet":
        """The rows of one of the parts "train", "validation", "test"."""
        if name not in PARTS:
            raise ValueError(f"part {name!r} is not known; choose one of {PARTS}")
        chosen = self.select(self["part"] == PARTS.index(name))
        if not len(chosen):
            raise ValueError(f"part {name!r} of data set {self.name!r} is empty; it has {len(self)} rows in all")
        return chosen


def check_range(data: DataSet) -> None:
    """Raise ValueError for stored floats outside [0, 1], which augmentations would clip without a word."""
    for key in ("images", "seasons"):
        if key not in data or data[key].dtype.kind != "f":
            continue
        array = data[key]
        parts = [array[start : start + 256] for start in range(0, len(array), 256)]  # it may be mapped from a file
        low, high = min(part.min() for part in parts), max(part.max() for part in parts)
        if not 0 <= low <= high <= 1:
            raise ValueError(
                f"floating-point {key} must lie in [0, 1], got {low:.4g} to {high:.4g} in data {data.name!r}; "
                "scale them first, as in reflectance / 10,000 clipped to 1"
            )


def evenly(n: int, count: int) -> np.ndarray:
    """At most `count` of the indices 0 to n - 1, evenly spaced: images of a folder are sorted by class."""
    return np.linspace(0, n - 1, min(n, count), dtype=int)


def allocate(shape: tuple[int, ...], dtype: np.dtype, memory_limit: int = MEMORY_LIMIT) -> np.ndarray:
    """An array to fill: in memory, or, above `memory_limit` bytes, mapped onto a nameless temporary file.

    The file lies where Python's `tempfile` puts it (set TMPDIR to choose a disk) and is gone with the array.
    """
    if dtype.itemsize * int(np.prod(shape, dtype=np.int64)) <= memory_limit:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(prefix="minissl-") as file:
        return np.memmap(file, dtype, "w+", shape=shape)


def _take(array: np.ndarray, index: np.ndarray) -> np.ndarray:
    rows = np.arange(len(array))[index]
    taken = allocate((len(rows), *array.shape[1:]), array.dtype)
    for start in range(0, len(rows), 1024):  # in blocks, because indexing makes a copy in memory first
        taken[start : start + 1024] = array[rows[start : start + 1024]]
    return taken
