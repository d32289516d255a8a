"""Sentinel patches in the files that they are distributed in, mostly GeoTIFF: one reader per layout.

    eurosat       PATH/<class>/image.tif, 13 bands                        images, labels
    bigearthnet   PATH/S2/<patch>/<patch>_B01.tif, PATH/S1/<patch>/...    images, sar, multi_labels, days
    sen12ms       PATH/ROIs1158_spring/s2_1/..._p30.tif, s1_1, lc_1       images, sar, masks, labels, multi_labels
    seco          PATH/<place>/<date>/B1.tif ... B12.tif                  seasons, images, days

All give reflectance in [0, 1] and backscatter in dB as float32, "path", and "location" where the files tell it. A file
that cannot be used is named in an error, or skipped and counted when asked: unreadable, missing or without its partner,
of another size or band count than the others, without measurements, or on other ground than its partner.
"""

from contextlib import suppress
from itertools import islice
from pathlib import Path

from PIL import Image

from minissl.data.badfiles import BadFile
from minissl.data.folder import EXTENSIONS
from minissl.data.rasters.bigearthnet import OPTICAL, RADAR, read_bigearthnet
from minissl.data.rasters.eurosat import INSIDE, read_eurosat
from minissl.data.rasters.geotiff import count_bands
from minissl.data.rasters.patches import BANDS
from minissl.data.rasters.seco import read_seco
from minissl.data.rasters.sen12ms import SEASON, read_sen12ms

__all__ = ["BANDS", "READERS", "read_bigearthnet", "read_eurosat", "read_seco", "read_sen12ms", "recognise"]

READERS = {"eurosat": read_eurosat, "bigearthnet": read_bigearthnet, "sen12ms": read_sen12ms, "seco": read_seco}


def recognise(root: Path) -> str | None:
    """The layout of a folder by names in it and one header, or None. It looks at a few of its folders only."""
    folders = _folders(root)
    names = {folder.name for folder in (root.resolve(), *folders)}
    if any(SEASON.fullmatch(name) for name in names):
        return "sen12ms"
    inside = [deeper for folder in folders for deeper in _folders(folder)]
    if any(OPTICAL.fullmatch(name) or RADAR.fullmatch(name) for name in names | {folder.name for folder in inside}):
        return "bigearthnet"
    if any((folder / "B2.tif").is_file() for folder in inside):
        return "seco"
    return "eurosat" if (root / INSIDE).is_dir() or _first_image_has_many_bands(root) else None


def _folders(root: Path, most: int = 20) -> list[Path]:
    """Some of the folders in a folder: there may be half a million."""
    return list(islice((entry for entry in root.iterdir() if entry.is_dir() and entry.name[0] != "."), most))


def _first_image_has_many_bands(root: Path) -> bool:
    entries = (entry for depth in ("*", "*/*", "*/*/*") for entry in root.glob(depth))
    first = next((entry for entry in entries if entry.suffix.lower() in EXTENSIONS and entry.name[0] != "."), None)
    if first is None or first.suffix.lower() not in (".tif", ".tiff"):
        return False
    try:
        return count_bands(first) > 4
    except BadFile:
        return False
    except ValueError:  # no tifffile: folders of RGB or grey TIFFs can do without
        with suppress(Exception), Image.open(first) as image:
            if image.mode in ("RGB", "L"):
                return False
        raise
