"""One GeoTIFF: its pixels, what is missing in them, and where it lies. Needs tifffile."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minissl.data.badfiles import BadFile
from minissl.data.rasters.place import DEGREES, Place

TIEPOINT, PIXEL_SCALE, GEO_KEYS, NO_DATA = 33922, 33550, 34735, 42113  # TIFF tags
MODEL_TYPE, RASTER_TYPE, PROJECTED = 1024, 1025, 3072  # geo keys
AGAIN = "download it again, or remove it"


class Raster(NamedTuple):
    """Pixels (H, W, C) float32, NaN where the file's own no-data value stands; their type in the file; their place."""

    values: np.ndarray
    dtype: np.dtype
    place: Place | None


def read_geotiff(path: Path) -> Raster:
    """Decode a file. BadFile for what is missing, empty, no TIFF, truncated, or compressed in an unknown way."""
    with _Opened(path) as page:
        values = page.asarray()
        if values.ndim == 3 and page.planarconfig == 2:  # band after band, (C, H, W)
            values = np.moveaxis(values, 0, -1)
        if values.ndim not in (2, 3) or values.dtype.kind not in "uif":
            raise BadFile(path, f"holds {values.dtype} of shape {values.shape}", "expected bands of real numbers")
        dtype, values = values.dtype, values.reshape(*values.shape[:2], -1).astype(np.float32)
        if NO_DATA in page.tags and (no_data := np.float32(page.nodata)) != 0:  # 0: see `patches.unmeasured`
            values[values == no_data] = np.nan
        return Raster(values, dtype, _place(page))


def read_size(path: Path) -> tuple[int, int]:
    """Height and width, from the header alone."""
    with _Opened(path) as page:
        return page.imagelength, page.imagewidth


def count_bands(path: Path) -> int:
    """How many bands the header says there are."""
    with _Opened(path) as page:
        return page.samplesperpixel


class _Opened:
    """The first page of a file, as tifffile has it; all that goes wrong with it becomes a BadFile with a remedy."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Any:
        try:
            import tifffile
        except ImportError as error:
            raise ValueError(f"{self.path}: reading GeoTIFFs needs tifffile: pip install 'minissl[geo]'") from error
        if not self.path.is_file():
            raise BadFile(self.path, "is missing", AGAIN)
        if self.path.stat().st_size == 0:
            raise BadFile(self.path, "an empty file (0 bytes)", AGAIN)
        with ExitStack() as opened:
            try:
                self.file = opened.enter_context(tifffile.TiffFile(self.path))
                page = self.file.pages[0]
            except Exception as error:  # on bytes they don't expect decoders raise nearly anything
                raise BadFile(self.path, f"not a readable TIFF ({error})", AGAIN) from error
            opened.pop_all()  # it stays open until __exit__
        return page

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.file.close()
        if "imagecodecs" in str(error):
            raise BadFile(self.path, str(error).strip("'\""), "pip install imagecodecs") from error
        if isinstance(error, Exception) and not isinstance(error, BadFile):
            raise BadFile(self.path, f"a truncated or corrupt TIFF ({error})", AGAIN) from error


def _place(page: Any) -> Place | None:
    """From the geo tags (OGC GeoTIFF 1.1) of a page; None where they are incomplete."""
    tags = page.tags
    if not all(tag in tags for tag in (TIEPOINT, PIXEL_SCALE, GEO_KEYS)):
        return None
    directory = np.reshape(tags[GEO_KEYS].value, (-1, 4))[1:]
    keys = {int(key): int(value) for key, where, _, value in directory if where == 0}
    crs = DEGREES if keys.get(MODEL_TYPE) == 2 else keys.get(PROJECTED)
    if crs is None:
        return None
    column, row, _, x, y, _ = tags[TIEPOINT].value[:6]
    width, height = tags[PIXEL_SCALE].value[:2]
    if keys.get(RASTER_TYPE) == 2:  # the tiepoint is a pixel's centre, not its corner
        column, row = column + 0.5, row + 0.5
    left, top = x - column * width, y + row * height
    return Place(crs, left, top, left + page.imagewidth * width, top - page.imagelength * height)
