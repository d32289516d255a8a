"""EuroSAT in 13 bands: PATH/<class>/<class>_1.tif, uint16 (Helber et al. 2019, arXiv:1709.00029).

The files hold B8A LAST, unlike the table of the paper: github.com/phelber/EuroSAT issue 7, which the authors closed
without contradiction, and torchgeo issue 2458, where the detail of each band in the files settled it. Here the bands
come in the order of Sentinel-2, `BANDS`.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from minissl.data.dataset import MEMORY_LIMIT, DataSet
from minissl.data.folder import Found, class_names, find_images, labels_and_parts
from minissl.data.rasters.geotiff import read_size
from minissl.data.rasters.patches import BANDS, Patch, Row, Size, location, read_as, read_patches, reflectance

IN_FILES = (*BANDS[:8], "B9", "B10", "B11", "B12", "B8A")
ORDER = [IN_FILES.index(band) for band in BANDS]
INSIDE = "ds/images/remote_sensing/otherDatasets/sentinel_2/tif"  # where EuroSATallBands.zip has its class folders


@dataclass(frozen=True, eq=False)
class Scene(Patch):
    """An image with what its folders say of it."""

    found: Found


def read_eurosat(
    path: str | os.PathLike[str],
    workers: int = 2,
    skip_bad_files: bool = False,
    memory_limit: int = MEMORY_LIMIT,
) -> DataSet:
    """Class folders of 13-band GeoTIFFs: "images" (N, H, W, 13), "labels", "location" where the files tell, "path".

    Folders of train, validation and test above the classes are the parts, as in `read_folder`.
    """
    root = Path(path).expanduser()
    root = root / INSIDE if (root / INSIDE).is_dir() else root
    found, bad = find_images(root)
    scenes = [Scene(entry.path, {"s2": entry.path}, entry) for entry in found]
    kept, arrays, skipped = read_patches(
        root, scenes, lambda scene: read_size(scene.path), _read, bad, workers, skip_bad_files, memory_limit
    )
    entries = [scene.found for scene in kept]
    arrays |= labels_and_parts(entries)
    return DataSet(arrays, class_names(entries), root.resolve().name, skipped, bands=BANDS)


def _read(scene: Scene, size: Size) -> Row:
    raster = read_as(scene.path, len(BANDS), size)
    return {"images": reflectance(raster, scene.path)[..., ORDER], "location": location(raster.place)}
