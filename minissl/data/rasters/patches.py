"""What all layouts of rasters share: units, pixels without a measurement, and how patches become the rows of arrays.

A set is read in two passes, as folders of images are. The first looks at one header per patch, so that the common size
is known; the second decodes, in threads, into arrays that are mapped onto files where they exceed memory.
"""

import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from minissl.data.badfiles import BadFile, close_gaps, common, each, pixels, settle
from minissl.data.dataset import allocate
from minissl.data.rasters.geotiff import Raster, read_geotiff
from minissl.data.rasters.place import SAME_GRID, Place, apart, middle

BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
LEVEL_2A = tuple(band for band in BANDS if band != "B10")  # atmospheric correction uses the cirrus band up
METRES = dict.fromkeys(("B2", "B3", "B4", "B8", "VV", "VH"), 10) | dict.fromkeys(("B1", "B9", "B10"), 60)  # others: 20
NO_DATA = "hold no data (no-data value, NaN, or 0 in every band)"
LEAVE_OUT = "leave the patch out"
Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Patch:
    """One row to be: the file or folder that names it, and the files that it is read from, by what they show."""

    path: Path
    files: Mapping[str, Path]


Found = TypeVar("Found", bound=Patch)
Row = dict[str, Any]


def read_patches(
    root: Path,
    patches: Sequence[Found],
    size_of: Callable[[Found], Size],
    read: Callable[[Found, Size], Row],
    bad: list[BadFile],
    workers: int,
    skip_bad_files: bool,
    memory_limit: int,
) -> tuple[list[Found], dict[str, np.ndarray], list[str]]:
    """The patches that could be read, their rows as arrays (with "path"), and what was skipped.

    Patches of another size than most are bad files. A "location" or "days" that is unknown for any patch, NaN or
    negative, is left out for all.
    """
    found = len(patches) + len(bad)
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        sizes = each(pool, size_of, patches, bad)
        size = common(sizes.values(), (0, 0))
        for patch, other in sizes.items():
            if other != size:
                reason = f"expected {pixels(*size)} like the others, got {pixels(*other)}"
                bad.append(BadFile(patch.path, reason, "crop it, or remove it"))
        rows = {patch: row for row, patch in enumerate(patch for patch in sizes if sizes[patch] == size)}
        arrays: dict[str, np.ndarray] = {}
        allocating = Lock()

        def fill(patch: Found) -> int:
            values = {key: np.asarray(value) for key, value in read(patch, size).items()}
            with allocating:
                for key in values.keys() - arrays.keys():
                    arrays[key] = allocate((len(rows), *values[key].shape), values[key].dtype, memory_limit)
            for key, value in values.items():
                arrays[key][rows[patch]] = value
            return rows[patch]

        filled = each(pool, fill, rows, bad)
    skipped = settle(bad, root, found, len(filled), "patch", skip_bad_files)
    arrays = {key: close_gaps(array, list(filled.values())) for key, array in sorted(arrays.items())}
    arrays["path"] = np.array([patch.path.relative_to(root).as_posix() for patch in filled])
    for key, known in (("location", np.isfinite), ("days", lambda days: days >= 0)):
        if key in arrays and not known(arrays[key]).all():
            del arrays[key]
    return list(filled), arrays, skipped


def read_as(path: Path, bands: int, size: Size, place: Place | None = None, tolerance: float = SAME_GRID) -> Raster:
    """A GeoTIFF of so many bands and this size, on the ground of `place` where both are known; else BadFile."""
    raster = read_geotiff(path)
    H, W, C = raster.values.shape
    if bands != C:
        raise BadFile(path, f"expected {bands} bands, got {C}", "download it again, or give the layout that it has")
    if size != (H, W):
        raise BadFile(path, f"expected {pixels(*size)}, got {pixels(H, W)}", "crop or resample it, or remove the patch")
    check_place(path, raster.place, place, tolerance)
    return raster


def check_place(path: Path, found: Place | None, expected: Place | None, tolerance: float = SAME_GRID) -> None:
    """BadFile where a file shows other ground than its partners."""
    if apart(expected, found, tolerance):
        reason = f"lies elsewhere than its partner: {found}, expected {expected}"
        raise BadFile(path, reason, "pair files of one place and reproject them to one grid, or remove the patch")


def read_bands(
    files: Mapping[str, Path],
    bands: Sequence[str],
    size: Size,
    place: Place | None = None,
    tolerance: float = SAME_GRID,
) -> Raster:
    """Bands in files of their own, each at its own 10, 20 or 60 m, at 10 m: (H, W, len(bands)).

    Coarser bands are resampled bilinearly. BadFile for missing bands (all named), and for one of another size, type, or
    place than `place`, or where that is unknown than the first.
    """
    if missing := [band for band in bands if not files[band].is_file()]:
        folder = files[missing[0]].parent
        raise BadFile(folder, f"has no file for {', '.join(missing)}", "download the patch again, or remove it")
    values, dtypes = np.empty((*size, len(bands)), np.float32), set()
    for c, band in enumerate(bands):
        coarse = METRES.get(band, 20) // 10
        raster = read_as(files[band], 1, (size[0] // coarse, size[1] // coarse), place, tolerance)
        place = place or raster.place
        dtypes.add(raster.dtype)
        values[..., c] = upsample(raster.values[..., 0], size)
    if len(dtypes) > 1:
        found = ", ".join(sorted(map(str, dtypes)))
        raise BadFile(files[bands[0]].parent, f"has bands of different types, {found}", "convert them to one")
    return Raster(values, dtypes.pop(), place)


def upsample(band: np.ndarray, size: Size) -> np.ndarray:
    """A band (h, w) at (H, W), bilinearly between the centres of its pixels."""
    if band.shape == size:
        return band
    return np.asarray(Image.fromarray(band).resize(size[::-1], Image.Resampling.BILINEAR))


def unmeasured(raster: Raster) -> np.ndarray:
    """Where there is no measurement, (H, W, C): NaN, infinite, or 0 in every band, which Sentinel products mean by it.

    In 8 bits 0 is a dark pixel like any other.
    """
    missing = ~np.isfinite(raster.values)
    return missing if raster.dtype == np.uint8 else missing | (raster.values == 0).all(axis=-1, keepdims=True)


def reflectance(raster: Raster, path: Path) -> np.ndarray:
    """Reflectance in [0, 1] from digital numbers, 10,000ths, or 255ths in 8 bits. BadFile where one is missing.

    Products since January 2022 (processing baseline 04.00) have 1,000 added, which no file tells: take it away first.
    """
    if raster.dtype.kind == "f":
        raise BadFile(path, f"holds {raster.dtype}, of unknown units", "save reflectance x 10,000 as uint16")
    if count := int(unmeasured(raster).any(axis=-1).sum()):
        total = raster.values.shape[0] * raster.values.shape[1]
        raise BadFile(path, f"{count} of {total} pixels {NO_DATA}", LEAVE_OUT)
    return (raster.values / (255 if raster.dtype == np.uint8 else 10_000)).clip(0, 1)


def backscatter(raster: Raster, path: Path) -> Row:
    """VV and VH in dB as "sar", and "sar_missing", the share of pixels without a measurement in one of them.

    Each such value is filled with the median of its channel in the patch. BadFile where more than half are missing, and
    where no value is below 0: that is linear power, not dB.
    """
    missing = unmeasured(raster)
    share = missing.any(axis=-1).mean()
    if share > 0.5:
        raise BadFile(path, f"{share:.0%} of its pixels {NO_DATA}", LEAVE_OUT)
    sar = np.where(missing, np.nan, raster.values)
    if not (sar < 0).any():
        raise BadFile(path, "no value is below 0: linear power, not dB", "save 10 log10(power)")
    return {"sar": np.where(missing, np.nanmedian(sar, axis=(0, 1)), sar), "sar_missing": np.float32(share)}


def location(place: Place | None) -> np.ndarray:
    """Latitude and longitude of a patch's middle, (2,) float32, NaN where unknown."""
    return np.array(middle(place), np.float32)


def day_of_year(text: str) -> int:
    """Of the first date in a text, 20170613 or 2017-06-13: 0 to 364 (the last two days of a leap year), or -1."""
    for year, month, day in re.findall(r"(?<!\d)(\d{4})-?(\d\d)-?(\d\d)(?!\d)", text):
        try:
            date = datetime.date(int(year), int(month), int(day))
        except ValueError:
            continue
        return min(date.timetuple().tm_yday, 365) - 1
    return -1
