"""The loader: order, completeness, and threads that end."""

import threading
import traceback

import numpy as np
import pytest

from minissl.data import DataSet, Loader

DATA = DataSet({"images": np.arange(23, dtype=np.uint8).reshape(23, 1, 1, 1), "labels": np.arange(23)}, name="toy")


class Broken(np.ndarray):
    """An array that fails once row 13 is asked for, as a file on a failing disk would."""

    def __getitem__(self, rows):
        if 13 in np.atleast_1d(rows):
            raise OSError("disk on fire")
        return np.asarray(self)[rows]


def order(loader: Loader, number: int) -> list[int]:
    return [int(row) for batch in loader.epoch(number) for row in batch["index"]]


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("minissl-loader")]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_order_does_not_depend_on_the_workers(workers):
    for number in range(3):
        assert order(Loader(DATA, 4, 7, workers), number) == order(Loader(DATA, 4, 7, 0), number)
    assert threads() == []


def test_the_order_depends_on_seed_and_epoch():
    orders = [tuple(order(Loader(DATA, 4, seed), number)) for seed in (0, 1) for number in (0, 1)]
    assert len(set(orders)) == 4
    again = Loader(DATA, 4, 0)
    assert (order(again, 1), order(again, 0)) == (list(orders[1]), list(orders[0]))


@pytest.mark.parametrize("workers", [0, 2])
def test_every_row_once_an_epoch(workers):
    loader = Loader(DATA, 4, workers=workers, drop_last=False)
    batches = list(loader.epoch(0))
    assert [len(batch["index"]) for batch in batches] == [4, 4, 4, 4, 4, 3]
    assert len(loader) == 6
    assert sorted(np.concatenate([batch["index"] for batch in batches])) == list(range(23))
    dropping = Loader(DATA, 4, workers=workers)
    assert len(dropping) == len(list(dropping.epoch(0))) == 5


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_is_a_contiguous_copy_of_its_rows(workers, tmp_path):
    np.save(tmp_path / "images.npy", np.arange(23 * 12, dtype=np.float32).reshape(23, 2, 2, 3))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    data = DataSet({"images": mapped.transpose(0, 2, 3, 1), "labels": DATA["labels"]})
    for batch in Loader(data, 5, workers=workers).epoch(0):
        assert batch["images"].flags.c_contiguous
        assert type(batch["images"]) is np.ndarray
        assert batch["index"].dtype == np.int64
        np.testing.assert_array_equal(batch["images"], data["images"][batch["index"]])
        np.testing.assert_array_equal(batch["labels"], batch["index"])
        batch["images"][:] = 0


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_error_arrives_at_its_batch_with_its_traceback(workers):
    images = DATA["images"].view(Broken)
    loader = Loader(DataSet({"images": images}), 1, workers=workers)
    place = order(Loader(DATA, 1), 0).index(13)
    seen = 0
    with pytest.raises(OSError, match="disk on fire") as caught:
        for _ in loader.epoch(0):
            seen += 1
    assert seen == place
    assert any(frame.line and "disk on fire" in frame.line for frame in traceback.extract_tb(caught.tb))
    assert threads() == []


def test_leaving_early_ends_the_threads():
    for _ in Loader(DATA, 2, workers=3).epoch(0):
        assert threads()
        break
    assert threads() == []


def test_reading_ahead_is_bounded():
    read = []

    class Counted(np.ndarray):
        def __getitem__(self, rows):
            read.append(len(np.atleast_1d(rows)))
            return np.asarray(self)[rows]

    loader = Loader(DataSet({"images": DATA["images"].view(Counted)}), 1, workers=2)
    batches = loader.epoch(0)
    for taken in range(1, 10):
        next(batches)
        assert len(read) <= taken + 3
    batches.close()


def test_impossible_loaders_say_what_to_change():
    with pytest.raises(
        ValueError, match=r"batch of 24 is larger than data set 'toy' with 23 rows; lower .* at most 23"
    ):
        Loader(DATA, 24)
    assert [len(batch["index"]) for batch in Loader(DATA, 24, drop_last=False).epoch(0)] == [23]
    with pytest.raises(ValueError, match="batch size of 1 or more, and 0 or more workers; got 0, 1"):
        Loader(DATA, 0)
    with pytest.raises(ValueError, match="got 2, -1"):
        Loader(DATA, 2, workers=-1)
    with pytest.raises(ValueError, match="'toy' has no rows"):
        Loader(DATA.select(np.arange(0)), 1, drop_last=False)


@pytest.mark.parametrize("parts", [1, 2, 4])
@pytest.mark.parametrize("workers", [0, 2])
def test_parts_joined_are_the_batches_of_one_process(parts: int, workers: int) -> None:
    loaders = [Loader(DATA, 8, seed=3, workers=workers, part=(i, parts)) for i in range(parts)]
    assert {len(loader) for loader in loaders} == {2}
    whole = list(Loader(DATA, 8, seed=3, workers=0).epoch(5))
    for batch, *shares in zip(whole, *(loader.epoch(5) for loader in loaders), strict=True):
        for key in ("images", "index"):
            np.testing.assert_array_equal(np.concatenate([share[key] for share in shares]), batch[key])


def test_a_batch_that_cannot_be_shared_out_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"a batch of 8 cannot be shared out to 3 .*; take a batch of 6 or 9"):
        Loader(DATA, 8, part=(0, 3))
    with pytest.raises(ValueError, match="drop_last=True"):
        Loader(DATA, 8, part=(0, 2), drop_last=False)
