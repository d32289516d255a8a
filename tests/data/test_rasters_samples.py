"""Real Sentinel samples, where they lie beside the checkout (MINISSL_SAMPLES says where else)."""

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tifffile", reason="GeoTIFFs need tifffile")

from minissl.data import open_data
from minissl.data.rasters.bigearthnet import TAGS

SAMPLES = Path(os.environ.get("MINISSL_SAMPLES", Path(__file__).parents[3] / "shared" / "data"))


def sample(name: str) -> Path:
    if not (SAMPLES / name).exists():
        pytest.skip(f"the sample {SAMPLES / name} is not here")
    return SAMPLES / name


def test_bigearthnet_pairs() -> None:
    data = open_data(sample("bigearthnet_example"))
    assert data["images"].shape == (6, 120, 120, 12) and data["sar"].shape == (6, 120, 120, 2)
    assert data.tags == TAGS[43] and data["multi_labels"].sum() == 17
    assert data["days"].ravel().tolist() == [163, 167, 167, 354, 266, 34]
    np.testing.assert_allclose(data["location"][0], (48.222, 13.721), atol=1e-3)
    winter, summer = data["images"][5], data["images"][1]  # snow in Finland, fields in Ireland
    red, infrared = data.bands.index("B4"), data.bands.index("B8")
    assert winter[..., red].mean() > 3 * summer[..., red].mean()
    assert summer[..., infrared].mean() > 5 * summer[..., red].mean()
    lake = data["images"][4][..., infrared] < 0.05
    assert 0.05 < lake.mean() < 0.5
    for c in range(2):  # the pair lies on one grid: the lake is smooth in radar too
        assert data["sar"][4][lake, c].mean() < data["sar"][4][~lake, c].mean() - 5
    assert len(open_data(sample("bigearthnet_example") / "BigEarthNet-S1-Example")) == 6
    groups = open_data(sample("bigearthnet_example"), options={"nomenclature": 19})
    assert [groups.tags[k] for k in np.flatnonzero(groups["multi_labels"][1])] == ["Arable land", "Pastures"]


def test_terramind_places() -> None:
    file = sample("terramind_s1s2/terramind_5scenes.npz")
    with pytest.raises(ValueError, match=r"'s1_db' float32 .*'s2l1c' int16.*say which array is which"):
        open_data(file)
    names = {"images": "s2l1c", "sar": "s1_db", "masks": "lulc", "path": "ids"}
    data = open_data(file, options={"names": names, "scale": 10_000})
    assert data["images"].shape == (5, 224, 224, 13) and data["images"].dtype == np.float32
    cirrus = data["images"][..., data.bands.index("B10")]
    assert (cirrus.mean(axis=(1, 2)) < data["images"].mean(axis=(1, 2, 3))).all()
    assert -25 < data["sar"].mean() < -5 and data["masks"].max() == 9


def test_eolearn_series() -> None:
    data = open_data(sample("eolearn_timeseries"))
    assert data["seasons"].shape == (1, 68, 101, 100, 1) and data.bands == ("NDVI",)
    np.testing.assert_allclose(data["location"], [[45.870, 14.558]], atol=1e-3)
    seen = data["valid"][0].mean(axis=(1, 2)) > 0.9
    ndvi, days = data["seasons"][0, seen].mean(axis=(1, 2, 3)), data["days"][0, seen]
    summer, winter = (days > 150) & (days < 240), (days < 60) | (days > 330)
    assert ndvi[summer].mean() > 2 * ndvi[winter].mean()
