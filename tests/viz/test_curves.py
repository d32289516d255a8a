"""minissl.viz.curves: every series is drawn, where its scale can be read."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minissl.viz import curves
from minissl.viz.curves import COLOURS, MARKERS, _panels


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "curve.png"


def drawn(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def has_colour(path: Path, colour: str) -> bool:
    return bool((drawn(path) == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(-1).any())


IMPORTS = """
import sys, minissl.viz
assert not any(name.startswith("matplotlib") for name in sys.modules), "imported by minissl.viz"
minissl.viz.curves({"loss": [1.0]}, sys.argv[1], "title")
assert "matplotlib.pyplot" not in sys.modules, "its global state is touched by drawing"
"""


def test_matplotlib_is_imported_when_drawing_and_pyplot_never(path: Path) -> None:
    subprocess.run([sys.executable, "-c", IMPORTS, str(path)], check=True)


def test_every_series_is_drawn(path: Path) -> None:
    history: dict[str, list] = {"loss": [3.0, 2.0, 1.0], "kNN accuracy": [50.0, None, 70.0], "rate": [1e-3, 1e-4, 0.0]}
    curves(history, path, "title", units={"kNN accuracy": "%"}, references={"collapse, log(2N-1)": math.log(127)})
    assert drawn(path).shape == (round(120 * (0.9 + 0.25 + 3 * 2.8)), 960, 3)
    assert all(has_colour(path, colour) for colour in COLOURS[:3]) and not has_colour(path, COLOURS[3])


def test_panels_part_units_and_scales() -> None:
    series = {"a": [1.0, 2.0], "b": [100.0], "c": [9.0], "p": [2.0], "zero": [0.0], "none": [np.nan], "d": [-3.0]}
    arrays = {name: np.array(values) for name, values in series.items()}
    assert _panels(arrays, {"p": "%"}) == [["a", "c", "d"], ["b"], ["p"], ["zero", "none"]]


@pytest.mark.parametrize(
    "values", [[0.3], [1e-30, 1e30], [1, math.nan, math.inf, 2], [None, None, 1.0], list(range(500)), np.arange(3)]
)
def test_odd_series_are_drawn(path: Path, values: list) -> None:
    curves({"loss": values}, path, "title")
    assert has_colour(path, COLOURS[0])


def test_long_names_and_many_series(path: Path) -> None:
    history = {f"{k}: " + "a name that goes on " * 5: [k, k + 1.0] for k in range(12)}
    curves(history, path, "a title that goes on " * 20, references={"a level that goes on " * 5: 3.0})
    assert drawn(path).shape[1] == 960


def test_none_is_bridged_and_nan_breaks_the_line(path: Path) -> None:
    shares = []
    for between in (1.5, None, math.nan):
        curves({"loss": [1.0, between, between, 2.0]}, path, "title")
        middle = drawn(path)[:, 400:600].astype(int)
        shares.append((np.ptp(middle, axis=-1) > 50).any(0).mean())  # columns of pixels with colour in them
    assert shares == [1, 1, 0]


def test_x_values_place_the_points(path: Path) -> None:
    curves({"loss": [3.0, 2.0]}, path, "title", x="step", x_values=[100, 1000])
    with pytest.raises(ValueError, match=r"expected 2 values, one per x value, got \{'loss': 3\}"):
        curves({"loss": [3.0, 2.0, 1.0]}, path, "title", x_values=[100, 1000])


@pytest.mark.parametrize("x_values", [None, np.array([10, 20, 30])])
def test_x_names_stand_in_the_place_of_numbers(path: Path, x_values: np.ndarray | None) -> None:
    pages = []
    for names in (None, ["one", "two", "three"], ["x"] * 3):
        curves({"accuracy": [3.0, 2.0, 1.0]}, path, "title", x_values=x_values, x_names=names)
        pages.append(drawn(path))
    below = slice(round(0.8 * len(pages[0])), None)
    assert all((pages[i][below] != pages[j][below]).any() for i, j in ((0, 1), (1, 2)))


@pytest.mark.parametrize("history", [{}, {"loss": []}, {"loss": [math.nan, None]}])
def test_nothing_to_draw_is_an_error(path: Path, history: dict) -> None:
    with pytest.raises(ValueError, match="no finite value to draw"):
        curves(history, path, "title")


def test_a_unit_without_its_series_is_an_error(path: Path) -> None:
    with pytest.raises(ValueError, match=r"units are given for \['accuracy'\], but the series are \['loss'\]"):
        curves({"loss": [1.0]}, path, "title", units={"accuracy": "%"})


def test_colours_and_markers_are_distinct_together() -> None:
    assert len(set(COLOURS)) == 10 and math.gcd(len(COLOURS), len(MARKERS)) == 1
