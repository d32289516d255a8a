"""A time series of one place, in NumPy files: a patch of eo-learn, whose arrays are called features.

    PATH/timestamps.json    ["2015-07-11T10:00:08", ...], T of them
    PATH/NDVI.npy           (T, H, W, C): what was measured, here an index; or BANDS-S2-L1C, ...
    PATH/IS_VALID.npy       (T, H, W, 1) where that can be used; or CLM, where clouds are
    PATH/LULC.npy           (H, W, 1)    land cover
    PATH/bbox.geojson       where it lies

The arrays may lie in the folders of their kinds too, as eo-learn writes them: PATH/data/NDVI.npy, PATH/mask/CLM.npy.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from minissl.data.dataset import DataSet
from minissl.data.rasters.patches import BANDS, day_of_year, location
from minissl.data.rasters.place import Place

KINDS = ("", "data", "mask", "mask_timeless")
TIMES, BOX = "timestamps.json", "bbox.geojson"


def read_series(path: str | os.PathLike[str], names: Mapping[str, str] | None = None) -> DataSet:
    """A place as a data set of one row, N = 1.

    "seasons" (1, T, H, W, C) is the one feature of floats over time, mapped, or the one that `names` says:
    {"seasons": "NDVI"}; whole numbers are reflectance x 10,000. "days" (1, T); "valid" (1, T, H, W) uint8, 1 where
    IS_VALID, or where not CLM; "masks" (1, H, W) uint8, LULC; "location" (1, 2); each where the files are there.
    "images" (1, H, W, C) is the date with most valid pixels, the first if nothing tells. `names` may rename "valid" and
    "masks" alike. `bands` are those of Sentinel-2 if there are 13, else the feature's name, numbered if C > 1.

    Raises ValueError, naming file and remedy, for a folder without timestamps, arrays of other shapes, NaN, and no
    feature or several to choose from.
    """
    root = Path(path).expanduser()
    files = {file.stem: file for kind in KINDS for file in sorted((root / kind).glob("[!.]*.npy"))}
    times = _json(root / TIMES)
    if not isinstance(times, list) or not times:
        raise ValueError(f"{root / TIMES} must hold a list of dates, got {str(times)[:60]}; correct it")
    T, names = len(times), dict(names or {})
    feature = names.get("seasons") or _only_feature(root, files, T)
    measured = _load(root, files, feature)
    if measured.ndim != 4 or len(measured) != T:
        shape = f"({T}, H, W, C), one for each time in {TIMES}"
        raise ValueError(
            f"{files[feature]} must be {shape}, got {measured.shape}; choose another feature, or correct it"
        )
    if measured.dtype.kind != "f":
        measured = (np.asarray(measured, np.float32) / 10_000).clip(0, 1)
    elif holes := int(np.count_nonzero(~np.isfinite(measured))):
        raise ValueError(f"{files[feature]} holds {holes} values that are NaN or infinite; interpolate them over time")
    _, H, W, C = measured.shape
    arrays = {"seasons": measured[None], "days": np.array([[day_of_year(time) for time in times]], np.int16)}
    valid = _valid(root, files, names.get("valid"))
    if valid is not None:
        arrays["valid"] = _shaped(root, "valid", valid, (T, H, W))
    best = int(arrays["valid"].mean(axis=(0, 2, 3)).argmax()) if valid is not None else 0
    arrays["images"] = arrays["seasons"][:, best]
    if "masks" in names or "LULC" in files:
        arrays["masks"] = _shaped(root, "masks", _load(root, files, names.get("masks", "LULC")), (H, W))
    if (root / BOX).is_file():
        arrays["location"] = location(_box(root / BOX))[None]
    bands = BANDS if len(BANDS) == C else (feature,) if C == 1 else tuple(f"{feature} {c + 1}" for c in range(C))
    return DataSet(arrays | {"path": np.array([root.resolve().name])}, (), root.resolve().name, bands=bands)


def _only_feature(root: Path, files: Mapping[str, Path], T: int) -> str:
    shapes = {name: _load(root, files, name) for name in files}
    found = [name for name, array in shapes.items() if array.dtype.kind == "f" and array.ndim == 4 and len(array) == T]
    if len(found) == 1:
        return found[0]
    there = found or {name: array.shape for name, array in shapes.items()}
    raise ValueError(
        f"{root}: expected one feature of floats (T, H, W, C) with T = {T} times, got {there}; "
        "say which one: names={'seasons': 'NDVI'}"
    )


def _load(root: Path, files: Mapping[str, Path], name: str) -> np.ndarray:
    if name not in files:
        raise ValueError(f"{root} has no feature {name!r}; it has {sorted(files)}")
    try:
        return np.lib.format.open_memmap(files[name], mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{files[name]} cannot be read ({error}); save a plain array of numbers") from error


def _valid(root: Path, files: Mapping[str, Path], name: str | None) -> np.ndarray | None:
    if name or "IS_VALID" in files:
        return _load(root, files, name or "IS_VALID") != 0
    return _load(root, files, "CLM") == 0 if "CLM" in files else None


def _shaped(root: Path, key: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An array (..., 1) of small numbers as (1, ...) uint8."""
    if array.shape != (*shape, 1) or array.min() < 0 or array.max() > 255:
        expected = f"numbers from 0 to 255 of shape {(*shape, 1)}"
        raise ValueError(
            f"{root}: expected {expected} for {key!r}, got {array.dtype} of shape {array.shape}; correct it"
        )
    return np.asarray(array[..., 0], np.uint8)[None]


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}); write it again") from error


def _box(path: Path) -> Place:
    try:
        told = json.loads(path.read_text())
        crs = int(told["crs"]["properties"]["name"].split(":")[-1])
        corners = np.array(told["coordinates"][0], float)
        (left, bottom), (right, top) = corners.min(axis=0), corners.max(axis=0)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{path} is not a box with a reference system ({error}); correct or remove it") from error
    return Place(crs, left, top, right, bottom)
