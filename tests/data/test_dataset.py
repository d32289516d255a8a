"""The dict of equally long arrays, and the arrays that are too large for memory."""

import numpy as np
import pytest

from minissl.data import PARTS, DataSet
from minissl.data.dataset import allocate


def make(rows: int = 10) -> DataSet:
    images = np.arange(rows * 2 * 2 * 3, dtype=np.uint8).reshape(rows, 2, 2, 3)
    part = np.array([0, 0, 1, 2, 0] * (rows // 5), np.uint8)
    return DataSet({"images": images, "part": part}, ("a", "b"), "toy", ["x.jpg: empty"], ("wet",), ("B4", "B3", "B2"))


def test_parts_are_the_rows_of_that_part_of_every_array():
    data = make()
    for number, name in enumerate(PARTS):
        chosen = data.part(name)
        np.testing.assert_array_equal(chosen["images"], data["images"][data["part"] == number])
        assert vars(chosen) | {"arrays": 0} == vars(data) | {"arrays": 0}
    assert data.channels == 3


def test_select_takes_integers_in_their_order_and_copies():
    data = make()
    chosen = data.select(np.array([7, 0, 7]))
    np.testing.assert_array_equal(chosen["images"], data["images"][[7, 0, 7]])
    chosen["images"][:] = 0
    assert data["images"][7].any()


@pytest.mark.parametrize(("n", "count", "expected"), [(9, 3, [0, 4, 8]), (3, 8, [0, 1, 2]), (5, 1, [0]), (0, 8, [])])
def test_some_are_from_all_over_and_never_twice(n: int, count: int, expected: list[int]):
    images = np.arange(n).reshape(-1, 1, 1, 1)
    assert DataSet({"images": images}).some(count)["images"].ravel().tolist() == expected


def test_select_in_blocks_loses_no_row():
    images = np.arange(3000, dtype=np.uint16).reshape(-1, 1, 1, 1)
    chosen = DataSet({"images": images}).select(np.arange(3000)[::-1])
    np.testing.assert_array_equal(chosen["images"], images[::-1])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": np.zeros(3)}, "needs an array 'images'"),
        ({"images": np.zeros((3, 2, 2))}, r"must be \(N, H, W, C\), got shape \(3, 2, 2\)"),
        ({"images": np.zeros((3, 2, 2, 1)), "labels": np.zeros(2)}, "equally long.*'images': 3, 'labels': 2"),
        ({"images": np.zeros((3, 2, 2, 1)), "labels": np.array(7)}, "equally long.*a single value"),
    ],
)
def test_odd_arrays_are_named(arrays, message):
    with pytest.raises(ValueError, match=message):
        DataSet(arrays, name="toy")


def test_what_is_not_there_is_named_with_what_is():
    with pytest.raises(KeyError, match=r"no array 'masks'; it has \['images', 'part'\]"):
        make()["masks"]
    with pytest.raises(ValueError, match="'dev' is not known; choose one of"):
        make().part("dev")
    with pytest.raises(ValueError, match="part 'test' of data set 'toy' is empty; it has 3 rows"):
        make().select(np.arange(3)).part("test")


def test_an_array_above_the_memory_limit_lies_in_a_file():
    small = allocate((4, 5), np.dtype(np.int32), memory_limit=80)
    large = allocate((4, 5), np.dtype(np.int32), memory_limit=79)
    assert not isinstance(small, np.memmap)
    assert isinstance(large, np.memmap)
    large[:] = 7
    assert large.sum() == 140
