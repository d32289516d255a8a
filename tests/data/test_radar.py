"""Sentinel-1 of scenes: levels, speckle and geometry that a radar's user would recognise."""

from collections.abc import Callable

import numpy as np
import pytest

from minissl.data import DataSet, scenes
from minissl.data.scenes.layout import CROP, GRASS, ROOF, SOIL, TREES, WATER, Canvas
from minissl.data.scenes.radar import BACKSCATTER, POLARISATIONS, backscatter, terrain

VV, VH = 0, 1


@pytest.fixture(scope="module")
def world() -> DataSet:
    return scenes.generate(200, 32, 5, "s2", sar=True)


def uniform(cover: int, state: float = 0.5, size: int = 48) -> Canvas:
    """Level land of one cover."""
    canvas = Canvas.empty(size)
    canvas.paint(np.ones(canvas.cover.shape, bool), cover, state)
    return canvas


def look(canvas: Canvas, number: int) -> np.ndarray:
    return backscatter(canvas, np.zeros_like(canvas.x), np.random.default_rng(number))


def levels(cover: int, state: float = 0.5) -> np.ndarray:
    """Mean power in dB of 20 acquisitions over a cover, (20, 2)."""
    power = [(10 ** (look(uniform(cover, state, 24), number) / 10)).mean(axis=(0, 1)) for number in range(20)]
    return 10 * np.log10(power)


def test_speckle_has_the_looks_of_a_grd_product() -> None:
    """Over homogeneous land mean² / variance of the intensity is 4.4, and VV and VH are independent."""
    for cover in (WATER, TREES, CROP):
        power = np.concatenate([10 ** (look(uniform(cover), n) / 10).reshape(-1, 2)[None] for n in range(6)])
        power = power / power.mean(axis=1, keepdims=True)  # (6, pixels, 2)
        looks = 1 / power.var(axis=(0, 1))
        np.testing.assert_allclose(looks, 4.4, rtol=0.08)
        assert abs(np.corrcoef(power[..., VV].ravel(), power[..., VH].ravel())[0, 1]) < 0.05
        assert abs(np.corrcoef(power[:, :-1, VV].ravel(), power[:, 1:, VV].ravel())[0, 1]) < 0.05


def test_levels_are_those_of_c_band() -> None:
    """Means over places, in dB, within what the literature and products give."""
    expected = {TREES: (-9, -14), CROP: (-11, -17.5), GRASS: (-13, -19.5), SOIL: (-13, -20.5), ROOF: (-2.5, -10.5)}
    for cover, (vv, vh) in expected.items():
        np.testing.assert_allclose(levels(cover).mean(axis=0), (vv, vh), atol=1.5)
    water = levels(WATER)
    assert -21 < water[:, VV].min() < -17.5 and -16 < water[:, VV].max() < -11  # calm, and under wind
    assert water[:, VV].std() > 1.4 and np.corrcoef(water.T)[0, 1] > 0.8


def test_nothing_is_darker_than_the_noise_floor() -> None:
    calm = [look(uniform(WATER, 0.0), number)[..., VH] for number in range(20)]
    means = [10 * np.log10((10 ** (image / 10)).mean()) for image in calm]
    assert min(means) > -28


def test_vh_is_below_vv_in_every_cover_and_nearly_every_pixel(world: DataSet) -> None:
    assert POLARISATIONS == ("VV", "VH")
    assert all(vv > vh + 3 for states in BACKSCATTER.values() for vv, vh in states)
    assert (world["sar"][..., VH] < world["sar"][..., VV]).mean() > 0.9


def test_covers_rank_as_they_do_in_products(world: DataSet) -> None:
    """Water darkest, roofs brightest in VV; volume scattering gives trees the highest VH of all plants."""
    mean = np.array([world["sar"][world["masks"] == k].mean(axis=0) for k in range(len(scenes.COVERS))])  # (covers, 2)
    named = dict(zip(scenes.COVERS, mean, strict=True))
    assert named["water"][VV] < min(named[cover][VV] for cover in ("trees", "grass", "crop", "soil", "roof")) - 3
    assert named["roof"][VV] == max(mean[:, VV])
    assert named["trees"][VH] > max(named[cover][VH] for cover in ("shrub", "grass", "crop", "soil")) + 1


def test_moist_soil_and_full_canopies_are_brighter() -> None:
    for cover in (SOIL, GRASS, CROP, TREES):
        assert (levels(cover, 0.0).mean(axis=0) > levels(cover, 1.0).mean(axis=0)).all(), cover


def test_ploughed_fields_differ_in_roughness() -> None:
    """Two bare fields of one place and one state differ by their plots' numbers; closed canopies do not."""
    for state, differs in ((1.0, True), (0.0, False)):
        canvas = uniform(CROP, state)
        left = canvas.x < 0
        canvas.plot[left], canvas.plot[~left] = 0.0, 0.08  # 0.08 · 11 % 1 = 0.88
        image = np.mean([look(canvas, number) for number in range(9)], axis=0)
        step = image[:, 26:, VV].mean() - image[:, :22, VV].mean()
        assert (step > 1.5) if differs else abs(step) < 1


def test_slopes_that_face_the_sensor_shine() -> None:
    """Level ground counts 1. With the sensor in the west, ground that rises eastward is brighter than its far side."""
    east = np.tile(np.arange(20, dtype=np.float32), (20, 1))
    level, facing, far = (terrain(rise * east, np.radians(270), np.radians(38)) for rise in (0, 1, -1))
    np.testing.assert_allclose(level, 1, rtol=1e-5)
    assert facing.mean() > 1.2 > 1 > 0.9 > far.mean()
    # 1 m in 5 m is 11.3 degrees: cos θₗ / cos θ · sin θ / sin θₗ with θₗ = θ − 11.3 degrees
    local = np.radians(38) - np.arctan(0.2)
    expected = np.cos(local) / np.cos(np.radians(38)) * np.sin(np.radians(38)) / np.sin(local)
    np.testing.assert_allclose(facing, expected, rtol=1e-4)


def test_water_has_no_slopes() -> None:
    """Hills under a lake change nothing."""
    canvas = uniform(WATER)
    hills = np.random.default_rng(0).uniform(0, 20, canvas.x.shape).astype(np.float32)
    flat, hilly = (backscatter(canvas, relief, np.random.default_rng(1)) for relief in (0 * hills, hills))
    np.testing.assert_array_equal(flat, hilly)


def statistics(images: np.ndarray) -> np.ndarray:
    """Mean, deviation, roughness along both axes and extremes of each channel: (N, 6 C), standardised."""
    steps = [np.abs(np.diff(images, axis=axis)).mean(axis=(1, 2)) for axis in (1, 2)]
    ends = [np.quantile(images, q, axis=(1, 2)) for q in (0.05, 0.95)]
    rows = np.concatenate([images.mean(axis=(1, 2)), images.std(axis=(1, 2)), *steps, *ends], axis=1)
    return (rows - rows.mean(axis=0)) / rows.std(axis=0)


# On 400 places of 48 pixels (300 of them known): radar 0.53, optical 0.57, both 0.68.
@pytest.mark.parametrize(
    "features", [lambda world: world["sar"], lambda world: world["images"]], ids=["Sentinel-1", "Sentinel-2"]
)
def test_either_sensor_alone_tells_classes_to_some_degree(
    world: DataSet, features: Callable[[DataSet], np.ndarray]
) -> None:
    """Seven nearest neighbours by simple statistics: far above one in ten, and much is left to learn."""
    rows, labels, known = statistics(features(world)), world["labels"], np.arange(200) < 150
    distance = ((rows[~known, None] - rows[known]) ** 2).sum(axis=-1)
    votes = labels[known][distance.argsort(axis=1)[:, :7]]
    accuracy = ((votes[..., None] == np.arange(10)).sum(axis=1).argmax(axis=1) == labels[~known]).mean()
    assert 0.25 < accuracy < 0.8
