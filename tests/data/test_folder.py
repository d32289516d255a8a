"""Folders of images: the layouts, the pixels, and every kind of bad file, named or skipped."""

import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minissl.data import BadFile, read_folder


def save(path: Path, mode: str = "RGB", size: tuple[int, int] = (8, 8), seed: int = 0) -> Path:
    """A picture of noise, of (width, height) `size`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def write_16_bit_rgb(path: Path) -> None:
    """A PNG that Pillow opens as if it were 8-bit; Pillow can't write one."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    rows = zlib.compress(bytes(8 * (1 + 8 * 6)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def truncate(path: Path) -> None:
    save(path, size=(8, 8))
    path.write_bytes(path.read_bytes()[:-60])


BAD = {
    "empty.png": (lambda path: path.touch(), "empty file.*download it again"),
    "text.jpg": (lambda path: path.write_text("<html>not found</html>"), "not a readable image.*download it again"),
    "truncated.png": (truncate, "truncated or corrupt.*download it again"),
    "truncated.bmp": (truncate, "truncated or corrupt.*download it again"),
    "odd.png": (lambda path: save(path, size=(9, 8)), r"expected 8x8 pixels \(H x W\).*got 8x9 pixels.*resize or crop"),
    "deep_grey.png": (lambda path: Image.new("I;16", (8, 8)).save(path), "16-bit.*convert it to 8-bit RGB"),
    "deep_rgb.png": (write_16_bit_rgb, "16-bit.*convert it to 8-bit RGB"),
    "float.tif": (lambda path: save(path, "F"), "16-bit.*deeper.*convert it to 8-bit RGB"),
    "palette.png": (lambda path: save(path, "P"), "a palette image; convert it to 8-bit RGB"),
    "palette.gif": (lambda path: save(path, "P"), "a palette image; convert it to 8-bit RGB"),
    "cmyk.jpg": (lambda path: save(path, "CMYK"), "a CMYK image; convert it to 8-bit RGB"),
    "alpha.png": (lambda path: save(path, "RGBA"), "a transparent RGB image; convert it to 8-bit RGB"),
    "bilevel.png": (lambda path: save(path, "1"), "a 1-bit image; convert it to 8-bit RGB"),
    "grey.png": (lambda path: save(path, "L"), "expected RGB like the others, got grey; convert it to 8-bit RGB"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three good images in two classes."""
    for number, name in enumerate(("sea/b.png", "forest/2.PNG", "sea/a.png")):
        save(tmp_path / "set" / name, seed=number)
    return tmp_path / "set"


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_with_its_remedy(folder, name):
    make, message = BAD[name]
    make(folder / "sea" / name)
    with pytest.raises(
        ValueError, match=f"1 bad files among the 4(.|\n)*sea/{name}: .*{message}(.|\n)*--skip-bad-files"
    ):
        read_folder(folder, 8)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_skipped_and_listed(folder, name, caplog):
    good = read_folder(folder, 8)
    BAD[name][0](folder / "sea" / name)
    with caplog.at_level(logging.WARNING, "minissl.data"):
        data = read_folder(folder, 8, skip_bad_files=True)
    assert len(data.skipped) == 1
    assert f"sea/{name}: " in data.skipped[0]
    assert [record.name for record in caplog.records] == ["minissl.data"]
    assert "skipped 1 bad files" in caplog.text
    assert name in caplog.text
    for key in good.arrays:
        np.testing.assert_array_equal(data[key], good[key])


def test_undecodable_files_leave_no_gap(folder):
    truncate(folder / "forest" / "1.bmp")
    truncate(folder / "sea" / "aa.bmp")
    data = read_folder(folder, 8, skip_bad_files=True)
    assert data["path"].tolist() == ["forest/2.PNG", "sea/a.png", "sea/b.png"]
    for path, image in zip(data["path"], data["images"], strict=True):
        np.testing.assert_array_equal(image, np.asarray(Image.open(folder / path)))


def test_all_bad_files_are_listed_at_once_up_to_ten(folder):
    for number in range(13):
        (folder / "sea" / f"empty{number:02}.jpg").touch()
    with pytest.raises(ValueError, match="13 bad files") as caught:
        read_folder(folder, 8)
    assert [f"empty{n:02}.jpg" in str(caught.value) for n in range(13)] == [True] * 10 + [False] * 3
    assert "and 3 more" in str(caught.value)
    assert isinstance(caught.value.__cause__, BadFile)
    assert caught.value.__cause__.path == folder / "sea" / "empty00.jpg"


def test_bad_files_are_listed_by_path_whichever_pass_found_them(folder):
    (folder / "sea" / "2.jpg").touch()
    truncate(folder / "sea" / "1.bmp")
    (folder / "desert").mkdir()
    skipped = read_folder(folder, 8, skip_bad_files=True).skipped
    assert [Path(line.split(": ")[0]).name for line in skipped] == ["desert", "1.bmp", "2.jpg"]


def test_nothing_left_after_skipping_is_an_error(tmp_path):
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ValueError, match=r"no image is left after skipping 1 bad files.*empty\.jpg"):
        read_folder(tmp_path, 8, skip_bad_files=True)


def test_an_empty_class_folder_is_named_or_skipped(folder):
    (folder / "desert").mkdir()
    (folder / "desert" / "Thumbs.db").touch()
    with pytest.raises(ValueError, match="desert: a class folder without images; add its images, or remove it"):
        read_folder(folder, 8)
    data = read_folder(folder, 8, skip_bad_files=True)
    assert data.classes == ("forest", "sea")
    assert "desert" in data.skipped[0]


def test_an_image_beside_the_classes_and_a_folder_inside_one_are_named(folder):
    save(folder / "overview.png")
    save(folder / "sea" / "north" / "1.png")
    with pytest.raises(
        ValueError,
        match=r"overview\.png: lies beside the class folders; move it(.|\n)*"
        r"sea: a class folder that holds a folder, 'north'; give .*sea as PATH",
    ):
        read_folder(folder, 8)


def test_a_wrong_path_says_what_was_expected(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere is not there; expected a folder: PATH/<class>/image\.jpg"):
        read_folder(tmp_path / "nowhere", 8)
    with pytest.raises(ValueError, match=r"one\.png is a file; expected a folder"):
        read_folder(save(tmp_path / "one.png"), 8)
    (tmp_path / "void").mkdir()
    with pytest.raises(ValueError, match="void holds no images"):
        read_folder(tmp_path / "void", 8)
    with pytest.raises(ValueError, match="size must be at least 1 pixel, got 0"):
        read_folder(tmp_path, 0)


def test_a_decompression_bomb_is_refused_by_name(folder, monkeypatch):
    save(folder / "sea" / "huge.png", size=(40, 40))
    message = r"huge\.png: too large an image \(.*cut it into tiles"
    with pytest.raises(ValueError, match=message):
        read_folder(folder, 8, max_pixels=1000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow warns above this and refuses above twice this
    with pytest.raises(ValueError, match=message):
        read_folder(folder, 8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    with pytest.raises(ValueError, match=message):
        read_folder(folder, 8)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_images_labels_and_paths_in_order_for_any_number_of_workers(folder, workers):
    (folder / "readme.txt").touch()
    (folder / ".hidden.png").touch()
    (folder / "__MACOSX").mkdir()
    (folder / "sea" / "link.png").symlink_to(folder / "sea" / "a.png")
    data = read_folder(folder, 8, workers)
    assert data["path"].tolist() == ["forest/2.PNG", "sea/a.png", "sea/b.png"]
    assert data.classes == ("forest", "sea")
    assert data["labels"].tolist() == [0, 1, 1]
    assert (data["images"].shape, data["images"].dtype, data.name) == ((3, 8, 8, 3), np.uint8, "set")
    np.testing.assert_array_equal(data["images"][1], np.asarray(Image.open(folder / "sea" / "a.png")))
    assert "part" not in data
    assert data.skipped == []


def test_top_folders_called_train_val_and_test_are_the_parts(tmp_path):
    for name in ("train/sea/2.png", "test/sea/1.png", "train/forest/3.png", "val/forest/4.png"):
        save(tmp_path / name)
    data = read_folder(tmp_path, 8)
    assert data["path"].tolist() == ["test/sea/1.png", "train/forest/3.png", "train/sea/2.png", "val/forest/4.png"]
    assert data["part"].tolist() == [2, 0, 0, 1]
    assert data["labels"].tolist() == [1, 0, 1, 0]


def test_a_class_may_be_called_train(tmp_path):
    for name in ("bus/1.png", "train/2.png"):
        save(tmp_path / name)
    assert read_folder(tmp_path, 8).classes == ("bus", "train")


def test_images_without_class_folders_have_no_labels(tmp_path):
    save(tmp_path / "1.png")
    data = read_folder(tmp_path, 8)
    assert "labels" not in data
    assert data.classes == ()


def test_parts_with_and_without_class_folders_are_refused(tmp_path):
    save(tmp_path / "train" / "sea" / "1.png")
    save(tmp_path / "test" / "2.png")
    with pytest.raises(ValueError, match="parts with and parts without class folders"):
        read_folder(tmp_path, 8)


def test_an_all_grey_set_has_one_channel(tmp_path):
    save(tmp_path / "1.png", "L")
    data = read_folder(tmp_path, 8)
    np.testing.assert_array_equal(data["images"][0, :, :, 0], np.asarray(Image.open(tmp_path / "1.png")))


def test_resizing_averages_and_crops_to_the_middle(tmp_path):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, 8:24] = np.indices((16, 16)).sum(0)[:, :, None] % 2 * 255  # a checkerboard: its mean is grey
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    image = read_folder(tmp_path, 2)["images"][0]
    assert image.shape == (2, 2, 3)
    assert np.abs(image.astype(int) - 127).max() <= 8


def test_a_large_jpeg_decoded_at_reduced_scale_keeps_its_detail(tmp_path):
    stripes = np.broadcast_to((np.arange(512) // 8 % 2 * 200 + 20)[:, None], (512, 512, 3)).astype(np.uint8)
    Image.fromarray(stripes).save(tmp_path / "stripes.jpg", quality=95)
    image = read_folder(tmp_path, 128)["images"][0]  # stripes of 2 pixels
    expected = Image.open(tmp_path / "stripes.jpg").resize((128, 128), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(image.astype(int), np.asarray(expected), atol=12)


def test_a_set_above_the_memory_limit_is_mapped(folder):
    truncate(folder / "forest" / "1.bmp")
    mapped = read_folder(folder, 8, skip_bad_files=True, memory_limit=100)
    assert isinstance(mapped["images"], np.memmap)
    np.testing.assert_array_equal(mapped["images"], read_folder(folder, 8, skip_bad_files=True)["images"])
