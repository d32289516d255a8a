"""Leaving one place out: no tile of it trains, and only what can be known of it is asked."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minissl import data
from minissl.data import DataSet
from reference import league, places

SIDE = 8
OPTIONS = json.dumps({"names": {"images": "s2", "sar": "s1", "masks": "lulc"}})


@pytest.fixture
def whole() -> DataSet:
    """Four places of 20x16 pixels: covers 0 | 1 in two of them, 0 and 2 in the third; the fourth is all 3."""
    rng = np.random.default_rng(0)
    masks = np.zeros((4, 20, 16), np.uint8)
    masks[:2, :, 8:] = 1
    masks[2, :8], masks[3] = 2, 3
    images, sar = rng.random((4, 20, 16, 3), np.float32), rng.normal(-12, 3, (4, 20, 16, 2)).astype(np.float32)
    return DataSet({"images": images, "sar": sar, "masks": masks}, name="four")


def test_tiles_are_those_of_the_places_row_by_row(whole: DataSet) -> None:
    cut = places.tiles(whole, SIDE)
    assert len(cut) == 4 * 2 * 2 and cut["scene"].tolist() == np.repeat(range(4), 4).tolist()
    for key in ("images", "sar", "masks"):
        for place in range(4):
            tiles = cut[key][cut["scene"] == place]
            np.testing.assert_array_equal(tiles[0], whole[key][place, :8, :8])
            np.testing.assert_array_equal(tiles[1], whole[key][place, :8, 8:])
            np.testing.assert_array_equal(tiles[2], whole[key][place, 8:16, :8])
    assert cut.tags == ("0", "1", "2", "3")
    assert cut["multi_labels"][:4].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]] * 2


def test_a_label_needs_a_twentieth_of_the_tile_and_pixels_without_a_class_are_none(whole: DataSet) -> None:
    whole["masks"][0, :8, :8] = 255
    whole["masks"][0, 0, :3] = 2  # 3 of 64 pixels
    whole["masks"][0, 1, :4] = 3  # 4 of them
    cut = places.tiles(whole, SIDE)
    assert cut.tags == ("0", "1", "2", "3") and cut["multi_labels"][0].tolist() == [0, 0, 0, 1]


def test_only_what_varies_there_and_is_known_in_both_other_parts_is_asked() -> None:
    test = np.array([[1, 1, 0, 1, 1], [0, 1, 0, 0, 0]])
    validation, train = np.array([[1, 1, 1, 1, 0]]), np.array([[1, 1, 1, 0, 1]])
    assert places.asked(test, validation, train).tolist() == [True, False, False, False, False]


def test_no_tile_of_the_place_is_trained_on(whole: DataSet) -> None:
    cut = places.tiles(whole, SIDE)
    cut["masks"][...] = 0
    cut["multi_labels"][:] = np.tile([[1, 0, 0, 1], [0, 1, 0, 1]], (8, 1))  # in all places, covers 0 and 1 vary
    fold = places.left_out(cut, place=1)
    parts = {name: set(fold.part(name)["scene"].tolist()) for name in data.PARTS}
    assert parts == {"train": {2, 3}, "validation": {0}, "test": {1}}
    assert fold.tags == ("0", "1") and fold["multi_labels"].shape == (16, 2)


def test_it_validates_where_most_can_be_asked(whole: DataSet) -> None:
    """Place 1 has covers 0 and 1; of them place 2 has one, place 0 both, and the fourth none."""
    whole["masks"][3, :, 8:] = 1  # or nothing would be left to train cover 1 on
    fold = places.left_out(places.tiles(whole, SIDE), place=1)
    assert set(fold.part("validation")["scene"].tolist()) == {0} and fold.tags == ("0", "1")
    assert fold.part("train")["multi_labels"].any(axis=0).all()


def test_every_place_that_can_be_asked_is_left_out_once(
    whole: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "four.npz", s2=whole["images"], s1=whole["sar"], lulc=whole["masks"])
    tested: list[int] = []

    def played(one: league.League) -> list[Path]:
        opened = data.open_data(one.data)
        tested.extend(np.unique(opened.part("test")["scene"]).tolist())
        for k, entry in enumerate(one.entries):
            values = league.settings(one, entry, 0)
            assert (values["scores"], values["image_size"], values["epochs"]) == (("mAP",), SIDE, 50)
            cell = one.cell(entry, 0)
            cell.mkdir(parents=True)
            linear = {"pretrained": tested[-1] / 10 + k / 100, "pixels": 0.2}
            (cell / "results.json").write_text(json.dumps({"probes": {"linear, mAP": linear}}))
        return []

    monkeypatch.setattr(league, "play_what_is_left", played)
    line = ["--data", str(tmp_path / "four.npz"), "--options", OPTIONS, "--tile", str(SIDE), "--out"]
    places.main([*line, str(tmp_path / "out")])
    assert tested == [0, 1, 2]  # the fourth has nothing to ask
    shown = capsys.readouterr().out
    assert (
        "Place 2 is left out; its 4 tiles are asked for covers 0. A blind ranking has an expected mAP of 50." in shown
    )
    lines = (tmp_path / "out" / "table.md").read_text().splitlines()
    assert lines[0] == "| encoder | places | linear probe, mAP |"
    assert {"| raw pixels, 16x16 | 3 | 20.0 ± 0.0 |", "| S1 | 3 | 10.0 ± 10.0 |"} <= set(lines)

    with pytest.raises(ValueError, match="without_0 holds tiles of other data, or cut otherwise; name another folder"):
        places.main([*line[:-2], "4", "--out", str(tmp_path / "out")])


def test_what_cannot_be_studied_is_refused(whole: DataSet, tmp_path: Path) -> None:
    arrays: dict[str, Any] = whole.arrays
    with pytest.raises(ValueError, match=r"places: expected an array 'masks' \(4, 20, 16\)"):
        places.tiles(DataSet({key: arrays[key] for key in ("images", "sar")}), SIDE)
    with pytest.raises(ValueError, match="expected an array 'sar'"):
        places.tiles(DataSet({key: arrays[key] for key in ("images", "masks")}), SIDE)
    with pytest.raises(ValueError, match="--tile: expected 1 to 16 pixels, got 17"):
        places.tiles(whole, 17)
    np.savez(tmp_path / "one.npz", s2=arrays["images"][2:], s1=arrays["sar"][2:], lulc=arrays["masks"][2:])
    with pytest.raises(ValueError, match="expected at least 2 places with covers that two others have, got 0"):
        places.main(["--data", str(tmp_path / "one.npz"), "--options", OPTIONS, "--tile", "8"])
