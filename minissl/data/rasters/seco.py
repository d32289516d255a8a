"""SeCo (Mañas et al. 2021, arXiv:2103.16607): the same places on several days, as its downloader writes them.

    PATH/000123/20190103T101409_20190103T101407_T32TLR/B1.tif ... B12.tif     12 bands, a place and a date each

Each band is at its own 10, 20 or 60 m, 264 pixels a side at 10 m, in 8 bits: 255 times reflectance
(github.com/ServiceNow/seasonal-contrast, datasets/seco_downloader.py, which writes corners half a pixel of each band
off). The files are compressed as JPEG, which needs imagecodecs; 16 bits of reflectance x 10,000 are read as well.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from minissl.data.badfiles import BadFile, common
from minissl.data.dataset import MEMORY_LIMIT, DataSet
from minissl.data.rasters.geotiff import read_size
from minissl.data.rasters.patches import (
    LEVEL_2A,
    Patch,
    Row,
    Size,
    check_place,
    day_of_year,
    location,
    read_bands,
    read_patches,
    reflectance,
)
from minissl.data.rasters.place import SAME_SPOT

LAYOUT = "PATH/<place>/<date>/B1.tif ... B12.tif, such as PATH/000123/20190103T101409_20190103T101407_T32TLR/B1.tif"


def read_seco(
    path: str | os.PathLike[str],
    workers: int = 2,
    skip_bad_files: bool = False,
    memory_limit: int = MEMORY_LIMIT,
) -> DataSet:
    """Places with as many dates as most of them have: "seasons" (N, T, H, W, 12), reflectance, in the order of dates.

    "images" (N, H, W, 12) are the first date of each, a view that costs no memory; "days" (N, T) and "location" where
    folders and files tell; "path" the folder of a place. Bands of 20 and 60 m are resampled bilinearly. A place with
    more or fewer dates is a bad file, as is one whose dates lie in different places.
    """
    root = Path(path).expanduser()
    bad: list[BadFile] = []
    places = {folder: list(subfolders(folder)) for folder in subfolders(root)}
    T = common((len(dates) for dates in places.values()), 0)
    if not T:
        raise ValueError(f"{root} holds no folders of places with folders of dates; expected {LAYOUT}")
    patches = []
    for folder, dates in places.items():
        if len(dates) == T:
            patches.append(Patch(folder, {date.name: date for date in dates}))
        else:
            bad.append(BadFile(folder, f"has {len(dates)} dates, the others {T}", "add or remove dates, or remove it"))
    _, arrays, skipped = read_patches(root, patches, _size, _read, bad, workers, skip_bad_files, memory_limit)
    arrays["images"] = arrays["seasons"][:, 0]
    return DataSet(arrays, (), root.resolve().name, skipped, bands=LEVEL_2A)


def subfolders(folder: Path) -> Iterator[Path]:
    """By name, without hidden ones."""
    return (entry for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.name.startswith("."))


def _size(patch: Patch) -> Size:
    return read_size(next(iter(patch.files.values())) / "B2.tif")


def _read(patch: Patch, size: Size) -> Row:
    dates = list(patch.files.values())
    seasons, places = np.empty((len(dates), *size, len(LEVEL_2A)), np.float32), []
    for t, date in enumerate(dates):
        raster = read_bands({band: date / f"{band}.tif" for band in LEVEL_2A}, LEVEL_2A, size, tolerance=SAME_SPOT)
        places.append(raster.place)
        check_place(date, raster.place, places[0], SAME_SPOT)
        seasons[t] = reflectance(raster, date)
    days = np.array([day_of_year(date.name) for date in dates], np.int16)
    return {"seasons": seasons, "days": days, "location": location(places[0])}
