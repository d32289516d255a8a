"""Statistics of bands: exact, blind to NaN, kept beside the data and used again while it is the same."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minissl import data as library
from minissl.data import DataSet, band_statistics, statistics

rng = np.random.default_rng(0)
IMAGES = rng.normal(100, 1, (7, 4, 5, 3)).astype(np.float32)  # far from 0, where sums of squares lose digits
SAR = rng.uniform(-20, -5, (7, 4, 5, 2)).astype(np.float32)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    np.savez(tmp_path / "set.npz", images=IMAGES, sar=SAR)
    return tmp_path / "set.npz"


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What has been opened so far."""
    opened: list[Any] = []

    def counted(path: Any, **options: Any) -> DataSet:
        opened.append((path, options))
        return real(path, **options)

    real = library.open_data
    monkeypatch.setattr(library, "open_data", counted)
    return opened


@pytest.mark.parametrize("chunk", [1, 130, 10**6])
def test_parts_merge_to_the_whole_without_nan(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(band_statistics, "CHUNK", chunk)
    holes = IMAGES.copy()
    holes[0, 0, :3, 0] = np.nan
    holes[1:3, ..., 2] = np.nan  # whole rows
    for images in (IMAGES, holes):
        found = statistics(DataSet({"images": images, "sar": SAR}))
        wide = images.astype(np.float64).reshape(-1, 3)
        np.testing.assert_allclose(found["images"].mean, np.nanmean(wide, axis=0), rtol=1e-12)
        np.testing.assert_allclose(found["images"].deviation, np.nanstd(wide, axis=0), rtol=1e-9)
        assert found["images"].measured == np.isfinite(wide).sum(axis=0).tolist()
        np.testing.assert_allclose(found["sar"].mean, SAR.reshape(-1, 2).mean(axis=0), rtol=1e-6)


def test_seasons_count_by_band_and_bytes_as_shares() -> None:
    seasons = rng.integers(0, 256, (3, 2, 4, 4, 2), dtype=np.uint8)
    found = statistics(DataSet({"images": seasons[:, 0], "seasons": seasons}))["seasons"]
    np.testing.assert_allclose(found.mean, seasons.reshape(-1, 2).mean(axis=0) / 255, rtol=1e-12)
    assert found.measured == [96, 96]


def test_a_band_without_measurement_is_refused() -> None:
    images = IMAGES.copy()
    images[..., 1] = np.nan
    images[0, ..., 1] = np.inf
    with pytest.raises(ValueError, match=r"bands \[1\] hold no measurement; drop them"):
        statistics(DataSet({"images": images}))


def test_they_are_kept_and_used_again_while_the_files_are_the_same(stack: Path, openings: list[Any]) -> None:
    first = statistics(stack)
    assert statistics(stack) == first
    assert len(openings) == 1
    kept = stack.with_name("set.npz.statistics.json")
    assert sorted(file.name for file in stack.parent.iterdir()) == ["set.npz", kept.name]
    assert next(iter(json.loads(kept.read_text()).values()))["statistics"]["sar"]["mean"] == first["sar"].mean
    statistics(stack, options={"bands": ("a", "b", "c")})
    statistics(stack)
    assert len(openings) == 2  # other options are other data; both are kept
    np.savez(stack, images=IMAGES + 1, sar=SAR)
    os.utime(stack, (1, 1))
    assert statistics(stack)["images"].mean[0] == pytest.approx(first["images"].mean[0] + 1)
    assert len(openings) == 3
    assert len(json.loads(kept.read_text())) == 1  # what was of the old file is gone
    kept.write_text("{")
    statistics(stack)
    assert len(openings) == 4


def test_a_new_file_in_a_folder_counts(tmp_path: Path, openings: list[Any]) -> None:
    (tmp_path / "set").mkdir()
    np.save(tmp_path / "set" / "images.npy", IMAGES)
    for _ in range(2):
        assert "sar" not in statistics(tmp_path / "set")
    np.save(tmp_path / "set" / "sar.npy", SAR)
    assert "sar" in statistics(tmp_path / "set")
    assert len(openings) == 2


def test_parts_of_a_set_are_told_apart(stack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {"images": IMAGES, "path": np.array(list("abcdefg"))}
    halves = [DataSet({key: array[rows] for key, array in arrays.items()}) for rows in (slice(0, 3), slice(3, 6))]
    expected = [statistics(half) for half in halves]
    assert [statistics(half, beside=stack) for half in halves] == expected
    monkeypatch.setattr(band_statistics, "measure", lambda array: pytest.fail("measured again"))
    assert [statistics(half, beside=stack) for half in halves] == expected


def test_parts_without_paths_are_told_apart_by_their_rows(stack: Path) -> None:
    halves = [DataSet({"images": IMAGES[:3]}), DataSet({"images": IMAGES[:3] / 2})]
    assert [statistics(half, beside=stack) for half in halves] == [statistics(half) for half in halves]


def test_where_nothing_can_be_written_there_is_no_copy(stack: Path, openings: list[Any]) -> None:
    stack.with_name("set.npz.statistics.json").mkdir()  # replacing a folder by a file fails for every user
    assert statistics(stack) == statistics(stack)
    assert len(openings) == 2
    assert len(list(stack.parent.iterdir())) == 2
