"""Quick-looks: which pictures a set gets, and what their colours mean."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minissl.data import DataSet
from minissl.viz import quicklook as module
from minissl.viz.quicklook import (
    add_legend,
    caption,
    cover_colours,
    dates,
    draw_series,
    main,
    ndvi_colours,
    pictures,
    quicklook,
    radar,
    stretched,
)

BANDS = ("B1", "B2", "B3", "B4", "B8")
rng = np.random.default_rng(0)
OPTICAL = rng.uniform(0, 1, (3, 8, 8, 5)).astype(np.float32)
PAIRS = DataSet(
    {
        "images": OPTICAL,
        "sar": rng.uniform(-20, -5, (3, 8, 8, 2)).astype(np.float32),
        "masks": rng.integers(0, 2, (3, 8, 8)).astype(np.uint8),
        "labels": np.array([1, 0, 1]),
        "multi_labels": np.array([[1, 1], [1, 0], [0, 1]], np.uint8),
        "location": np.array([[48.2, 13.7], [-33.9, -151.2], [0, 0]], np.float32),
        "days": np.array([[0], [163], [364]], np.int16),
        "path": np.array(["S2/a", "S2/b", "S2/c"]),
    },
    ("Forest", "Water"),
    tags=("Forest", "Water"),
    bands=BANDS,
)
SERIES = DataSet(
    {
        "images": np.zeros((1, 6, 6, 1), np.float32),
        "seasons": np.broadcast_to(
            np.linspace(0, 0.9, 12, dtype=np.float32)[None, :, None, None, None], (1, 12, 6, 6, 1)
        ),
        "valid": np.ones((1, 12, 6, 6), np.uint8),
        "days": np.linspace(0, 330, 12, dtype=np.int16)[None],
    },
    bands=("NDVI",),
)


def test_a_pair_gets_true_and_false_colour_radar_and_land_cover() -> None:
    found = pictures(PAIRS, 0)
    assert list(found) == ["true colour", "false colour: B8, B4, B3", "S1: VV, VH, VV-VH", "land cover"]
    np.testing.assert_array_equal(found["true colour"], stretched(OPTICAL[0][..., [3, 2, 1]]))
    np.testing.assert_array_equal(found["false colour: B8, B4, B3"], stretched(OPTICAL[0][..., [4, 3, 2]]))
    assert caption(PAIRS, 0) == "a\nlabel: Water\ntags: Forest; Water\n48.20 N, 13.70 E\nday 1 of the year"
    assert "33.90 S, 151.20 W" in caption(PAIRS, 1)


def test_other_sets_get_what_they_have() -> None:
    rgb = DataSet({"images": rng.integers(0, 256, (1, 4, 4, 3), dtype=np.uint8)})
    np.testing.assert_array_equal(pictures(rgb, 0)["true colour"], rgb["images"][0])
    alone = DataSet({"images": np.full((1, 4, 4, 2), -10, np.float32)}, bands=("VV", "VH"))
    assert list(pictures(alone, 0)) == ["S1: VV, VH, VV-VH"]
    seasons = np.stack([OPTICAL, OPTICAL], axis=1)
    found = pictures(DataSet({"images": OPTICAL, "seasons": seasons}, bands=BANDS), 0)
    assert list(found) == ["true colour, date 1", "true colour, date 2", "false colour: B8, B4, B3"]
    rgb.arrays["seasons"] = rgb["images"][:, None].repeat(2, axis=1)
    assert list(pictures(rgb, 0)) == ["true colour, date 1", "true colour, date 2"]
    other = DataSet(SERIES.arrays, bands=("LAI",))
    assert next(iter(pictures(other, 0))) == "LAI, date 1, day 1"
    assert list(pictures(SERIES, 0))[:2] == ["NDVI, date 1, day 1", "NDVI, date 2, day 31"]


def test_the_stretch_keeps_the_balance_of_bands() -> None:
    ramp = np.linspace(0, 1, 1000).reshape(10, 100, 1)
    found = stretched(np.concatenate([0.1 + ramp, 0.3 + ramp / 2], axis=-1))
    assert found.min() == 0
    np.testing.assert_allclose(found.max(axis=(0, 1)) ** (1 / 0.7), [1, 0.5], atol=0.02)
    assert np.isfinite(stretched(np.zeros((4, 4, 3)))).all()


def test_the_radar_shows_power_averaged_over_nine_pixels() -> None:
    sar = np.full((5, 5, 2), (-10.0, -17.0))
    np.testing.assert_allclose(radar(sar), np.broadcast_to([0.5, 0.5, 5 / 12], (5, 5, 3)), atol=1e-6)
    sar[2, 2, 0] = 0  # one pixel ten times as bright: (8 + 10) / 9 of the power around it
    np.testing.assert_allclose(radar(sar)[1, 1, 0], 0.5 + 10 * np.log10(2) / 20, atol=1e-6)


def test_ndvi_and_land_cover_have_colours_of_their_own() -> None:
    green, brown = ndvi_colours(np.array([0.9, 0.05]))
    assert green.argmax() == 1 and brown.argmax() == 0 and green.max() < 1
    assert len({tuple(colour) for colour in cover_colours(np.arange(12))}) == 12
    assert cover_colours(np.array([255])).tolist() == [[0, 0, 0]]


def test_dates_are_spread_over_those_that_can_be_seen() -> None:
    cloudy = DataSet(SERIES.arrays | {"valid": SERIES["valid"] * (np.arange(12) % 4 == 0)[:, None, None]})
    assert dates(cloudy, 0).tolist() == [0, 4, 8]
    assert len(dates(SERIES, 0)) == module.DATES
    assert len(dates(DataSet(SERIES.arrays | {"valid": SERIES["valid"] * 0}), 0)) == module.DATES


def test_a_legend_stands_below_the_picture(tmp_path: Path) -> None:
    Image.new("RGB", (200, 50), (9, 9, 9)).save(tmp_path / "a.png")
    red = np.array([255, 0, 0])
    add_legend(tmp_path / "a.png", "Land cover:", [(f"class {n}", red) for n in range(4)])
    with Image.open(tmp_path / "a.png") as page:
        assert page.width == 200 and page.height > 100  # some lines
        assert page.getpixel((5, 5)) == (9, 9, 9)
        assert (np.asarray(page)[50:] == red).all(axis=-1).sum() > 4 * 150


def test_the_command_draws_a_stack_and_a_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "set.npz", s2=OPTICAL)
    options = json.dumps({"names": {"images": "s2"}, "bands": BANDS})
    out = tmp_path / "new" / "look.png"
    monkeypatch.setattr(sys, "argv", ["quicklook", str(tmp_path / "set.npz"), "--out", str(out), "--options", options])
    main()
    assert capsys.readouterr().out == f"{out}\n"
    with Image.open(out) as page:
        assert page.width > 2 * 200 and page.height > 3 * 200
    quicklook(PAIRS, tmp_path / "pairs.png", count=1)
    pytest.importorskip("matplotlib")
    draw_series(SERIES, tmp_path / "series.png")
    assert (tmp_path / "series.png").stat().st_size > 1000
