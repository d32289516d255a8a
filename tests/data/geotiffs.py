"""Small GeoTIFFs and small sets of them, in each layout, for the tests of the readers."""

import json
from pathlib import Path
from typing import Any

import numpy as np

SIZE = 12  # pixels at 10 m: 6 at 20 m, 2 at 60 m
CORNER = (404_400.0, 5_342_400.0)  # metres in UTM zone 33 north: in Austria
BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
LEVEL_2A = tuple(band for band in BANDS if band != "B10")
COARSE = {"B1": 6, "B9": 6, "B5": 2, "B6": 2, "B7": 2, "B8A": 2, "B11": 2, "B12": 2}
PROJECTION = 'PROJCS["UTM",GEOGCS["WGS 84",AUTHORITY["EPSG","4326"]],UNIT["metre",1],AUTHORITY["EPSG","{}"]]'


def write(
    path: Path,
    values: np.ndarray,
    metres: float = 10,
    crs: int | None = 32633,
    corner: tuple[float, float] = CORNER,
    no_data: str | None = None,
    centred: bool = False,
    **options: Any,
) -> Path:
    """Bands (H, W, C) or one (H, W). `centred`: the corner is the middle of the first pixel. crs 4326: degrees."""
    import tifffile

    model = (1024, 0, 1, 2 if crs == 4326 else 1)
    system = (2048 if crs == 4326 else 3072, 0, 1, crs or 0)
    keys = (1, 1, 0, 3, *model, 1025, 0, 1, 2 if centred else 1, *system)
    tags: list[tuple[Any, ...]] = []
    if crs:
        tags += [(33550, "d", 3, (metres, metres, 0.0), True), (33922, "d", 6, (0.0, 0.0, 0.0, *corner, 0.0), True)]
        tags += [(34735, "H", len(keys), keys, True)]
    if no_data is not None:
        tags += [(42113, "s", 0, no_data, True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {"photometric": "minisblack", "metadata": None, "extratags": tags} | options
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim == 3:
        settings = {"planarconfig": "contig"} | settings
    tifffile.imwrite(path, values, **settings)
    return path


def optical(seed: int, bands: int = 13, size: int = SIZE) -> np.ndarray:
    """Digital numbers of Sentinel-2."""
    return np.random.default_rng(seed).integers(1, 9000, (size, size, bands)).astype(np.uint16)


def radar(seed: int, size: int = SIZE) -> np.ndarray:
    """Backscatter in dB."""
    return np.random.default_rng(seed).uniform(-25, -5, (size, size, 2)).astype(np.float32)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def metadata(labels: list[str], crs: int = 32633, corner: tuple[float, float] = CORNER, **more: str) -> dict[str, Any]:
    """What the JSON of a BigEarthNet patch holds; of S1, `more` names the partner, and "lry" is misspelt."""
    x, y = corner
    bottom = "lly" if "corresponding_s2_patch" in more else "lry"
    corners = {"ulx": x, "uly": y, "lrx": x + 10 * SIZE, bottom: y - 10 * SIZE}
    return {"labels": labels, "coordinates": corners, "projection": PROJECTION.format(crs), **more}


def save_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def bigearthnet_patch(root: Path, number: int, labels: list[str]) -> tuple[Path, Path]:
    """An S2 and an S1 patch in root/S2 and root/S1."""
    corner = (CORNER[0] + 1200 * number, CORNER[1])
    s2 = root / "S2" / f"S2A_MSIL2A_20170613T101031_87_{number}"
    s1 = root / "S1" / f"S1A_IW_GRDH_1SDV_20170613T165043_33UUP_87_{number}"
    for i, band in enumerate(LEVEL_2A):
        coarse = COARSE.get(band, 1)
        values = optical(100 * number + i, 1, SIZE // coarse)[..., 0]
        write(s2 / f"{s2.name}_B{band[1:]:0>2}.tif", values, 10 * coarse, corner=corner)
    for c, channel in enumerate(("VV", "VH")):
        write(s1 / f"{s1.name}_{channel}.tif", radar(number)[..., c], corner=corner)
    told = metadata(labels, corner=corner, acquisition_date="2017-06-13 10:10:31")
    save_json(s2 / f"{s2.name}_labels_metadata.json", told)
    told = metadata(labels, corner=corner, acquisition_time="2017-06-13T16:50:43", corresponding_s2_patch=s2.name)
    save_json(s1 / f"{s1.name}_labels_metadata.json", told)
    return s2, s1


def sen12ms_patch(root: Path, number: int, season: str = "ROIs1158_spring", scene: str = "1") -> dict[str, Path]:
    """Three files; the left half is land cover 12, croplands, the rest 17, water."""
    cover = np.full((SIZE, SIZE, 4), 17, np.uint16)
    cover[:, : SIZE // 2 - 1] = 12
    corner = (CORNER[0] + 60 * number, CORNER[1])
    values = {"s2": optical(number), "s1": radar(number), "lc": cover}
    files = {kind: root / season / f"{kind}_{scene}" / f"{season}_{kind}_{scene}_p{number}.tif" for kind in values}
    for kind, array in values.items():
        write(files[kind], array, corner=corner)
    return files


def seco_place(root: Path, name: str, dates: tuple[str, ...], seed: int) -> list[Path]:
    """8-bit bands in degrees, as SeCo's downloader writes them: corners half a pixel of each band off."""
    folders = [root / name / f"{date}T101409_{date}T101407_T33UUP" for date in dates]
    for t, folder in enumerate(folders):
        for i, band in enumerate(LEVEL_2A):
            pixel = 1e-4 * COARSE.get(band, 1)
            values = np.random.default_rng((seed, t, i)).integers(0, 200, 2 * [SIZE // COARSE.get(band, 1)])
            corner = (13.7 - pixel / 2, 48.2 + pixel / 2)
            write(folder / f"{band}.tif", values.astype(np.uint8), pixel, 4326, corner)
    return folders


LABELS = (["Rice fields", "Sea and ocean"], ["Pastures"], ["Airports", "Mixed forest"])


def make_eurosat(root: Path) -> Path:
    for number, name in enumerate(("River/River_1", "River/River_2", "Forest/Forest_1")):
        write(root / f"{name}.tif", optical(number), corner=(CORNER[0] + 1000 * number, CORNER[1]))
    return root


def make_bigearthnet(root: Path) -> Path:
    for number, labels in enumerate(LABELS):
        bigearthnet_patch(root, number, labels)
    return root


def make_sen12ms(root: Path) -> Path:
    for number in range(3):
        sen12ms_patch(root, number)
    return root


def make_seco(root: Path) -> Path:
    for number in range(3):
        seco_place(root, f"00000{number}", ("20190103", "20190404", "20191231"), number)
    return root


MAKERS = {"eurosat": make_eurosat, "bigearthnet": make_bigearthnet, "sen12ms": make_sen12ms, "seco": make_seco}
EUROSAT = "River/River_2.tif"
S2 = "S2/S2A_MSIL2A_20170613T101031_87_1"
S1 = "S1/S1A_IW_GRDH_1SDV_20170613T165043_33UUP_87_1"
SEN = "ROIs1158_spring/{0}_1/ROIs1158_spring_{0}_1_p1.tif"
SECO = "000001"
ELSEWHERE = {"corner": (CORNER[0] + 600, CORNER[1])}


def band(name: str) -> str:
    return f"{S2}/{Path(S2).name}_{name}.tif"


def channel(name: str) -> str:
    return f"{S1}/{Path(S1).name}_{name}.tif"


def json_of(folder: str) -> str:
    return f"{folder}/{Path(folder).name}_labels_metadata.json"


def edit(path: Path, **changes: object) -> None:
    save_json(path, json.loads(path.read_text()) | changes)


def seco_date(root: Path, date: int = 1) -> Path:
    return sorted((root / SECO).iterdir())[date]
