"""A time series of one place: what is read, and what is refused by name."""

from pathlib import Path

import numpy as np
import pytest

from minissl.data import open_data, read_series
from tests.data.geotiffs import save_json

T, H, W = 4, 5, 6
TIMES = ["2015-07-11T10:00:08", "2015-12-31T10:00:08", "2016-01-01T10:00:08", "2016-12-31T10:00:08"]
NDVI = np.random.default_rng(0).uniform(-1, 1, (T, H, W, 1)).astype(np.float32)
BOX = {
    "crs": {"properties": {"name": "urn:ogc:def:crs:EPSG::32633"}},
    "coordinates": [[[499_000, 0], [499_000, 1000], [501_000, 1000], [501_000, 0], [499_000, 0]]],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_json(tmp_path / "place" / "timestamps.json", TIMES)
    np.save(tmp_path / "place" / "NDVI.npy", NDVI)
    return tmp_path / "place"


def test_a_place_is_one_row_of_all_its_dates(folder: Path) -> None:
    clouds = np.zeros((T, H, W, 1), np.uint8)
    clouds[[0, 1, 3], 0] = 1
    cover = np.arange(H * W).reshape(H, W, 1).astype(np.uint16)
    np.save(folder / "CLM.npy", clouds)
    np.save(folder / "LULC.npy", cover)
    np.save(folder / "DEM.npy", np.ones((H, W, 1), np.float32))
    save_json(folder / "bbox.geojson", BOX)
    data = open_data(folder)
    np.testing.assert_array_equal(data["seasons"], NDVI[None])
    assert np.shares_memory(data["images"], data["seasons"])
    np.testing.assert_array_equal(data["images"], NDVI[None, 2])  # the date without clouds
    np.testing.assert_array_equal(data["valid"], 1 - clouds[None, ..., 0])
    np.testing.assert_array_equal(data["masks"], cover[None, ..., 0])
    assert (data["masks"].dtype, data.bands, data["path"].tolist()) == (np.uint8, ("NDVI",), ["place"])
    assert data["days"].tolist() == [[191, 364, 0, 364]]
    np.testing.assert_allclose(data["location"], [[0.004524, 15]], atol=1e-5)  # 500 m north of the equator
    assert "part" in data


def test_eo_learn_puts_arrays_into_folders_of_their_kind(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "mask").mkdir()
    (folder / "NDVI.npy").rename(folder / "data" / "NDVI.npy")
    valid = np.zeros((T, H, W, 1), bool)
    valid[1] = True
    np.save(folder / "mask" / "IS_VALID.npy", valid)
    np.testing.assert_array_equal(read_series(folder)["images"], NDVI[None, 1])


def test_one_of_several_features_is_chosen_by_name(folder: Path) -> None:
    bands = np.full((T, H, W, 13), 0.25, np.float32)
    np.save(folder / "BANDS-S2-L1C.npy", bands)
    with pytest.raises(
        ValueError, match=r"one feature of floats.*got \['BANDS-S2-L1C', 'NDVI'\]; say which one: names="
    ):
        read_series(folder)
    data = open_data(folder, options={"names": {"seasons": "BANDS-S2-L1C"}})
    assert data.bands[8] == "B8A"
    np.save(folder / "BANDS-S2-L1C.npy", (bands[..., :2] * 10_000).astype(np.uint16))
    assert read_series(folder).bands == ("NDVI",)  # whole numbers are masks, unless they are named
    data = read_series(folder, {"seasons": "BANDS-S2-L1C"})
    np.testing.assert_array_equal(data["seasons"], bands[None, ..., :2])
    assert data.bands == ("BANDS-S2-L1C 1", "BANDS-S2-L1C 2")


def test_nan_is_refused(folder: Path) -> None:
    ndvi = NDVI.copy()
    ndvi[0, 0, :3] = np.nan
    np.save(folder / "NDVI.npy", ndvi)
    with pytest.raises(ValueError, match=r"NDVI\.npy holds 3 values that are NaN or infinite; interpolate"):
        read_series(folder)


def test_what_does_not_fit_is_named(folder: Path) -> None:
    def refused(message: str, **names: str) -> None:
        with pytest.raises(ValueError, match=message):
            read_series(folder, names)

    refused("has no feature 'EVI'; it has .'NDVI'.", seasons="EVI")
    np.save(folder / "LULC.npy", np.ones((H, W, 1)) * 300)
    refused(r"expected numbers from 0 to 255 of shape \(5, 6, 1\) for 'masks', got float64 of shape \(5, 6, 1\)")
    np.save(folder / "LULC.npy", np.ones((H, W)))
    refused(r"for 'masks', got float64 of shape \(5, 6\)")
    (folder / "LULC.npy").write_bytes(b"")
    refused(r"LULC\.npy cannot be read")
    (folder / "LULC.npy").unlink()
    save_json(folder / "bbox.geojson", {"coordinates": []})
    refused(r"bbox\.geojson is not a box with a reference system \(.*\); correct or remove it")
    (folder / "bbox.geojson").unlink()
    save_json(folder / "timestamps.json", TIMES[:3])
    refused(r"got {'NDVI': \(4, 5, 6, 1\)}; say which one")
    refused(
        r"NDVI\.npy must be \(3, H, W, C\), one for each time in timestamps\.json, got \(4, 5, 6, 1\)", seasons="NDVI"
    )
    save_json(folder / "timestamps.json", {})
    refused("must hold a list of dates, got {}")
    (folder / "timestamps.json").write_text("[")
    refused(r"timestamps\.json cannot be read")
