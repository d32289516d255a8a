"""open_data: by name or by path, always with a split; and downloads, without any."""

import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minissl.data import DownloadFailed, fetch, hashed_parts, open_data
from minissl.data.download import _unpack


def save_classes(folder: Path) -> Path:
    for name in ("sea/1.png", "sea/2.png", "forest/3.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (10, 20, 30)).save(folder / name)
    return folder


def fake_pooch(monkeypatch, cache: Path, retrieve) -> None:
    """A pooch that asks `retrieve` instead of the network."""
    module = types.ModuleType("pooch")
    module.os_cache = lambda name: cache
    module.retrieve = retrieve
    monkeypatch.setitem(sys.modules, "pooch", module)


def test_a_folder_gets_a_split_by_its_paths(tmp_path):
    data = open_data(str(save_classes(tmp_path)), size=4)
    assert data["images"].shape == (3, 4, 4, 3)
    np.testing.assert_array_equal(data["part"], hashed_parts(["forest/3.png", "sea/1.png", "sea/2.png"]))


def test_bad_files_are_skipped_when_asked(tmp_path):
    save_classes(tmp_path)
    (tmp_path / "sea" / "0.png").touch()
    with pytest.raises(ValueError, match=r"0\.png"):
        open_data(tmp_path)
    assert len(open_data(tmp_path, skip_bad_files=True).skipped) == 1


def test_stacks_keep_their_size_type_and_split(tmp_path):
    images = np.zeros((4, 6, 6, 13), np.float32)
    np.savez(tmp_path / "set.npz", images=images, part=[2, 0, 1, 0])
    data = open_data(tmp_path / "set.npz", size=64)
    assert (data["images"].shape, data["images"].dtype) == (images.shape, images.dtype)
    assert data["part"].tolist() == [2, 0, 1, 0]
    np.save(tmp_path / "images.npy", images)
    for path in (tmp_path, tmp_path / "images.npy"):
        np.testing.assert_array_equal(open_data(path)["part"], hashed_parts(["0", "1", "2", "3"]))


def test_rows_of_one_location_stay_in_one_part(tmp_path):
    location = np.repeat(np.random.default_rng(0).uniform(-50, 50, (100, 2)), 3, axis=0)  # three seasons of each place
    np.savez(tmp_path / "set.npz", images=np.zeros((300, 2, 2, 1), np.uint8), location=location)
    parts = open_data(tmp_path / "set.npz")["part"].reshape(100, 3)
    assert (parts == parts[:, :1]).all()
    assert len(np.unique(parts)) == 3


def test_scenes_are_opened_by_name():
    pytest.importorskip("minissl.data.scenes")
    data = open_data("scenes", size=16, count=4)
    assert data["images"].shape[:3] == (4, 16, 16)
    assert "part" in data


def test_anything_else_lists_what_is_accepted(tmp_path):
    with pytest.raises(
        ValueError, match=r"'.*eurosatt' is neither(.|\n)*'scenes', 'eurosat', a folder of images, a \.npz"
    ):
        open_data(tmp_path / "eurosatt")
    with pytest.raises(ValueError, match="'imagenet' is no download; choose one of eurosat"):
        fetch("imagenet")


def test_a_download_is_unpacked_once(tmp_path, monkeypatch):
    calls = []

    def retrieve(url, known_hash, fname, path):
        calls.append((url, known_hash))
        source = save_classes(tmp_path / "source")
        with zipfile.ZipFile(tmp_path / fname, "w") as archive:
            for file in source.rglob("*.png"):
                archive.write(file, Path("EuroSAT_RGB") / file.relative_to(source))
        return str(tmp_path / fname)

    (tmp_path / "cache").mkdir()
    fake_pooch(monkeypatch, tmp_path / "cache", retrieve)
    for _ in range(2):
        assert open_data("eurosat", size=4).classes == ("forest", "sea")
    assert len(calls) == 1
    assert calls[0][1].startswith("md5:")
    assert [file.name for file in (tmp_path / "cache").iterdir()] == ["eurosat"]


def test_an_interrupted_unpacking_leaves_no_half_a_set(tmp_path):
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(zipfile.BadZipFile):
        _unpack(tmp_path / "bad.zip", tmp_path / "eurosat")
    assert [file.name for file in tmp_path.iterdir()] == ["bad.zip"]


def test_without_pooch_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(DownloadFailed, match=r"needs pooch: pip install 'minissl\[download\]'"):
        fetch("eurosat")


@pytest.mark.parametrize("error", [ConnectionError("no route"), ValueError("MD5 hash of downloaded file differs")])
def test_offline_or_with_a_wrong_checksum_the_error_says_what_to_do(tmp_path, monkeypatch, error):
    def retrieve(*_, **__):
        raise error

    fake_pooch(monkeypatch, tmp_path, retrieve)
    with pytest.raises(
        DownloadFailed, match=rf"could not be downloaded \({error}\); try again when connected, or unzip"
    ):
        fetch("eurosat")
