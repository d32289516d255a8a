"""Seasons of a pixel: the same place every time, in the range of the data path, and told by when it is green."""

import numpy as np
import pytest

from minissl.data import DataSet
from minissl.data.scenes import LAND_COVER, pixel_series
from minissl.data.scenes.render import BANDS
from minissl.data.scenes.seasons import YEARS, between
from minissl.evaluation import Labelled, linear_probe


@pytest.fixture(scope="module")
def world() -> DataSet:
    return pixel_series(800, dates=24, seed=3)


def test_arrays_have_the_promised_shapes_types_and_range(world: DataSet) -> None:
    assert world["images"].shape == (800, 24, 1, 13) and world["images"].dtype == np.float32
    assert 0 <= world["images"].min() < world["images"].max() <= 1
    assert world["labels"].dtype == np.int64 and world.classes == LAND_COVER and len(LAND_COVER) == 8
    assert world["location"].shape == (800, 2) and np.abs(world["location"][:, 0]).max() <= 65
    np.testing.assert_allclose(np.bincount(world["labels"]) / 800, 1 / 8, atol=0.04)
    np.testing.assert_allclose(np.bincount(world["part"]) / 800, (0.7, 0.1, 0.2), atol=0.04)


def test_a_place_is_the_same_whatever_the_count_and_another_in_another_world(world: DataSet) -> None:
    few, other = pixel_series(7, seed=3), pixel_series(7, seed=4)
    for key in world.arrays:
        np.testing.assert_array_equal(few[key], world[key][:7])
    assert (few["images"] != other["images"]).any(axis=(1, 2, 3)).all()


def test_crops_are_green_in_their_season(world: DataSet) -> None:
    spectra = world["images"][:, :, 0]
    red, infrared = (spectra[..., BANDS.index(band)] for band in ("B4", "B8"))
    index = (infrared - red) / (infrared + red)  # (N, T)
    year = {name: np.median(index[world["labels"] == k], axis=0) for k, name in enumerate(LAND_COVER)}
    greenest = {name: 365 / 24 * (values.argmax() + 0.5) for name, values in year.items()}  # day
    assert 90 < greenest["winter crop"] < 185 < greenest["summer crop"] < 260
    assert year["water"].max() < 0.1 < 0.4 < year["conifer forest"].min()
    assert np.ptp(year["broadleaf forest"]) > 2 * np.ptp(year["conifer forest"])


def test_states_stay_between_their_spectra_and_close_the_year() -> None:
    day = np.arange(-80.0, 450)
    for name, (_, state) in YEARS.items():
        assert -0.05 <= state(day).min() <= state(day).max() <= 1, name
        assert abs(state(day[80:81]) - state(day[445:446])) < 0.35, name
    np.testing.assert_allclose(between(np.array([0.0, 150.0, 300.0]), 100, 200), [0, 1, 0], atol=0.01)


def test_no_single_date_nor_a_bag_of_dates_tells_what_their_order_does(world: DataSet) -> None:
    part, labels, x = world["part"], world["labels"], world["images"][:, :, 0]  # (N,), (N,), (N, T, 13)

    def accuracy(features: np.ndarray) -> float:
        rows = features.reshape(len(features), -1)
        train, validation, test = (Labelled(rows[part == p], labels[part == p]) for p in (0, 1, 2))
        return linear_probe(train, validation, test, penalties=(1e-2, 1e-1)).score

    single = max(accuracy(x[:, t]) for t in range(0, 24, 4))
    bag, ordered = accuracy(np.concatenate([x.mean(axis=1), x.std(axis=1)], axis=1)), accuracy(x)
    assert single < ordered - 0.1 and bag < ordered - 0.05, (single, bag, ordered)


@pytest.mark.parametrize("bad", [{"count": 0}, {"count": 2, "dates": 0}, {"count": 2, "seed": -1}])
def test_bad_settings_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="pixel_series: expected a place and a date"):
        pixel_series(**bad)
