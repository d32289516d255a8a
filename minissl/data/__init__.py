"""Data: embedded scenes, folders of images, rasters and arrays, and named downloads, all as a DataSet; and the Loader.

data = open_data("scenes", size=64)                  or "eurosat", or a path
for batch in Loader(data.part("train"), 256).epoch(0):
    batch["images"]                                  (256, 64, 64, C)
"""

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minissl.data.badfiles import BadFile
from minissl.data.band_statistics import BandStatistics, statistics
from minissl.data.dataset import PARTS, DataSet, check_range, evenly
from minissl.data.download import DOWNLOADS, DownloadFailed, fetch
from minissl.data.folder import read_folder
from minissl.data.loader import Loader
from minissl.data.rasters import READERS, read_bigearthnet, read_eurosat, read_seco, read_sen12ms, recognise
from minissl.data.series import read_series
from minissl.data.splits import hashed_parts
from minissl.data.stack import read_stack, write_stack

__all__ = [
    "DOWNLOADS",
    "LAYOUTS",
    "PARTS",
    "BadFile",
    "BandStatistics",
    "DataSet",
    "DownloadFailed",
    "Loader",
    "check_range",
    "evenly",
    "fetch",
    "hashed_parts",
    "open_data",
    "read_bigearthnet",
    "read_eurosat",
    "read_folder",
    "read_seco",
    "read_sen12ms",
    "read_series",
    "read_stack",
    "statistics",
    "write_stack",
]

LAYOUTS: dict[str, Callable[..., DataSet]] = {
    "images": read_folder,
    "stack": read_stack,
    "series": read_series,
    **READERS,
}

logger = logging.getLogger("minissl.data")


def open_data(
    name_or_path: str | os.PathLike[str],
    size: int = 64,
    seed: int = 0,
    count: int = 2000,
    workers: int = 2,
    skip_bad_files: bool = False,
    layout: str | None = None,
    options: Mapping[str, Any] | None = None,
    **of_scenes: Any,
) -> DataSet:
    """Open a data set by name or path; the result always has "images" and "part".

        "scenes"                   `count` embedded scenes of `size` pixels, drawn from `seed`; further keywords (bands,
                                   seasons, sar, clouds, ...) go to `scenes.generate`, and mean nothing to other data
        "eurosat"                  a named download (`DOWNLOADS`), then as a folder
        PATH                       a folder of images, decoded to `size` (see `read_folder`)
        PATH of Sentinel patches   as EuroSAT (13 bands), BigEarthNet, SEN12MS, DFC2020 or SeCo lay them out, at their
                                   own size (see `minissl.data.rasters`)
        PATH with timestamps.json  a time series of one place (see `read_series`)
        PATH.npz, PATH.npy, PATH   a stack, or a folder that holds images.npy, as it is: `size` is not used

    What a path holds is told by its names; `layout` says it where that fails: one of `LAYOUTS`. `options` go to the
    layout's reader, such as {"nomenclature": 19} for BigEarthNet or {"names": {"images": "s2"}} for a stack.

    A name wins over a folder of that name; write "./scenes" for the folder. Images are uint8, except in stacks, which
    keep their type, and Sentinel patches, which are float32. A set without a split of its own gets a fixed one, by a
    hash of what tells its places apart: each row's "scene" if it has any, else its "location", else its "path", else
    its row number. A set with a split that lacks a validation or test part gets it from its training part, by the same
    hash; a warning of the logger "minissl.data" says so. Labels without class names get their numbers as names. Raises
    ValueError for anything else, and what the reader of each kind raises.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"layout {layout!r} is not known; choose one of {', '.join(LAYOUTS)}")
    options = dict(options or {})
    if name_or_path == "scenes":
        from minissl.data import scenes

        dataset = scenes.generate(count, size, seed, **of_scenes)
    elif name_or_path in DOWNLOADS:
        dataset = read_folder(fetch(str(name_or_path)), size, workers, skip_bad_files)
    else:
        path = Path(name_or_path).expanduser()
        layout = layout or _layout(path)
        if layout == "images":
            options["size"] = size
        if layout not in ("stack", "series"):
            options |= {"workers": workers, "skip_bad_files": skip_bad_files}
        dataset = LAYOUTS[layout](path, **options)
    dataset.arrays["part"] = _complete_split(dataset)
    if "labels" in dataset and dataset["labels"].ndim == 1 and not dataset.classes:
        dataset.classes = tuple(map(str, range(int(dataset["labels"].max(initial=-1)) + 1)))
    return dataset


def _layout(path: Path) -> str:
    if path.suffix in (".npz", ".npy") or (path / "images.npy").is_file():
        return "stack"
    if (path / "timestamps.json").is_file():
        return "series"
    if path.is_dir():
        return recognise(path) or "images"
    names = ", ".join(map(repr, ("scenes", *DOWNLOADS)))
    raise ValueError(
        f"data {str(path)!r} is neither a name nor a path that exists; expected one of {names}, "
        "a folder of images, a .npz or .npy file, a folder with images.npy, or one of the Sentinel layouts"
    )


def _complete_split(dataset: DataSet) -> np.ndarray:
    """The part of each row, (N,): the set's own; what it lacks of validation and test is drawn from train by a hash."""
    own = dataset["part"] if "part" in dataset else np.zeros(len(dataset), np.uint8)
    missing = [part for part in (1, 2) if not (own == part).any()]
    if not missing:
        return own
    drawn = hashed_parts(_names(dataset))
    moved = (own == 0) & np.isin(drawn, missing)
    if "part" in dataset:
        names = " and ".join(PARTS[part] for part in missing)
        logger.warning("%s: no %s part; took %d of the training images for it", dataset.name, names, moved.sum())
    return np.where(moved, drawn, own)


def _names(dataset: DataSet) -> list[str]:
    """What tells the places of a data set apart, as text."""
    for key in ("scene", "location", "path"):
        if key in dataset:
            return [str(row) for row in dataset[key].tolist()]
    return [str(row) for row in range(len(dataset))]
