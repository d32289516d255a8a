"""One GeoTIFF and where it lies; units, missing pixels, dates."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tifffile", reason="GeoTIFFs need tifffile")

from minissl.data import BadFile
from minissl.data.rasters import BANDS, patches
from minissl.data.rasters.geotiff import Raster, count_bands, read_geotiff, read_size
from minissl.data.rasters.place import Place, apart, from_utm, middle
from tests.data.geotiffs import CORNER, optical, truncate, write

HERE = Place(32633, 404_400, 5_342_400, 404_520, 5_342_280)


def raster(values: Any, dtype: type = np.uint16) -> Raster:
    return Raster(np.array(values, np.float32), np.dtype(dtype), None)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_bands_come_last_however_the_file_holds_them(tmp_path: Path, compression: str | None) -> None:
    values = optical(0)
    files = [
        write(tmp_path / "pixels.tif", values, compression=compression),
        write(tmp_path / "bands.tif", np.moveaxis(values, -1, 0), planarconfig="separate", compression=compression),
    ]
    for file in files:
        np.testing.assert_array_equal(read_geotiff(file).values, values)
        assert (read_size(file), count_bands(file), read_geotiff(file).dtype) == ((12, 12), 13, np.uint16)
    assert read_geotiff(write(tmp_path / "one.tif", values[..., 0])).values.shape == (12, 12, 1)


def test_the_files_own_no_data_value_is_nan(tmp_path: Path) -> None:
    values = optical(0, 2)
    values[3, 4, 1] = 65535
    read = read_geotiff(write(tmp_path / "a.tif", values, no_data="65535")).values
    assert np.argwhere(np.isnan(read)).tolist() == [[3, 4, 1]]


def test_the_place_is_the_edges_of_the_raster(tmp_path: Path) -> None:
    values = optical(0, 1)
    x, y = CORNER
    assert read_geotiff(write(tmp_path / "a.tif", values)).place == HERE
    centred = write(tmp_path / "b.tif", values, corner=(x + 5, y - 5), centred=True)
    assert read_geotiff(centred).place == HERE
    degrees = read_geotiff(write(tmp_path / "c.tif", values, 0.5, 4326, (10, 50))).place
    assert degrees == Place(4326, 10, 50, 16, 44)
    assert middle(degrees) == (47, 13)
    assert read_geotiff(write(tmp_path / "d.tif", values, crs=None)).place is None


def complex_numbers(path: Path) -> None:
    write(path, np.zeros((4, 4), np.complex64))


BAD = {
    "missing": (lambda path: None, "is missing; download it again"),
    "empty": (lambda path: path.touch(), r"an empty file \(0 bytes\); download"),
    "text": (lambda path: path.write_text("<html>not found</html>"), "not a readable TIFF .*; download"),
    "cut": (lambda path: truncate(write(path, optical(0))), "a truncated or corrupt TIFF .*; download"),
    "cut zip": (lambda path: truncate(write(path, optical(0), compression="zlib")), "a truncated or corrupt TIFF"),
    "complex": (complex_numbers, "holds complex64 of shape"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_with_its_remedy(tmp_path: Path, name: str) -> None:
    make, message = BAD[name]
    make(tmp_path / "a.tif")
    with pytest.raises(BadFile, match=rf"a\.tif: {message}"):
        read_geotiff(tmp_path / "a.tif")


def test_a_missing_codec_and_a_missing_reader_say_what_to_install(tmp_path: Path, monkeypatch: Any) -> None:
    import tifffile

    def no_codec(self: Any, *args: Any, **options: Any) -> None:
        raise KeyError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    write(tmp_path / "a.tif", optical(0))
    with monkeypatch.context() as patch:
        patch.setattr(tifffile.TiffPage, "asarray", no_codec)
        with pytest.raises(BadFile, match=r"LZW.*requires the 'imagecodecs' package; pip install imagecodecs"):
            read_geotiff(tmp_path / "a.tif")
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    with pytest.raises(ValueError, match=r"needs tifffile: pip install 'minissl\[geo\]'"):
        read_geotiff(tmp_path / "a.tif")


def northing(latitude: float) -> float:
    """On the central meridian: 0.9996 of the meridian's length, summed in small steps over the ellipsoid."""
    a, flattening = 6378137.0, 1 / 298.257223563
    e2 = flattening * (2 - flattening)
    phi = np.linspace(0, np.radians(latitude), 200_001)
    length = a * (1 - e2) / (1 - e2 * np.sin(phi) ** 2) ** 1.5
    return float(0.9996 * np.sum((length[1:] + length[:-1]) / 2 * np.diff(phi)))


@pytest.mark.parametrize("latitude", [0.0, 20.0, 48.0, 83.0])
def test_utm_on_the_central_meridian_is_the_length_of_the_meridian(latitude: float) -> None:
    assert from_utm(500_000, northing(latitude), 31, south=False) == pytest.approx((latitude, 3), abs=1e-8)
    assert from_utm(500_000, 1e7 - northing(latitude), 31, south=True) == pytest.approx((-latitude, 3), abs=1e-8)


def test_utm_off_the_meridian() -> None:
    """The CN Tower, of the worked example in Wikipedia's article on UTM; 2 m are 2e-5 degrees."""
    assert from_utm(630_084, 4_833_438, 17, south=False) == pytest.approx((43.642567, -79.387139), abs=2e-5)


def test_two_places_agree_within_half_a_pixel_in_a_hundred() -> None:
    assert not apart(HERE, HERE._replace(left=404_400.5))
    assert apart(HERE, HERE._replace(left=404_401))
    assert apart(HERE, HERE._replace(bottom=5_342_270))
    assert apart(HERE, HERE._replace(crs=32634))
    assert not apart(HERE, None)
    assert np.isnan(middle(HERE._replace(crs=3035))).all()
    assert "EPSG:32633" in str(HERE)


def test_coarse_bands_are_resampled_between_the_centres_of_pixels() -> None:
    coarse = np.add.outer(np.arange(4.0), 10 * np.arange(4.0)).astype(np.float32)  # a plane stays a plane
    fine = patches.upsample(coarse, (8, 8))
    centres = (np.arange(8) + 0.5) / 2 - 0.5
    inside = slice(1, 7)  # the outermost are beyond the last centre
    np.testing.assert_allclose(fine[inside, inside], np.add.outer(centres, 10 * centres)[inside, inside], atol=1e-4)
    assert patches.upsample(coarse, (4, 4)) is coarse


def test_reflectance_is_a_share_and_clipped() -> None:
    here = Path("a.tif")
    np.testing.assert_allclose(patches.reflectance(raster([[[5000, 0], [12000, 1]]]), here), [[[0.5, 0], [1, 1e-4]]])
    eight_bits = patches.reflectance(raster([[[0, 0], [51, 255]]], np.uint8), here)
    np.testing.assert_allclose(eight_bits, [[[0, 0], [0.2, 1]]])
    assert eight_bits.dtype == np.float32
    with pytest.raises(BadFile, match=r"2 of 3 pixels hold no data .*; leave the patch out"):
        patches.reflectance(raster([[[0, 0], [np.nan, 5], [0, 7]]]), here)
    with pytest.raises(BadFile, match="holds float32, of unknown units; save reflectance x 10,000 as uint16"):
        patches.reflectance(raster([[[0.5]]], np.float32), here)


def test_missing_backscatter_is_filled_with_the_median_of_its_channel_and_counted() -> None:
    sar = np.full((2, 4, 2), (-8.0, -15.0))
    sar[0, 0] = np.nan
    sar[0, 1] = 0
    sar[1, 3, 0] = -np.inf
    sar[1, 0] = (-20, -30)
    sar[1, 1] = (-7, -10)
    row = patches.backscatter(raster(sar, np.float32), Path("a.tif"))
    assert row["sar_missing"] == np.float32(3 / 8)
    assert row["sar"].dtype == np.float32
    np.testing.assert_allclose(row["sar"][0, :2], [[-8, -15], [-8, -15]])
    np.testing.assert_allclose(row["sar"][1], [[-20, -30], [-7, -10], [-8, -15], [-8, -15]])
    sar[0, 2:] = np.nan
    with pytest.raises(BadFile, match="62% of its pixels hold no data"):
        patches.backscatter(raster(sar, np.float32), Path("a.tif"))
    with pytest.raises(BadFile, match="linear power, not dB; save 10 log10"):
        patches.backscatter(raster([[[0.1, 0.02]]], np.float32), Path("a.tif"))


def test_days_count_from_0_to_364() -> None:
    days = {"20170101T10": 0, "2017-06-13 10:10:31": 163, "20191231": 364, "20201231": 364, "x_20200301_20210101": 60}
    assert {text: patches.day_of_year(text) for text in days} == days
    assert patches.day_of_year("T33UUP_12345678901_20171301") == -1


def test_the_bands_are_named_as_those_of_the_scenes() -> None:
    assert pytest.importorskip("minissl.data.scenes", exc_type=ImportError).BANDS == BANDS
