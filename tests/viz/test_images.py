"""minissl.viz.images: what is drawn is what was given, and a reader can see it."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from minissl.viz import image_grid
from minissl.viz.images import EDGE, NODATA, TILE, _wrap

RNG = np.random.default_rng(0)
LONG = "a title that goes on and on, with an_unbreakable_identifier_" + 60 * "x"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "examples.png"


def drawn(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def inside_edges(page: np.ndarray) -> np.ndarray:
    """What the only tile's edge encloses."""
    rows, columns = np.nonzero((page == EDGE).all(-1))
    return page[rows.min() + 1 : rows.max(), columns.min() + 1 : columns.max()]


@pytest.mark.parametrize("side, factor", [(8, 12), (28, 4), (96, 1), (97, 1)])
def test_small_images_are_enlarged_in_whole_squares(path: Path, side: int, factor: int) -> None:
    image = RNG.integers(0, 256, (side, side, 3), dtype=np.uint8)
    image_grid([[image]], path)
    assert np.array_equal(inside_edges(drawn(path)), np.kron(image, np.ones((factor, factor, 1), np.uint8)))
    assert side * factor >= TILE


def test_scale_is_used_when_given(path: Path) -> None:
    image_grid([[np.zeros((8, 5, 1))]], path, scale=2)
    assert inside_edges(drawn(path)).shape == (16, 10, 3)


def test_floats_bools_and_grey_images(path: Path) -> None:
    image_grid([[np.array([0, 0.5, 1, 1.2, -0.1, np.inf]).reshape(1, 6, 1)]], path, scale=1)
    assert inside_edges(drawn(path))[0].tolist() == [[v] * 3 for v in (0, 128, 255, 255, 0, 255)]
    image_grid([[np.array([[[True], [False]]])]], path, scale=1)
    assert inside_edges(drawn(path))[0].tolist() == [[255] * 3, [0] * 3]
    image_grid([[np.array([[[0.2, np.nan, 0.2], [0, 0, 1]]])]], path, scale=1)
    assert inside_edges(drawn(path))[0].tolist() == [list(NODATA), [0, 0, 255]]


def test_one_array_holds_a_whole_grid_and_cells_may_be_empty(path: Path) -> None:
    grid = RNG.random((2, 3, 96, 96, 3))
    image_grid(grid, path)
    whole = drawn(path)
    image_grid([list(row) for row in grid], path)
    assert np.array_equal(drawn(path), whole)
    image_grid([list(grid[0]), [None, grid[1, 1]]], path)
    assert drawn(path).shape == whole.shape


def test_the_page_grows_with_its_titles_and_the_images_stay_whole(path: Path) -> None:
    grid = np.full((2, 3, 96, 96, 3), [255, 0, 0], np.uint8)
    sizes = []
    for titles in (["a", "b", "c"], ["", "b", LONG]):
        image_grid(grid, path, row_titles=titles[1:], column_titles=titles, title=titles[-1])
        page = drawn(path)
        sizes.append(page.shape)
        assert (page == (255, 0, 0)).all(-1).sum() == grid[..., 0].size  # no title covers an image
        margins = page.copy()
        margins[10:-10, 10:-10] = 255
        assert (margins == 255).all()  # and none leaves the page
    assert sizes[0][0] < sizes[1][0] and sizes[0][1] < sizes[1][1] < 600


@pytest.mark.parametrize("width", [1, 40, 96, 400])
def test_wrapped_lines_fit_and_lose_nothing(width: int) -> None:
    font = ImageFont.load_default(size=15)
    lines = _wrap(LONG, width, font).split("\n")
    assert "".join(lines).replace(" ", "") == LONG.replace(" ", "")
    assert all(len(line) == 1 or font.getlength(line) <= width for line in lines)


def test_lines_break_between_words() -> None:
    font = ImageFont.load_default(size=15)
    assert _wrap("one two three\nfour", math.ceil(font.getlength("one two")), font) == "one two\nthree\nfour"


def test_titles_are_spelled_with_letters_that_the_font_has() -> None:
    font = ImageFont.load_default(size=15)
    assert _wrap("Forêt 32 × 32, σ ≥ 1", 400, font) == "Foret 32 x 32, sigma >= 1"


@pytest.mark.parametrize(
    "image, message",
    [
        (np.zeros((8, 8)), r"\(H, W, 3\), got \(8, 8\) in row 1, column 0"),
        (np.zeros((8, 8, 13)), r"got \(8, 8, 13\) in row 1, column 0; choose three bands"),
        (np.zeros((0, 8, 3)), r"got \(0, 8, 3\)"),
        (np.zeros((8, 8, 3), np.uint16), "got uint16 in row 1, column 0"),
    ],
)
def test_an_image_that_cannot_be_drawn_is_named(path: Path, image: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        image_grid([[np.zeros((8, 8, 3))], [image]], path)


def test_titles_must_match_and_something_must_be_drawn(path: Path) -> None:
    image = np.zeros((8, 8, 3))
    with pytest.raises(ValueError, match="expected 1 row titles, one per row, got 2"):
        image_grid([[image]], path, row_titles=["a", "b"])
    with pytest.raises(ValueError, match="expected 2 column titles, one per column, got 1"):
        image_grid([[image], [image, image]], path, column_titles=["a"])
    rows: list[list[list[None]]] = [[], [[]], [[None]]]
    for nothing in rows:
        with pytest.raises(ValueError, match="no image to draw"):
            image_grid(nothing, path)
