"""Stacks in NumPy's files: read, mapped, written, and refused by name."""

import numpy as np
import pytest

from minissl.data import DataSet, read_stack, write_stack

IMAGES = np.arange(5 * 4 * 4 * 2, dtype=np.float32).reshape(5, 4, 4, 2)
LABELS = np.array([0, 1, 1, 0, 1])


def test_npz_holds_arrays_by_name(tmp_path):
    np.savez(tmp_path / "set.npz", images=IMAGES, labels=LABELS, classes=["sea", "land"])
    data = read_stack(tmp_path / "set.npz")
    assert (data.name, data.classes, sorted(data.arrays)) == ("set", ("sea", "land"), ["images", "labels"])
    np.testing.assert_array_equal(data["images"], IMAGES)
    assert data["images"].dtype == np.float32


def test_npy_is_mapped(tmp_path):
    np.save(tmp_path / "set.npy", IMAGES)
    data = read_stack(tmp_path / "set.npy")
    assert isinstance(data["images"], np.memmap)
    np.testing.assert_array_equal(data["images"], IMAGES)


def test_a_written_stack_comes_back_mapped_and_leaves_nothing_else(tmp_path):
    data = DataSet({"images": IMAGES, "labels": LABELS, "path": np.array(list("abcde"))}, ("sea", "land"))
    data.tags, data.bands = ("wet", "dry"), ("B4", "B3", "B2")
    write_stack(data, tmp_path / "new" / "set")
    again = read_stack(tmp_path / "new" / "set")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["set"]
    assert (again.classes, again.tags, again.bands) == (data.classes, data.tags, data.bands)
    assert isinstance(again["images"], np.memmap)
    for key in data.arrays:
        np.testing.assert_array_equal(again[key], data[key])
    with pytest.raises(ValueError, match="set exists already; remove it"):
        write_stack(data, tmp_path / "new" / "set")


def test_a_failed_write_leaves_nothing(tmp_path):
    data = DataSet({"images": IMAGES, "odd": np.array([None] * 5)})
    with pytest.raises(ValueError, match="allow_pickle"):
        write_stack(data, tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": IMAGES}, "needs an array 'images', got.*pictures.*np.savez"),
        ({"images": IMAGES, "labels": LABELS[:3]}, "equally long.*np.savez"),
        ({"images": IMAGES[0]}, r"'images' must be \(N, H, W, C\), got \(4, 4, 2\).*images\[..., None\]"),
        ({"images": IMAGES[0, 0]}, r"must be \(N, H, W, C\), got shape \(4, 2\)"),
        ({"images": IMAGES.transpose(0, 3, 1, 2)}, r"bands first; save images.transpose\(0, 2, 3, 1\)"),
        ({"images": IMAGES.astype(str)}, "must hold whole or floating numbers, got <U"),
        ({"images": IMAGES.astype(object)}, "holds Python objects.*np.savez"),
        ({"images": IMAGES, "labels": LABELS / 1.0}, r"'labels' must hold whole numbers, got float64.*astype"),
        ({"images": IMAGES, "labels": LABELS, "classes": ["sea"]}, "below the number of classes, 1, got 1"),
        (
            {"images": IMAGES, "labels": LABELS - 1},
            "'labels' must not be negative, got -1; leave out rows without a label",
        ),
        ({"images": IMAGES, "part": LABELS + 2}, "'part' must hold.*0, 1 or 2 for train, validation, test"),
        ({"images": IMAGES, "part": ["train"] * 5}, "'part' must hold.*0, 1 or 2 for train, validation, test"),
    ],
)
def test_odd_arrays_are_named_with_the_remedy(tmp_path, arrays, message):
    np.savez(tmp_path / "odd.npz", **arrays)
    with pytest.raises(ValueError, match=rf"odd\.npz.*{message}"):
        read_stack(tmp_path / "odd.npz")


def test_unreadable_files_are_named(tmp_path):
    np.savez(tmp_path / "cut.npz", images=IMAGES)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:-40])
    np.save(tmp_path / "cut.npy", IMAGES)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-40])
    (tmp_path / "empty.npz").touch()
    (tmp_path / "empty.npy").touch()
    (tmp_path / "raw.npy").write_bytes(b"\x80\x04K\x01.")  # a bare pickle
    for name in ("cut.npz", "cut.npy", "empty.npz", "empty.npy", "raw.npy"):
        with pytest.raises(ValueError, match=rf"{name} cannot be read \(.*\); save plain arrays"):
            read_stack(tmp_path / name)
    np.save(tmp_path / "pickled.npy", IMAGES.astype(object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"pickled\.npy holds Python objects \(pickled\), which are not loaded"):
        read_stack(tmp_path / "pickled.npy")
    with pytest.raises(ValueError, match=r"nowhere\.npz is no stack; expected a \.npz"):
        read_stack(tmp_path / "nowhere.npz")


def test_other_names_and_digital_numbers_are_opened_when_told(tmp_path):
    numbers = np.random.default_rng(0).integers(0, 12000, (3, 4, 4, 13)).astype(np.int16)
    cover = np.ones((3, 4, 4), np.uint8)
    np.savez(tmp_path / "set.npz", s2l1c=numbers, lulc=cover, dem=cover)
    with pytest.raises(
        ValueError, match=r"'images', got 'dem' uint8 \(3, 4, 4\), .*'s2l1c' int16 .*names={'images': 's2'}"
    ):
        read_stack(tmp_path / "set.npz")
    data = read_stack(tmp_path / "set.npz", names={"images": "s2l1c", "masks": "lulc"}, scale=10_000)
    assert sorted(data.arrays) == ["images", "masks"]
    np.testing.assert_allclose(data["images"], np.clip(numbers / 1e4, 0, 1), rtol=1e-6)
    assert data["images"].dtype == np.float32
    raised = read_stack(tmp_path / "set.npz", names={"images": "s2l1c"}, scale=10_000, offset=1000)
    np.testing.assert_allclose(raised["images"], np.clip((numbers - 1000.0) / 1e4, 0, 1), atol=1e-6)
    assert (data.bands[0], data.bands[8], len(data.bands)) == ("B1", "B8A", 13)
    with pytest.raises(ValueError, match=r"has no array 's2', but 'dem'.*correct `names`"):
        read_stack(tmp_path / "set.npz", names={"images": "s2"})


def test_a_folder_of_other_names_and_bands_of_its_own(tmp_path):
    np.save(tmp_path / "optical.npy", IMAGES)
    data = read_stack(tmp_path, names={"images": "optical"}, bands=("B4", "B8"))
    assert data.bands == ("B4", "B8")
    assert isinstance(data["images"], np.memmap)
