"""The table of cosines: a file of the right form, and shapes that do not fit."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minissl.viz import framed, similarity_table

IMAGES = np.random.default_rng(0).random((3, 8, 8, 3))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_table_is_drawn(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "table.png"
    similarity_table(IMAGES[..., :channels], IMAGES[:2], np.linspace(-1, 1, 6).reshape(3, 2), path, "a title " * 20)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    red, blue = ((pixels @ np.array(weights) > 40).mean() for weights in ((1, -0.5, -0.5), (-0.5, -0.5, 1)))
    assert red > 0.01 and blue > 0.01  # cosines of 1 and −1


def test_captions_stand_beside_their_row(tmp_path: Path) -> None:
    def drawn(*texts: str) -> np.ndarray:
        similarity_table(texts, IMAGES[:2], np.eye(2), tmp_path / "table.png", "title")
        with Image.open(tmp_path / "table.png") as image:
            return np.asarray(image)

    page, other = drawn("a lake", "fields"), drawn("a lake", "a long word about woods")
    changed = np.argwhere((page != other).any(axis=2))  # rows and columns of pixels
    assert len(changed) and (changed.min(axis=0) > page.shape[0] // 2 * np.array([1, 0])).all()
    assert changed[:, 1].max() < page.shape[1] * 0.7


def test_cosines_that_do_not_fit_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected cosines \(3, 2\), at least 1 x 1, got \(2, 3\)"):
        similarity_table(IMAGES, IMAGES[:2], np.zeros((2, 3)), tmp_path / "table.png", "")


def test_a_frame_lies_around_the_image() -> None:
    page = framed(IMAGES[0], (1.0, 0.0, 0.5), width=2)
    assert page.shape == (12, 12, 3)
    np.testing.assert_array_equal(page[2:-2, 2:-2], IMAGES[0])
    np.testing.assert_array_equal(page[0], np.tile([1.0, 0.0, 0.5], (12, 1)))
