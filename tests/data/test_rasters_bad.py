"""Every kind of bad file in each layout of rasters: named in one error, or skipped and counted."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tifffile", reason="GeoTIFFs need tifffile")

from minissl.data import BadFile, open_data
from tests.data import geotiffs
from tests.data.geotiffs import (
    CORNER,
    ELSEWHERE,
    EUROSAT,
    LEVEL_2A,
    S1,
    S2,
    SECO,
    SEN,
    SIZE,
    band,
    channel,
    edit,
    json_of,
    optical,
    radar,
    seco_date,
    truncate,
    write,
)


def holes(values: np.ndarray, count: int) -> np.ndarray:
    """The first pixels without a measurement."""
    values = values.copy()
    values.reshape(-1, values.shape[-1])[:count] = np.nan if values.dtype.kind == "f" else 0
    return values


def odd_seco_band(root: Path) -> None:
    write(seco_date(root) / "B5.tif", np.ones((5, 6), np.uint8), 2e-4, 4326, (13.7, 48.2))


def distant_date(root: Path) -> None:
    for name in LEVEL_2A:
        coarse = geotiffs.COARSE.get(name, 1)
        values = np.ones((SIZE // coarse, SIZE // coarse), np.uint8)
        write(seco_date(root) / f"{name}.tif", values, 1e-4 * coarse, 4326, (13.701, 48.2))


BAD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    # EuroSAT
    "12 bands": ("eurosat", lambda r: write(r / EUROSAT, optical(1, 12)), r"River_2\.tif: expected 13 bands, got 12"),
    "other size": ("eurosat", lambda r: write(r / EUROSAT, optical(1, 13, 10)), "expected 12x12 pixels.*got 10x10"),
    "cut": ("eurosat", lambda r: truncate(r / EUROSAT), r"River_2\.tif: a truncated or corrupt TIFF"),
    "empty": ("eurosat", lambda r: (r / EUROSAT).write_bytes(b""), r"an empty file \(0 bytes\)"),
    "zeros": ("eurosat", lambda r: write(r / EUROSAT, holes(optical(1), 5)), "5 of 144 pixels hold no data"),
    "floats": ("eurosat", lambda r: write(r / EUROSAT, optical(1) / np.float32(1e4)), "float32, of unknown units"),
    "65535": (
        "eurosat",
        lambda r: write(r / EUROSAT, np.maximum(optical(1), 8000), no_data="8000"),
        "of 144 pixels hold no data",
    ),
    # BigEarthNet
    "missing bands": (
        "bigearthnet",
        lambda r: ((r / band("B05")).unlink(), (r / band("B8A")).unlink()),
        "87_1: has no file for B5, B8A; download the patch again",
    ),
    "no B02": ("bigearthnet", lambda r: (r / band("B02")).unlink(), r"B02\.tif: is missing"),
    "small band": ("bigearthnet", lambda r: write(r / band("B05"), optical(0, 1, 5), 20), "expected 6x6 pixels.*5x5"),
    "strange band": (
        "bigearthnet",
        lambda r: write(r / band("B03"), optical(0, 1), **ELSEWHERE),
        r"B03\.tif: lies elsewhere than its partner",
    ),
    "types": (
        "bigearthnet",
        lambda r: write(r / band("B02"), optical(0, 1).astype(np.int32), crs=None),
        "has bands of different types, int32, uint16; convert",
    ),
    "S1 zone": ("bigearthnet", lambda r: write(r / channel("VV"), radar(1)[..., 0], crs=32634), "VV.*EPSG:32634, exp"),
    "S1 corner": ("bigearthnet", lambda r: write(r / channel("VV"), radar(1)[..., 0]), "VV.*lies elsewhere"),
    "S1 JSON zone": (
        "bigearthnet",
        lambda r: edit(r / json_of(S1), projection=geotiffs.PROJECTION.format(32634)),
        "labels_metadata.json: lies elsewhere.*EPSG:32634, expected .*EPSG:32633; pair files of one place",
    ),
    "S1 JSON corner": (
        "bigearthnet",
        lambda r: edit(r / json_of(S1), coordinates=geotiffs.metadata([])["coordinates"]),
        "labels_metadata.json: lies elsewhere",
    ),
    "S2 JSON": ("bigearthnet", lambda r: edit(r / json_of(S2), coordinates={}), "not the metadata of a patch.*KeyErr"),
    "label": ("bigearthnet", lambda r: edit(r / json_of(S2), labels=["Moon"]), r"labels that CORINE lacks: \['Moon'\]"),
    "no label": ("bigearthnet", lambda r: edit(r / json_of(S2), labels=[]), "has none of the 43 classes"),
    "no S1": ("bigearthnet", lambda r: shutil.rmtree(r / S1), "S2A.*87_1: no Sentinel-1 patch names it as its partner"),
    "no S2": ("bigearthnet", lambda r: shutil.rmtree(r / S2), "its Sentinel-2 patch S2A.*87_1 is not there; add it"),
    "half a SAR": (
        "bigearthnet",
        lambda r: write(r / channel("VH"), holes(radar(1)[..., 1:], 73), corner=(CORNER[0] + 1200, CORNER[1])),
        "51% of its pixels hold no data",
    ),
    "no page": ("bigearthnet", lambda r: (r / band("B09")).write_bytes(b"II*\0" + bytes(4)), "not a readable TIFF"),
    # SEN12MS
    "no s1": ("sen12ms", lambda r: (r / SEN.format("s1")).unlink(), r"p1\.tif: has no partner in s1; add it"),
    "only lc": ("sen12ms", lambda r: [(r / SEN.format(k)).unlink() for k in ("s1", "s2")], "no partner in s1, s2"),
    "power": ("sen12ms", lambda r: write(r / SEN.format("s1"), -radar(1) / 100, crs=None), "linear power, not dB"),
    "s1 elsewhere": ("sen12ms", lambda r: write(r / SEN.format("s1"), radar(1), crs=32634), "s1_1_p1.tif: lies elsewh"),
    "lc elsewhere": ("sen12ms", lambda r: write(r / SEN.format("lc"), optical(0, 4) % 4 + 1), "lc_1_p1.tif: lies else"),
    "s1 size": ("sen12ms", lambda r: write(r / SEN.format("s1"), radar(1, 10)), "expected 12x12 pixels.*got 10x10"),
    "lc size": (
        "sen12ms",
        lambda r: write(r / SEN.format("lc"), optical(0, 4, 10) % 4, crs=None),
        r"shape \(10, 10\), no land cover 1 to 17 of shape \(12, 12\)",
    ),
    "IGBP 18": (
        "sen12ms",
        lambda r: write(r / SEN.format("lc"), np.full((SIZE, SIZE, 4), 18, np.uint16), crs=None),
        r"lc_1_p1\.tif: holds \[18.0\], no land cover 1 to 17",
    ),
    "no cover": (
        "sen12ms",
        lambda r: write(r / SEN.format("lc"), np.zeros((SIZE, SIZE, 4), np.uint16), crs=None),
        "holds no class at all",
    ),
    "s1 in s2": ("sen12ms", lambda r: write(r / SEN.format("s2"), radar(1)), r"s2_1_p1\.tif: expected 13 bands, got 2"),
    # SeCo
    "a date less": ("seco", lambda r: shutil.rmtree(seco_date(r)), "000001: has 2 dates, the others 3"),
    "a band less": ("seco", lambda r: (seco_date(r) / "B9.tif").unlink(), "T33UUP: has no file for B9"),
    "odd band": ("seco", odd_seco_band, r"B5\.tif: expected 6x6 pixels \(H x W\), got 5x6"),
    "distant date": ("seco", distant_date, "20190404.*lies elsewhere than its partner"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_or_skipped_and_counted(copy: Callable[[str], Path], made: dict, name: str) -> None:
    layout, spoil, message = BAD[name]
    root = copy(layout)
    spoil(root)
    with pytest.raises(ValueError, match=rf"1 bad files among the \d(.|\n)*{message}(.|\n)*--skip-bad-files") as caught:
        open_data(root)
    assert isinstance(caught.value.__cause__, BadFile)
    left, whole = open_data(root, skip_bad_files=True), open_data(made[layout])
    assert len(left.skipped) == 1
    assert str(caught.value.__cause__) == left.skipped[0]
    lost = next(row for row, path in enumerate(whole["path"]) if path not in left["path"])
    assert whole["path"][lost] in {EUROSAT, S2, SEN.format("s2"), SECO}
    for key in left.arrays.keys() - {"part"}:
        np.testing.assert_array_equal(left[key], np.delete(whole[key], lost, axis=0))


def test_all_bad_files_are_listed_in_one_error(copy: Callable[[str], Path]) -> None:
    root = copy("bigearthnet")
    truncate(root / band("B03"))
    edit(root / json_of(S2.replace("87_1", "87_0")), labels=["Moon"])
    shutil.rmtree(root / S1.replace("87_1", "87_2"))
    with pytest.raises(ValueError, match=r"3 bad files among the 3 patches(.|\n)*87_0: (.|\n)*B03(.|\n)*87_2: no Sent"):
        open_data(root)
    with pytest.raises(ValueError, match="no patch is left after skipping 3 bad files"):
        open_data(root, skip_bad_files=True)
