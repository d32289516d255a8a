"""A data set: equally long arrays that belong together, by name."""

from collections.abc import Mapping

import numpy as np

PARTS = ("train", "validation", "test")


class DataSet:
    """Equally long host arrays by name: always "images", (N, H, W, C), and often "labels", (N,), and "part", (N,).

    Arrays may be memory-mapped; nothing is read before it is indexed. `classes[label]` is a label's name;
    `part` holds an index into `PARTS`. Raises ValueError when the arrays differ in length.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], classes: tuple[str, ...] = (), name: str = "data") -> None:
        lengths = {key: len(array) for key, array in arrays.items()}
        if "images" not in arrays:
            raise ValueError(f"a data set needs an array 'images', got {sorted(arrays)}")
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the arrays of data set {name!r} must be equally long, got {lengths}")
        self.arrays, self.classes, self.name = dict(arrays), classes, name

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
        return self["images"].shape[-1]

    def select(self, index: np.ndarray) -> "DataSet":
        """The rows `index` (integers or a mask) of every array, copied into memory."""
        return DataSet({key: array[index] for key, array in self.arrays.items()}, self.classes, self.name)

    def part(self, name: str) -> "DataSet":
        """The rows of one of the parts "train", "validation", "test"."""
        if name not in PARTS:
            raise ValueError(f"part {name!r} is not known; choose one of {PARTS}")
        chosen = self.select(self["part"] == PARTS.index(name))
        if not len(chosen):
            raise ValueError(f"part {name!r} of data set {self.name!r} is empty; it has {len(self)} rows in all")
        return chosen
