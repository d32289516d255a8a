"""EuroSAT, BigEarthNet, SEN12MS and SeCo as they come: what is read."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tifffile", reason="GeoTIFFs need tifffile")

from minissl.data import DataSet, hashed_parts, open_data, read_bigearthnet, read_eurosat, read_sen12ms
from minissl.data.rasters import recognise
from minissl.data.rasters.bigearthnet import NINETEEN, TAGS
from minissl.data.rasters.sen12ms import CLASSES, CONTEST_CLASSES, GROUPED
from tests.data import geotiffs
from tests.data.geotiffs import (
    BANDS,
    CORNER,
    EUROSAT,
    LABELS,
    LEVEL_2A,
    MAKERS,
    S1,
    S2,
    SECO,
    SEN,
    SIZE,
    edit,
    json_of,
    optical,
    radar,
    seco_date,
    write,
)


@pytest.mark.parametrize("layout", MAKERS)
def test_every_layout_is_recognised_and_named(made: dict[str, Path], layout: str) -> None:
    assert recognise(made[layout]) == layout
    by_name = open_data(made[layout])
    by_layout = open_data(made[layout], layout=layout, workers=0, options={"memory_limit": 1000})
    assert by_name.arrays.keys() == by_layout.arrays.keys()
    for key in by_name.arrays:
        np.testing.assert_array_equal(by_name[key], by_layout[key])
    assert by_name["images"].dtype == np.float32
    assert by_name["location"].shape == (3, 2)
    assert isinstance(by_layout["images"], np.memmap)
    assert not isinstance(by_name["images"], np.memmap)


def test_an_unknown_layout_lists_those_that_there_are(made: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="'landsat' is not known; choose one of images, stack, series, eurosat"):
        open_data(made["seco"], layout="landsat")


@pytest.mark.parametrize("layout", ["bigearthnet", "sen12ms", "seco"])
def test_a_folder_without_the_layout_says_what_was_expected(tmp_path: Path, layout: str) -> None:
    with pytest.raises(ValueError, match=r"holds no .*; expected PATH/"):
        open_data(tmp_path, layout=layout)


def test_eurosat_files_hold_b8a_last(made: dict[str, Path]) -> None:
    data = read_eurosat(made["eurosat"])
    in_file = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9", "B10", "B11", "B12", "B8A")
    assert data.bands == BANDS
    assert data["path"].tolist() == ["Forest/Forest_1.tif", "River/River_1.tif", "River/River_2.tif"]
    assert (data.classes, data["labels"].tolist()) == (("Forest", "River"), [0, 1, 1])
    for c, name in enumerate(BANDS):
        np.testing.assert_allclose(data["images"][1, ..., c], optical(0)[..., in_file.index(name)] / 1e4, rtol=1e-6)


def test_eurosat_is_found_inside_its_zip_and_in_parts(made: dict[str, Path], tmp_path: Path) -> None:
    inside = tmp_path / "zip/ds/images/remote_sensing/otherDatasets/sentinel_2/tif"
    shutil.copytree(made["eurosat"], inside)
    assert recognise(tmp_path / "zip") == "eurosat"
    assert len(open_data(tmp_path / "zip")) == 3
    for part in ("train", "test"):
        shutil.copytree(made["eurosat"], tmp_path / "parts" / part)
    assert recognise(tmp_path / "parts") == "eurosat"
    assert read_eurosat(tmp_path / "parts")["part"].tolist() == [2, 2, 2, 0, 0, 0]


def test_tiffs_of_three_bands_are_images_as_before(
    tmp_path: Path, made: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "sea" / "1.tif", optical(0, 3).astype(np.uint8), photometric="rgb")
    assert recognise(tmp_path) is None
    assert open_data(tmp_path, size=12)["images"].dtype == np.uint8
    monkeypatch.setitem(sys.modules, "tifffile", None)
    assert len(open_data(tmp_path, size=12)) == 1
    with pytest.raises(ValueError, match="needs tifffile"):
        open_data(made["eurosat"])


def test_bigearthnet_pairs_are_rows(made: dict[str, Path]) -> None:
    data = open_data(made["bigearthnet"])
    assert (data.bands, data.tags) == (LEVEL_2A, TAGS[43])
    assert data["images"].shape == (3, SIZE, SIZE, 12)
    assert data["path"].tolist() == [S2.replace("87_1", f"87_{n}") for n in range(3)]
    np.testing.assert_allclose(data["images"][1, ..., 1], optical(101, 1)[..., 0] / 1e4, rtol=1e-6)
    np.testing.assert_array_equal(data["sar"][2], radar(2))
    np.testing.assert_array_equal(data["sar_missing"], np.zeros(3, np.float32))
    assert data["days"].tolist() == [[163]] * 3
    assert data["days"].dtype == np.int16
    np.testing.assert_allclose(data["location"][0], (48.227, 13.713), atol=2e-3)
    named = [[tag for tag, hot in zip(data.tags, row, strict=True) if hot] for row in data["multi_labels"]]
    assert [set(row) for row in named] == [set(row) for row in LABELS]


def test_bigearthnets_coarse_bands_are_upsampled(made: dict[str, Path]) -> None:
    fine = open_data(made["bigearthnet"])["images"][1]
    for i, coarse in ((0, 6), (4, 2), (8, 2)):
        band = optical(100 + i, 1, SIZE // coarse)[..., 0] / 1e4
        np.testing.assert_allclose(fine[0, 0, i], band[0, 0], rtol=1e-5)  # beyond the outermost centres: constant
        middle = fine[coarse // 2 - 1 : coarse // 2 + 1, SIZE - 1, i].mean()
        assert band[:2, -1].min() <= middle <= band[:2, -1].max()


def test_nineteen_classes_group_and_drop(copy: Callable[[str], Path]) -> None:
    root = copy("bigearthnet")
    data = open_data(root, options={"nomenclature": 19})
    named = [[tag for tag, hot in zip(data.tags, row, strict=True) if hot] for row in data["multi_labels"]]
    assert named == [["Arable land", "Marine waters"], ["Pastures"], ["Mixed forest"]]
    edit(root / json_of(S2), labels=["Airports"])
    with pytest.raises(ValueError, match=r"87_1: has none of the 19 classes, but .'Airports'.; leave it out"):
        open_data(root, options={"nomenclature": 19})
    with pytest.raises(ValueError, match=r"nomenclature must be one of \[19, 43\], got 10"):
        read_bigearthnet(root, nomenclature=10)


def test_there_are_43_classes_19_groups_and_11_left_out() -> None:
    assert (len(TAGS[43]), len(TAGS[19]), list(NINETEEN.values()).count(None)) == (43, 19, 11)


def test_one_sensors_folder_alone(made: dict[str, Path]) -> None:
    whole = open_data(made["bigearthnet"])
    optical_alone, radar_alone = (open_data(made["bigearthnet"] / sensor) for sensor in ("S2", "S1"))
    assert "sar" not in optical_alone
    np.testing.assert_array_equal(optical_alone["images"], whole["images"])
    assert radar_alone.bands == ("VV", "VH")
    np.testing.assert_array_equal(radar_alone["images"], whole["sar"])
    np.testing.assert_array_equal(radar_alone["multi_labels"], whole["multi_labels"])


def test_a_radar_patch_without_metadata_leaves_its_partner_alone(copy: Callable[[str], Path]) -> None:
    root = copy("bigearthnet")
    (root / json_of(S1)).unlink()
    with pytest.raises(
        ValueError, match=r"2 bad files(.|\n)*87_1_labels_metadata.json: is missing(.|\n)*87_1: no Sentin"
    ):
        open_data(root)


def test_two_radar_patches_of_one_optical_are_named(copy: Callable[[str], Path]) -> None:
    root = copy("bigearthnet")
    edit(root / json_of(S1), corresponding_s2_patch=Path(S2.replace("87_1", "87_0")).name)
    with pytest.raises(ValueError, match=r"87_1: S1A.*87_0 has the same partner, S2A(.|\n)*remove one of them"):
        open_data(root)


def test_sen12ms_groups_land_cover(copy: Callable[[str], Path]) -> None:
    root = copy("sen12ms")
    (root / f"{SEN.format('s2')}.aux.xml").write_text("<PAMDataset/>")  # as other programs leave them there
    cover = np.full((SIZE, SIZE, 4), 17, np.uint16)  # 144 pixels: 14 are 9.7%, 15 are 10.4%
    cover.reshape(-1, 4)[:14] = 1
    cover.reshape(-1, 4)[14:29] = 13
    cover.reshape(-1, 4)[29:60] = 255
    cover.reshape(-1, 4)[29:30] = 99
    write(root / SEN.format("lc"), cover, corner=(CORNER[0] + 60, CORNER[1]), no_data="99")
    data = read_sen12ms(root)
    assert (data.classes, data.tags, data.bands) == (CLASSES, CLASSES, BANDS)
    np.testing.assert_allclose(data["images"][2], optical(2) / 1e4, rtol=1e-6)
    np.testing.assert_array_equal(data["sar"][2], radar(2))
    mask = data["masks"][1].ravel()
    assert [np.count_nonzero(mask == c) for c in (0, 6, 255, 9)] == [14, 15, 31, 84]
    assert [data.classes[label] for label in data["labels"]] == ["Water"] * 3
    assert [np.flatnonzero(row).tolist() for row in data["multi_labels"]] == [[5, 9], [6, 9], [5, 9]]


def test_igbp_has_five_forests_two_shrublands_two_savannas_and_mosaics_are_crops() -> None:
    assert GROUPED[:19].tolist() == [255, *[0] * 5, 1, 1, 2, 2, 3, 4, 5, 6, 5, 7, 8, 9, 255]
    assert CONTEST_CLASSES[:12].tolist() == [255, *range(10), 255]


def test_a_scene_is_never_split(tmp_path: Path) -> None:
    for number in range(10):
        for scene in ("1", "31", "120", "7"):
            geotiffs.sen12ms_patch(tmp_path, number, scene=scene)
    data = open_data(tmp_path)
    scenes = [f"ROIs1158_spring/{scene}" for scene in ("1", "120", "31", "7")]
    assert data["scene"].tolist() == [scene for scene in scenes for _ in range(10)]
    np.testing.assert_array_equal(data["part"], np.repeat(hashed_parts(scenes), 10))
    assert data["path"][:3].tolist() == [SEN.format("s2").replace("p1", f"p{number}") for number in range(3)]


def test_dfc2020_has_masks_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "ROIs0000_validation"
    for number in range(2):
        files = geotiffs.sen12ms_patch(tmp_path, number, "ROIs0000_validation", "0")
        for kind, file in files.items():
            (folder / f"{kind}_validation").mkdir(exist_ok=True)
            file.rename(folder / f"{kind}_validation" / file.name)
            place = (CORNER[0] + 60 * number, CORNER[1])
        contest = np.full((SIZE, SIZE), 10 - number, np.uint8)
        write(folder / "dfc_validation" / f"ROIs0000_validation_dfc_0_p{number}.tif", contest, corner=place)
        (folder / f"{kind}_0").rmdir()
    (folder / "lc_validation" / "ROIs0000_validation_lc_0_p1.tif").unlink()  # not needed where there is dfc
    for path in (tmp_path, folder):
        data = open_data(path)
        assert data["labels"].tolist() == [9, 8]
        assert data["masks"].dtype == np.uint8
        assert len(set(data["scene"])) == 2  # of one scene number, which does not tell the place
    (folder / "lc_validation" / "map.tif").touch()
    with pytest.raises(ValueError, match=r"map\.tif: its name does not fit the layout; expected ROIs1158_spring_s2"):
        open_data(tmp_path)


def test_sen12ms_without_land_cover_has_no_labels(copy: Callable[[str], Path]) -> None:
    root = copy("sen12ms")
    shutil.rmtree(root / "ROIs1158_spring" / "lc_1")
    data: DataSet = open_data(root)
    assert not {"labels", "masks", "multi_labels"} & data.arrays.keys()
    assert data.classes == data.tags == ()


def test_seco_has_seasons_in_the_order_of_dates(made: dict[str, Path]) -> None:
    data = open_data(made["seco"])
    assert data["seasons"].shape == (3, 3, SIZE, SIZE, 12)
    assert data["days"].tolist() == [[2, 93, 364]] * 3
    assert (data.bands, data["path"].tolist()) == (LEVEL_2A, ["000000", "000001", "000002"])
    red = np.random.default_rng((1, 2, LEVEL_2A.index("B4"))).integers(0, 200, (SIZE, SIZE))
    np.testing.assert_allclose(data["seasons"][1, 2, ..., 3], red / 255, rtol=1e-6)
    np.testing.assert_allclose(data["location"], [[48.1997, 13.7003]] * 3, atol=1e-4)
    assert np.shares_memory(data["images"], data["seasons"])
    np.testing.assert_array_equal(data["images"], data["seasons"][:, 0])


def test_what_is_unknown_for_one_patch_is_left_out_for_all(copy: Callable[[str], Path]) -> None:
    root = copy("eurosat")
    write(root / EUROSAT, optical(1), crs=None)
    assert "location" not in open_data(root)
    root = copy("seco")
    seco_date(root).rename(root / SECO / "spring")
    assert "days" not in open_data(root)
