"""Options of the scenes: each adds what it promises, leaves everything else as it was, and files hold the same."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from minissl.data import DataSet, open_data, read_stack, scenes
from minissl.data.scenes.place import MONOTONE, SETTLEMENTS

ALL: dict[str, Any] = {"bands": "s2", "seasons": 3, "sar": True}


@pytest.fixture(scope="module")
def world() -> DataSet:
    """Thirty places as every sensor sees them."""
    return scenes.generate(30, 32, 7, **ALL)


def assert_same(one: DataSet, other: DataSet, *keys: str) -> None:
    for key in keys:
        np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def test_arrays_have_the_promised_shapes_types_and_units(world: DataSet) -> None:
    assert world["seasons"].shape == (30, 3, 32, 32, 13) and world["seasons"].dtype == np.float32
    assert 0 <= world["seasons"].min() < world["seasons"].max() <= 1
    assert world["days"].shape == (30, 3) and world["days"].dtype == np.int16
    assert (world["days"] // (365 / 3) == [0, 1, 2]).all() and world["days"].max() <= 364
    assert world["sar"].shape == (30, 32, 32, 2) and world["sar"].dtype == np.float32
    assert -35 < np.median(world["sar"]) < 0 and np.isfinite(world["sar"]).all()
    assert " ".join(world.bands) == "B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B10 B11 B12"
    rgb = scenes.generate(2, 16, seasons=5)
    assert rgb["seasons"].shape == (2, 5, 16, 16, 3) and rgb["seasons"].dtype == np.uint8


def test_what_is_asked_for_changes_nothing_else(world: DataSet) -> None:
    """Not the count, not the seasons, not the radar, not the bands: every array is the same with and without."""
    plain = scenes.generate(4, 32, 7, bands="s2")
    assert_same(world.select(np.arange(4)), plain, *plain.arrays)
    alone = scenes.generate(4, 32, 7, seasons=3), scenes.generate(4, 32, 7, sar=True)
    assert_same(world.select(np.arange(4)), alone[0], "days", "masks")
    assert_same(world.select(np.arange(4)), alone[1], "sar", "location")
    few = scenes.generate(4, 32, 7, **ALL)
    assert_same(world.select(np.arange(4)), few, *few.arrays)
    # Season t draws from numbers of its own: its place within its T-th of the year is the same for every T.
    five = scenes.generate(4, 16, 7, seasons=5)["days"]
    within, within_five = (days[:4, :3] * days.shape[1] / 365 % 1 for days in (world["days"], five))
    np.testing.assert_allclose(within, within_five, atol=0.02)
    assert np.ptp(within, axis=1).min() > 0.05


def test_clouds_come_over_their_share_of_images_and_nothing_else_changes(world: DataSet) -> None:
    """What is cloudy at one half is so at one, in the same way; the radar sees through."""
    half, full = (scenes.generate(30, 32, 7, clouds=share, **ALL) for share in (0.5, 1.0))
    for key in ("images", "seasons"):
        changed = (half[key] != world[key]).any(axis=(-3, -2, -1))
        assert 0.25 < changed.mean() < 0.75
        np.testing.assert_array_equal(half[key][changed], full[key][changed])
        assert (full[key] != world[key]).any(axis=(-3, -2, -1)).all()
        assert (full[key] == world[key]).all(axis=-1).mean() > 0.1  # what lies neither below a cloud nor in a shadow
    assert_same(full, world, "sar", "masks", "labels", "days", "location")


def test_the_sun_turns_shadows_in_all_seasons_and_nothing_else(world: DataSet) -> None:
    fixed = scenes.generate(30, 32, 7, sun="fixed", **ALL)
    assert (fixed["seasons"] != world["seasons"]).any()
    assert_same(fixed, world, "sar", "masks", "labels", "days", "location")


def test_settlements_draw_places_near_themselves_and_monotone_land_less_often() -> None:
    """Half as many forests, heaths and shores; places lie 50 km from one of the cities; other places stay."""
    uniform, near = (scenes.generate(240, 16, 1, sampling=sampling) for sampling in ("uniform", "settlements"))
    monotone = [np.isin(world["labels"], MONOTONE).mean() for world in (uniform, near)]
    assert monotone[0] == pytest.approx(0.3) and 0.1 < monotone[1] < 0.2
    same = near["labels"] == uniform["labels"]
    assert (same | np.isin(uniform["labels"], MONOTONE)).all()
    np.testing.assert_array_equal(near["masks"][same], uniform["masks"][same])
    assert_same(near, uniform, "part")

    def kilometres(world: DataSet) -> np.ndarray:
        """From each place to its nearest neighbour."""
        latitude, longitude = np.radians(world["location"].astype(float)).T
        x = np.stack([np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)], 1)
        cosine = x @ x.T - 2 * np.eye(len(x))
        return 6371 * np.arccos(cosine.max(axis=1).clip(-1, 1))

    assert len(near) > SETTLEMENTS  # so that most places have a neighbour at their city
    assert np.median(kilometres(near)) < 150 < 300 < np.median(kilometres(uniform))
    assert np.abs(near["location"][:, 0]).max() < 65 and 170 < np.abs(near["location"][:, 1]).max() <= 180


@pytest.mark.parametrize("workers", [1, 2])
def test_a_written_folder_holds_what_generate_makes(tmp_path: Path, workers: int, world: DataSet) -> None:
    """Mapped, complete, named, alone; and never over another."""
    few = world if workers == 1 else scenes.generate(70, 16, 2, sar=True)  # two chunks
    options = {"count": 30, "size": 32, "seed": 7, **ALL} if workers == 1 else {"count": 70, "size": 16, "seed": 2}
    scenes.write(tmp_path / "deep" / "set", workers=workers, **(options | {"sar": True}))
    again = read_stack(tmp_path / "deep" / "set")
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["set"]
    assert isinstance(again["images"], np.memmap) and sorted(again.arrays) == sorted(few.arrays)
    assert (again.classes, again.tags, again.bands) == (few.classes, few.tags, few.bands)
    assert_same(again, few, *few.arrays)
    with pytest.raises(ValueError, match="set exists already; remove it"):
        scenes.write(tmp_path / "deep" / "set", 3)


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minissl.data.scenes.writing._fill", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        scenes.write(tmp_path / "set", 3, 16)
    with pytest.raises(ValueError, match="count must be at least 1"):
        scenes.write(tmp_path / "set", 0, 16)
    assert list(tmp_path.iterdir()) == []


def test_the_command_draws_a_sheet_or_writes_a_folder(tmp_path: Path) -> None:
    """`python -m minissl.data.scenes PATH` and `... --write FOLDER` say where their work lies."""

    def run(*arguments: str | Path) -> str:
        command = [sys.executable, "-m", "minissl.data.scenes", *map(str, arguments)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    picture, folder = tmp_path / "pictures" / "scenes.png", tmp_path / "set"
    assert run(picture, "--size", "16") == str(picture)
    with Image.open(picture) as sheet:
        assert sheet.height > 10 * 32 and sheet.width > 12 * 32
    assert run("--write", folder, "--count=4", "--size=16", "--seasons=2", "--workers=1") == str(folder)
    data = open_data(folder)
    assert data["seasons"].shape == (4, 2, 16, 16, 3) and data.classes == scenes.CLASSES
