"""Folders of images: PATH/<class>/image.jpg, as EuroSAT, RSSCN7 and UC Merced come.

A set is read in two passes. The first opens every file and looks at its header only, so that the common size and kind
are known; the second decodes. A file that doesn't fit is never repaired in silence: it is either an error, which lists
all such files with a remedy for each, or skipped, counted and listed.
"""

import os
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from minissl.data.badfiles import BadFile, close_gaps, common, each, pixels, settle
from minissl.data.dataset import MEMORY_LIMIT, DataSet, allocate

EXTENSIONS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".jp2")
LAYOUT = "PATH/<class>/image.jpg, PATH/{train,validation,test}/<class>/image.jpg, or without labels PATH/image.jpg"
PART_FOLDERS = {"train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}  # folder name -> index into PARTS
MAX_PIXELS = 50_000_000
KINDS = {"L": "grey", "P": "palette", "1": "1-bit", "RGBA": "transparent RGB", "LA": "transparent grey"}


class Found(NamedTuple):
    """An image file and what its folders say of it: a class name and an index into PARTS, or None."""

    path: Path
    class_name: str | None
    part: int | None


class Header(NamedTuple):
    """What the first pass learns of an image: Pillow's mode, and its size, width first."""

    mode: str
    size: tuple[int, int]


def read_folder(
    path: str | os.PathLike[str],
    size: int,
    workers: int = 2,
    skip_bad_files: bool = False,
    max_pixels: int = MAX_PIXELS,
    memory_limit: int = MEMORY_LIMIT,
) -> DataSet:
    """Decode a folder of images into "images", (N, size, size, C) uint8, in the order of their paths.

    Also "path", (N,), relative to the folder; "labels", (N,) int64, into the sorted class names, if there are class
    folders; "part", (N,) uint8, if the top folders are called train, validation (or val) and test. An image that is
    not square is cropped to its middle square, then resized by antialiased bilinear filtering. Hidden files, links and
    files without one of the `EXTENSIONS` are not looked at. `workers` threads decode. Above `memory_limit` bytes the
    images are mapped onto a temporary file.

    All images must be 8-bit RGB, or all 8-bit grey (C = 1), and of one size: whatever most of them are. Bad files are
    those that differ, cannot be decoded or exceed `max_pixels` (or Pillow's own, higher limit), and class folders
    without images. They raise one ValueError that lists them, or with `skip_bad_files` are listed in
    `DataSet.skipped` and in one warning of the logger "minissl.data".
    """
    root = Path(path).expanduser()
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel, got {size}")
    found, bad = find_images(root)
    with warnings.catch_warnings(), ThreadPoolExecutor(max(workers, 1)) as pool:
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        headers = each(pool, lambda entry: _read_header(entry.path, max_pixels), found, bad)
        channels = len(common((header.mode for header in headers.values()), "RGB"))  # 1 for "L", grey
        rows = {entry: row for row, entry in enumerate(_alike(headers, bad))}
        images = allocate((len(rows), size, size, channels), np.dtype(np.uint8), memory_limit)

        def decode(entry: Found) -> int:
            images[rows[entry]] = _decode(entry.path, size).reshape(size, size, channels)
            return rows[entry]

        decoded = each(pool, decode, rows, bad)

    skipped = settle(bad, root, len(found), len(decoded), "image", skip_bad_files)
    images = close_gaps(images, list(decoded.values()))
    arrays = {"images": images, "path": np.array([relative(entry.path, root) for entry in decoded])}
    arrays |= labels_and_parts(list(decoded))
    classes = class_names(decoded)
    return DataSet(arrays, classes, root.resolve().name, skipped)


def class_names(entries: Iterable[Found]) -> tuple[str, ...]:
    """The sorted names of the class folders, if there are any."""
    return tuple(sorted({entry.class_name for entry in entries if entry.class_name is not None}))


def labels_and_parts(entries: Sequence[Found]) -> dict[str, np.ndarray]:
    """What the folders tell: "labels", (N,) int64 into `class_names`, and "part", (N,) uint8, each only if known."""
    arrays = {}
    if classes := class_names(entries):
        labels = {name: label for label, name in enumerate(classes)}
        arrays["labels"] = np.array([labels[entry.class_name or ""] for entry in entries], np.int64)
    if entries[0].part is not None:
        arrays["part"] = np.array([entry.part for entry in entries], np.uint8)
    return arrays


def find_images(root: Path) -> tuple[list[Found], list[BadFile]]:
    """All image files below `root`, in the order of their paths, and what doesn't fit the layout."""
    if not root.is_dir():
        raise ValueError(f"{root} is {'a file' if root.exists() else 'not there'}; expected a folder: {LAYOUT}")
    images, folders = _listing(root)
    names = {folder.name.lower() for folder in folders}
    bad: list[BadFile] = []
    if "train" in names and names <= PART_FOLDERS.keys():
        found = [entry for f in folders for entry in _find_classes(f, PART_FOLDERS[f.name.lower()], bad)]
        bad += [BadFile(image, "lies beside the parts", "move it into one of them, or away") for image in images]
    else:
        found = _find_classes(root, None, bad)
    if not found and not bad:
        raise ValueError(f"{root} holds no images {EXTENSIONS} (hidden files and links don't count); expected {LAYOUT}")
    if len({entry.class_name is None for entry in found}) > 1:
        raise ValueError(f"{root} has parts with and parts without class folders; expected {LAYOUT}")
    return found, bad


def _find_classes(folder: Path, part: int | None, bad: list[BadFile]) -> list[Found]:
    images, class_folders = _listing(folder)
    if not class_folders:
        return [Found(image, None, part) for image in images]
    bad += [BadFile(image, "lies beside the class folders", "move it into one of them, or away") for image in images]
    found = []
    for class_folder in class_folders:
        inside, deeper = _listing(class_folder)
        found += [Found(image, class_folder.name, part) for image in inside]
        if deeper:
            remedy = f"give {class_folder} as PATH if its folders are the classes, else move their images up"
            bad.append(BadFile(class_folder, f"a class folder that holds a folder, {deeper[0].name!r}", remedy))
        elif not inside:
            bad.append(BadFile(class_folder, "a class folder without images", "add its images, or remove it"))
    return found


def _listing(folder: Path) -> tuple[list[Path], list[Path]]:
    """The images and the folders in a folder, by name, less what is hidden or a link."""
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    entries = [entry for entry in entries if not (entry.name.startswith((".", "__")) or entry.is_symlink())]
    images = [entry for entry in entries if entry.suffix.lower() in EXTENSIONS and entry.is_file()]
    return images, [entry for entry in entries if entry.is_dir()]


def _read_header(path: Path, max_pixels: int) -> Header:
    """The first pass. Raises BadFile for all that isn't an 8-bit RGB or grey image of at most `max_pixels`."""
    if path.stat().st_size == 0:
        raise BadFile(path, "an empty file (0 bytes)", "download it again, or remove it")
    try:
        with Image.open(path) as image:
            # Pillow cuts a 16-bit RGB image to 8 bits without a word; only the mode in the file, "RGB;16B", tells.
            mode, size, stored = image.mode, image.size, str([tile[3] for tile in image.tile])
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BadFile(path, f"too large an image ({error})", "cut it into tiles") from error
    except Exception as error:  # decoders raise nearly anything on bytes they don't expect
        raise BadFile(path, f"not a readable image ({error})", "download it again, or remove it") from error
    if size[0] * size[1] > max_pixels:
        raise BadFile(
            path, f"too large an image ({pixels(*size[::-1])}, at most {max_pixels:,} in all)", "cut it into tiles"
        )
    if ";16" in mode + stored or mode in ("I", "F"):
        raise BadFile(path, "a 16-bit (or deeper) image", "scale its values to 0..255 and convert it to 8-bit RGB")
    if mode not in ("RGB", "L"):
        raise BadFile(path, f"a {KINDS.get(mode, mode)} image", "convert it to 8-bit RGB")
    return Header(mode, size)


def _alike(headers: dict[Found, Header], bad: list[BadFile]) -> list[Found]:
    """The entries that are of the most common mode and size; the others are appended to `bad`."""
    mode = common((header.mode for header in headers.values()), "RGB")
    size = common((header.size for header in headers.values()), (0, 0))
    kind, alike = KINDS.get(mode, mode), []
    for entry, header in headers.items():
        if header.mode != mode:
            reason = f"expected {kind} like the others, got {KINDS.get(header.mode, header.mode)}"
            bad.append(BadFile(entry.path, reason, f"convert it to 8-bit {kind}"))
        elif header.size != size:
            reason = f"expected {pixels(*size[::-1])} like the others, got {pixels(*header.size[::-1])}"
            bad.append(BadFile(entry.path, reason, "resize or crop it, or remove it"))
        else:
            alike.append(entry)
    return alike


def _decode(path: Path, size: int) -> np.ndarray:
    """The second pass: the middle square of an image, resized to (size, size) or (size, size, 3) uint8."""
    try:
        with Image.open(path) as image:
            image.draft(None, (2 * size, 2 * size))  # JPEG only: decode at 1/2, 1/4 or 1/8 where that still suffices
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            square = image.crop((left, top, left + side, top + side))
            return np.asarray(square.resize((size, size), Image.Resampling.BILINEAR))
    except Exception as error:  # as in _read_header
        raise BadFile(path, f"a truncated or corrupt image ({error})", "download it again, or remove it") from error


def relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
