"""BigEarthNet v1 and BigEarthNet-MM (Sumbul et al. 2019 and 2021): pairs of Sentinel-2 and Sentinel-1 patches.

    PATH/<any>/S2A_MSIL2A_20170613T101031_87_48/<patch>_B01.tif ... _B12.tif, <patch>_labels_metadata.json
    PATH/<any>/S1A_IW_GRDH_1SDV_20170613T165043_33UUP_87_48/<patch>_VV.tif, _VH.tif, <patch>_labels_metadata.json

The metadata of an S1 patch names its S2 patch. PATH may also be the folder of either sensor alone.
"""

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minissl.data.badfiles import BadFile, each
from minissl.data.dataset import MEMORY_LIMIT, DataSet
from minissl.data.rasters.geotiff import AGAIN, read_size
from minissl.data.rasters.patches import (
    LEVEL_2A,
    Patch,
    Row,
    Size,
    backscatter,
    check_place,
    day_of_year,
    location,
    read_bands,
    read_patches,
    reflectance,
)
from minissl.data.rasters.place import Place

LAYOUT = (
    "PATH/S2A_MSIL2A_20170613T101031_87_48/S2A_MSIL2A_20170613T101031_87_48_B01.tif ..., there or one folder deeper"
)
OPTICAL = re.compile(r"S2[AB]_MSIL2A_\d{8}T\d+_\d+_\d+")
RADAR = re.compile(r"S1[AB]_IW_GRDH_1SDV_\d{8}T\d+_\w+_\d+_\d+")

# The 43 classes of CORINE Land Cover that occur, in its order, and what each is called among the 19 of Sumbul et al.
# 2021 (arXiv:2105.07921), where eleven are left out; from label_indices.json in
# git.tu-berlin.de/rsim/BigEarthNet-S2_19-classes_models.
NINETEEN = {
    "Continuous urban fabric": "Urban fabric",
    "Discontinuous urban fabric": "Urban fabric",
    "Industrial or commercial units": "Industrial or commercial units",
    "Road and rail networks and associated land": None,
    "Port areas": None,
    "Airports": None,
    "Mineral extraction sites": None,
    "Dump sites": None,
    "Construction sites": None,
    "Green urban areas": None,
    "Sport and leisure facilities": None,
    "Non-irrigated arable land": "Arable land",
    "Permanently irrigated land": "Arable land",
    "Rice fields": "Arable land",
    "Vineyards": "Permanent crops",
    "Fruit trees and berry plantations": "Permanent crops",
    "Olive groves": "Permanent crops",
    "Pastures": "Pastures",
    "Annual crops associated with permanent crops": "Permanent crops",
    "Complex cultivation patterns": "Complex cultivation patterns",
    "Land principally occupied by agriculture, with significant areas of natural vegetation": (
        "Land principally occupied by agriculture, with significant areas of natural vegetation"
    ),
    "Agro-forestry areas": "Agro-forestry areas",
    "Broad-leaved forest": "Broad-leaved forest",
    "Coniferous forest": "Coniferous forest",
    "Mixed forest": "Mixed forest",
    "Natural grassland": "Natural grassland and sparsely vegetated areas",
    "Moors and heathland": "Moors, heathland and sclerophyllous vegetation",
    "Sclerophyllous vegetation": "Moors, heathland and sclerophyllous vegetation",
    "Transitional woodland/shrub": "Transitional woodland, shrub",
    "Beaches, dunes, sands": "Beaches, dunes, sands",
    "Bare rock": None,
    "Sparsely vegetated areas": "Natural grassland and sparsely vegetated areas",
    "Burnt areas": None,
    "Inland marshes": "Inland wetlands",
    "Peatbogs": "Inland wetlands",
    "Salt marshes": "Coastal wetlands",
    "Salines": "Coastal wetlands",
    "Intertidal flats": None,
    "Water courses": "Inland waters",
    "Water bodies": "Inland waters",
    "Coastal lagoons": "Marine waters",
    "Estuaries": "Marine waters",
    "Sea and ocean": "Marine waters",
}
TAGS = {43: tuple(NINETEEN), 19: tuple(dict.fromkeys(name for name in NINETEEN.values() if name))}


class Metadata(NamedTuple):
    """What the JSON of a patch tells."""

    labels: list[str]
    place: Place
    day: int  # of the year
    partner: str | None  # the S2 patch of an S1 patch


def read_bigearthnet(
    path: str | os.PathLike[str],
    workers: int = 2,
    skip_bad_files: bool = False,
    memory_limit: int = MEMORY_LIMIT,
    nomenclature: int = 43,
) -> DataSet:
    """Patches of 120x120 pixels at 10 m, with the labels of their metadata.

    "images" (N, H, W, 12), reflectance, the bands of 20 and 60 m resampled bilinearly; "sar" (N, H, W, 2) and
    "sar_missing" (N,) where there are S1 patches; "multi_labels" (N, K) into `tags`, the 43 names of the files or with
    `nomenclature=19` those of the data set's second version, in which a few patches have no label left (bad files);
    "days" (N, 1) of the S2 image; "location". A folder of S1 alone has VV and VH, in dB, for "images".

    Where there are patches of both sensors, one without its partner, or with one elsewhere, is a bad file.
    """
    if nomenclature not in TAGS:
        raise ValueError(f"nomenclature must be one of {sorted(TAGS)}, got {nomenclature!r}")
    root = Path(path).expanduser()
    folders = patch_folders(root)
    optical = [folder for folder in folders if OPTICAL.fullmatch(folder.name)]
    radar = [folder for folder in folders if RADAR.fullmatch(folder.name)]
    if not folders:
        raise ValueError(f"{root} holds no folders of patches; expected {LAYOUT}")
    bad: list[BadFile] = []
    if optical and radar:
        patches = _pairs(optical, radar, bad, workers)
    else:
        patches = [Patch(folder, _files(folder)) for folder in folders]

    def read(patch: Patch, size: Size) -> Row:
        row = _read(patch, size)
        return row | {"multi_labels": _multi_label(patch, row.pop("names"), nomenclature)}

    def size_of(patch: Patch) -> Size:
        return read_size(patch.files["B2" if "B2" in patch.files else "VV"])

    _, arrays, skipped = read_patches(root, patches, size_of, read, bad, workers, skip_bad_files, memory_limit)
    if not optical:
        arrays["images"] = arrays.pop("sar")
    bands = LEVEL_2A if optical else ("VV", "VH")
    return DataSet(arrays, (), root.resolve().name, skipped, TAGS[nomenclature], bands)


def patch_folders(root: Path) -> list[Path]:
    """The folders of patches in `root`, or in the folders of it, by path."""
    found = []
    for entry in sorted(root.iterdir()):
        if entry.is_dir() and not entry.name.startswith("."):
            inside = [entry] if _is_patch(entry) else sorted(folder for folder in entry.iterdir() if folder.is_dir())
            found += [folder for folder in inside if _is_patch(folder)]
    return found


def _is_patch(folder: Path) -> bool:
    return bool(OPTICAL.fullmatch(folder.name) or RADAR.fullmatch(folder.name))


def _files(folder: Path) -> dict[str, Path]:
    """What the files of a patch show. Of S1 the metadata are "radar metadata", so that a pair can have both."""
    if RADAR.fullmatch(folder.name):
        names = {"VV": "VV.tif", "VH": "VH.tif", "radar metadata": "labels_metadata.json"}
    else:
        numbered = {band: f"B{band[1:]:0>2}.tif" for band in LEVEL_2A}
        names = {**numbered, "metadata": "labels_metadata.json"}
    return {key: folder / f"{folder.name}_{name}" for key, name in names.items()}


def _pairs(optical: list[Path], radar: list[Path], bad: list[BadFile], workers: int) -> list[Patch]:
    """Each S2 patch with the S1 patch whose metadata name it; what has no partner is bad."""
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        told = each(pool, lambda folder: read_metadata(_files(folder)["radar metadata"]), radar, bad)
    partners: dict[str, Path] = {}
    names = {folder.name for folder in optical}
    for folder, metadata in told.items():
        partner = metadata.partner
        if partner not in names:
            bad.append(BadFile(folder, f"its Sentinel-2 patch {partner} is not there", "add it, or remove this one"))
        elif partner in partners:
            bad.append(
                BadFile(folder, f"{partners[partner].name} has the same partner, {partner}", "remove one of them")
            )
        else:
            partners[partner] = folder
    for folder in optical:
        if folder.name not in partners:
            bad.append(
                BadFile(folder, "no Sentinel-1 patch names it as its partner", "add that one, or remove this one")
            )
    return [
        Patch(folder, _files(folder) | _files(partners[folder.name])) for folder in optical if folder.name in partners
    ]


def read_metadata(path: Path) -> Metadata:
    """BadFile for a file that is missing, no JSON, or lacks labels, coordinates, projection or date."""
    try:
        told = json.loads(path.read_text())
        corners = told["coordinates"]
        bottom = corners["lry"] if "lry" in corners else corners["lly"]  # so the S1 metadata spell it
        crs = int(re.findall(r'AUTHORITY\["EPSG","(\d+)"\]', told["projection"])[-1])  # the outermost stands last
        place = Place(crs, *(float(edge) for edge in (corners["ulx"], corners["uly"], corners["lrx"], bottom)))
        date = told["acquisition_date"] if "acquisition_date" in told else told["acquisition_time"]
        return Metadata(list(told["labels"]), place, day_of_year(date), told.get("corresponding_s2_patch"))
    except OSError as error:
        raise BadFile(path, "is missing", AGAIN) from error
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise BadFile(path, f"not the metadata of a patch ({type(error).__name__}: {error})", AGAIN) from error


def _read(patch: Patch, size: Size) -> Row:
    """A row, with the patch's own label names under "names"."""
    files, row = patch.files, Row()
    told = [read_metadata(files[key]) for key in ("metadata", "radar metadata") if key in files]
    first = told[0]
    for metadata in told[1:]:
        check_place(files["radar metadata"], metadata.place, first.place)
    if "metadata" in files:
        row["images"] = reflectance(read_bands(files, LEVEL_2A, size, first.place), patch.path)
    if "VV" in files:
        row |= backscatter(read_bands(files, ("VV", "VH"), size, first.place), files["VV"].parent)
    day = np.array([first.day], np.int16)
    return row | {"location": location(first.place), "days": day, "names": first.labels}


def _multi_label(patch: Patch, names: list[str], nomenclature: int) -> np.ndarray:
    """The names as a vector of 0 and 1, (K,) uint8."""
    if unknown := [name for name in names if name not in NINETEEN]:
        raise BadFile(patch.path, f"has labels that CORINE lacks: {unknown}", "correct its metadata, or remove it")
    tags = TAGS[nomenclature]
    hot = np.zeros(len(tags), np.uint8)
    for name in names:
        tag = name if nomenclature == 43 else NINETEEN[name]
        if tag is not None:
            hot[tags.index(tag)] = 1
    if not hot.any():
        raise BadFile(patch.path, f"has none of the {nomenclature} classes, but {names}", "leave it out")
    return hot
