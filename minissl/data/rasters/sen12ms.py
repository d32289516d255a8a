"""SEN12MS (Schmitt et al. 2019, doi:10.5194/isprs-annals-IV-2-W7-153-2019) and the DFC2020 set that looks like it.

    PATH/ROIs1158_spring/s2_1/ROIs1158_spring_s2_1_p30.tif    13 bands of Sentinel-2, uint16
    PATH/ROIs1158_spring/s1_1/ROIs1158_spring_s1_1_p30.tif    VV and VH, dB
    PATH/ROIs1158_spring/lc_1/ROIs1158_spring_lc_1_p30.tif    4 maps of land cover, IGBP classes first
    PATH/ROIs0000_validation/dfc_validation/ROIs0000_validation_dfc_0_p0.tif   DFC2020: 1 map of its ten classes

Land cover is told in the ten classes of DFC2020, into which those of IGBP are grouped as in the baseline of that
contest (github.com/lukasliebel/dfc2020_baseline, code/datasets.py), and alike in classification/dataset.py of
github.com/schmitt-muc/SEN12MS, where a class is in a multi-label from 10% of the pixels on.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minissl.data.badfiles import BadFile
from minissl.data.dataset import MEMORY_LIMIT, DataSet
from minissl.data.rasters.geotiff import read_geotiff, read_size
from minissl.data.rasters.patches import (
    BANDS,
    LEAVE_OUT,
    Patch,
    Row,
    Size,
    backscatter,
    check_place,
    location,
    read_as,
    read_patches,
    reflectance,
)

LAYOUT = "PATH/ROIs1158_spring/{s2,s1,lc}_1/ROIs1158_spring_{s2,s1,lc}_1_p30.tif"
SEASON = re.compile(r"ROIs\d+_[a-z]+")
NAME = re.compile(rf"({SEASON.pattern})_(s1|s2|lc|dfc)_(\w+)_p(\d+)\.tiff?")
CONTEST = "ROIs0000"  # DFC2020; its patches are numbered through, whatever place they show

CLASSES = (
    "Forest",
    "Shrubland",
    "Savanna",
    "Grassland",
    "Wetlands",
    "Croplands",
    "Urban/Built-up",
    "Snow/Ice",
    "Barren",
    "Water",
)
NONE = 255  # in masks: no class
# IGBP class -> CLASSES: five forests, two shrublands, two savannas, ..., 12 croplands and 14 their mosaics, ...
GROUPED = np.full(256, NONE, np.uint8)
GROUPED[1:18] = (0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 5, 7, 8, 9)
CONTEST_CLASSES = np.full(256, NONE, np.uint8)
CONTEST_CLASSES[1:11] = range(10)
UNCLASSIFIED = (0, 255)
PRESENT = 0.1  # of the pixels


@dataclass(frozen=True, eq=False)
class Triplet(Patch):
    """What is known of one patch: up to three files, and the scene that it is cut from."""

    scene: str


def read_sen12ms(
    path: str | os.PathLike[str],
    workers: int = 2,
    skip_bad_files: bool = False,
    memory_limit: int = MEMORY_LIMIT,
) -> DataSet:
    """Patches of all seasons below `path`, which may also be one season's folder.

    "images" (N, H, W, 13), reflectance; "sar" (N, H, W, 2) and "sar_missing" (N,) if there are s1 folders; if there are
    lc or dfc folders, "masks" (N, H, W), an index into CLASSES or 255 for none (dfc wins over lc), "labels", the class
    of most pixels (of equals the first), and "multi_labels" (N, 10), those of at least 10% of them; "location".

    "scene" (N,) says what a patch is cut from: neighbours overlap by half, so a split must not part a scene (DFC2020
    does not tell: there each patch is one). What one patch has all need: one without its partner is a bad file, as is
    one whose files lie in different places or whose mask holds other numbers.
    """
    root = Path(path).expanduser()
    bad: list[BadFile] = []
    triplets = _find(root, bad)
    kept, arrays, skipped = read_patches(
        root, triplets, lambda triplet: read_size(triplet.path), _read, bad, workers, skip_bad_files, memory_limit
    )
    arrays["scene"] = np.array([triplet.scene for triplet in kept])
    classes = CLASSES if "masks" in arrays else ()
    return DataSet(arrays, classes, root.resolve().name, skipped, classes, BANDS)


def season_folders(root: Path) -> list[Path]:
    """The folders of seasons in `root`, or `root` if it is one."""
    if SEASON.fullmatch(root.resolve().name):
        return [root]
    return sorted(entry for entry in root.iterdir() if SEASON.fullmatch(entry.name) and entry.is_dir())


def _find(root: Path, bad: list[BadFile]) -> list[Triplet]:
    """The patches by season, scene and number; what lacks a partner is bad."""
    groups: dict[tuple[str, str, int], dict[str, Path]] = {}
    for folder in season_folders(root):
        for file in sorted(file for file in folder.glob("*/[!.]*") if file.suffix in (".tif", ".tiff")):
            if name := NAME.fullmatch(file.name):
                season, kind, scene, number = name.groups()
                groups.setdefault((season, scene, int(number)), {})[kind] = file
            else:
                bad.append(BadFile(file, "its name does not fit the layout", "expected ROIs1158_spring_s2_1_p30.tif"))
    kinds = {kind for files in groups.values() for kind in files}
    if "s2" not in kinds:
        raise ValueError(f"{root} holds no patches of Sentinel-2; expected {LAYOUT}")
    needed = kinds - ({"lc"} if "dfc" in kinds else set())
    triplets = []
    for (season, scene, number), files in sorted(groups.items()):
        if missing := sorted(needed - files.keys()):
            path = next(iter(files.values()))
            bad.append(BadFile(path, f"has no partner in {', '.join(missing)}", "add it, or remove this one"))
        else:
            place = f"{season}/{scene}" + (f"/{number}" if season.startswith(CONTEST) else "")
            triplets.append(Triplet(files["s2"], {kind: files[kind] for kind in needed}, place))
    return triplets


def _read(triplet: Triplet, size: Size) -> Row:
    raster = read_as(triplet.path, len(BANDS), size)
    row: Row = {"images": reflectance(raster, triplet.path)}
    row["location"] = location(raster.place)
    if "s1" in triplet.files:
        row |= backscatter(read_as(triplet.files["s1"], 2, size, raster.place), triplet.files["s1"])
    for kind, grouped in (("lc", GROUPED), ("dfc", CONTEST_CLASSES)):
        if kind in triplet.files:
            file = triplet.files[kind]
            cover = read_geotiff(file)
            check_place(file, cover.place, raster.place)
            row |= land_cover(cover.values[..., 0], grouped, size, file)
    return row


def land_cover(codes: np.ndarray, grouped: np.ndarray, size: Size, path: Path) -> Row:
    """A map of codes as the mask, label and multi-label of a patch."""
    codes = np.nan_to_num(codes, nan=UNCLASSIFIED[0])  # NaN stands for the file's own no-data value
    known = np.isin(codes, [*np.flatnonzero(grouped != NONE), *UNCLASSIFIED])
    if codes.shape != size or not known.all():
        found = f"holds {np.unique(codes[~known])[:5].tolist()}" if codes.shape == size else f"has shape {codes.shape}"
        numbers = np.flatnonzero(grouped != NONE)
        raise BadFile(path, f"{found}, no land cover {numbers[0]} to {numbers[-1]} of shape {size}", "replace it")
    mask = grouped[codes.astype(np.uint8)]
    share = np.bincount(mask.ravel(), minlength=NONE + 1)[: len(CLASSES)] / mask.size
    if not share.any():
        raise BadFile(path, "holds no class at all", LEAVE_OUT)
    return {"masks": mask, "labels": np.int64(share.argmax()), "multi_labels": (share >= PRESENT).astype(np.uint8)}
