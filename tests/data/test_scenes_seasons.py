"""Seasons of scenes: green when things grow, white where it freezes, bright under clouds, and still the same place."""

from dataclasses import replace

import numpy as np
import pytest

from minissl.data import scenes
from minissl.data.scenes.clouds import Clouds, draw_clouds
from minissl.data.scenes.layout import CROP, DETAIL, GRASS, TREES, WATER
from minissl.data.scenes.place import land_cover
from minissl.data.scenes.render import BANDS, draw_sky, reflectance, sun_position
from minissl.data.scenes.seasons import Climate, dressed, own_day, snow_cover, temperature

MIDWINTER, SPRING, MIDSUMMER, LATE_SUMMER = 12, 120, 190, 235  # days of the northern year


def place(name: str, latitude: float = 50.0, altitude: float = 50.0, seed: int = 3) -> scenes.Location:
    """The first place of a class, moved to a latitude and a height."""
    found = next(here for i in range(10) if (here := scenes.locate(seed, i, 48)).label == scenes.CLASSES.index(name))
    climate = replace(found.climate, latitude=latitude, altitude=altitude, late=0.0, conifers=0.0)
    return replace(found, latitude=latitude, climate=climate)


def seen(location: scenes.Location, day: int, number: int = 0) -> np.ndarray:
    return scenes.acquire(location, np.random.default_rng(number), day=day).clip(0, 1)


def contrast(images: np.ndarray, first: str, second: str) -> np.ndarray:
    """(first − second) / (first + second): NDVI of B8 and B4, NDSI of B3 and B11."""
    a, b = images[..., BANDS.index(first)], images[..., BANDS.index(second)]
    return (a - b) / (a + b + 1e-6)


@pytest.mark.parametrize(("name", "cover"), [("forest", TREES), ("pasture", GRASS), ("annual crops", CROP)])
def test_vegetation_is_greener_in_summer_on_both_sides_of_the_equator(name: str, cover: int) -> None:
    for latitude, summer, winter in ((50, MIDSUMMER - 30, MIDWINTER), (-50, MIDWINTER - 5, MIDSUMMER)):
        here = place(name, latitude)
        plants = land_cover(here.canvas) == cover
        green = [contrast(seen(here, day), "B8", "B4")[plants].mean() for day in (summer, winter)]
        assert green[0] > green[1] + 0.15, (latitude, green)


def test_woods_of_the_tropics_keep_their_leaves() -> None:
    spread = {}
    for latitude in (5, 50):
        here = place("forest", latitude)
        states = [dressed(here.canvas, here.climate, day).state.mean() for day in range(0, 365, 30)]
        spread[latitude] = np.ptp(states)
    assert spread[5] < 0.3 * spread[50] and spread[50] > 0.5


def test_fields_take_turns() -> None:
    """In May some are green and some ploughed, in August the other way round; in January all are bare."""
    here = place("annual crops")
    fields = here.canvas.cover == CROP
    plot, share = here.canvas.plot[fields], here.climate.winter_crops
    state = {day: dressed(here.canvas, here.climate, day).state[fields] for day in (140, 220, MIDWINTER)}
    autumn_sown = plot < share
    assert 0.1 < autumn_sown.mean() < 0.9
    assert state[140][autumn_sown].mean() < 0.4 < 0.7 < state[140][~autumn_sown].mean()
    assert state[220][~autumn_sown].mean() < 0.4 < 0.7 < state[220][autumn_sown].mean()
    assert state[MIDWINTER].mean() > 0.7


def test_grass_dries_in_late_summer_where_summers_are_dry() -> None:
    here = place("pasture", latitude=38)
    here.climate.drought = 0.6
    grass = here.canvas.cover == GRASS
    june, september = (dressed(here.canvas, here.climate, day).state[grass].mean() for day in (165, 240))
    assert september > june + 0.25


def test_a_year_keeps_states_in_range_and_the_borders_of_fields() -> None:
    """On any day, most of the neighbours that differ in the map differ in the picture."""
    for name in ("annual crops", "pasture", "residential"):
        here = place(name)
        steps = np.abs(np.diff(here.canvas.state, axis=0)) > 0.2
        steps &= here.canvas.cover[1:] == here.canvas.cover[:-1]
        for day in range(0, 365, 45):
            state = dressed(here.canvas, here.climate, day).state
            assert state.dtype == np.float32 and 0 <= state.min() <= state.max() <= 1
            assert not steps.any() or (np.abs(np.diff(state, axis=0))[steps] > 0.02).mean() > 0.6, (name, day)


def test_the_growing_season_is_shorter_toward_the_poles() -> None:
    def days_in_leaf(latitude: float) -> int:
        climate = Climate(latitude, 0.0, 0.0, 0.0, 0.5, 0.0)
        return int(((own_day(climate, np.arange(365)) > 120) & (own_day(climate, np.arange(365)) < 290)).sum())

    assert days_in_leaf(60) < days_in_leaf(45) < days_in_leaf(30) and days_in_leaf(-45) == pytest.approx(170, abs=2)


def test_it_is_cold_in_winter_in_the_north_and_on_mountains() -> None:
    """Rough means over land: the equator, central Europe in January and July, and 6.5 degrees less per kilometre."""
    at = lambda latitude, day, height=0.0: float(temperature(Climate(latitude, 0, 0, 0, 0.5, 0), day, height))
    assert at(0, MIDWINTER) == pytest.approx(27) and at(0, MIDSUMMER) == pytest.approx(27)
    assert at(50, MIDWINTER) == pytest.approx(-2.5, abs=1) and at(50, MIDSUMMER) == pytest.approx(21.5, abs=1)
    assert at(-50, MIDSUMMER) == pytest.approx(at(50, MIDSUMMER - 182), abs=0.5)
    assert at(50, MIDSUMMER) - at(50, MIDSUMMER, 1000) == pytest.approx(6.5)


def test_snow_lies_where_it_is_cold_and_nowhere_else() -> None:
    rng = np.random.default_rng(0)
    for latitude in (5, 20, 35, 50, 64):
        for altitude in (0.0, 1500.0):
            here = place("annual crops", latitude, altitude)
            for day in range(0, 365, 40):
                snow = snow_cover(here.canvas, here.relief, here.climate, day, rng)
                warmth = temperature(here.climate, day, here.relief)
                if warmth.min() > 3:
                    assert snow is None
                elif warmth.max() < -9:
                    assert snow is not None and snow.mean() > 0.6 and 0 <= snow.min() <= snow.max() <= 1
    assert snow_cover(place("forest", 60).canvas, here.relief, place("forest", 60).climate, MIDSUMMER, rng) is None


def test_snow_is_white_and_dark_in_the_short_waves() -> None:
    """NDSI above 0.4 wherever snow hides the ground, under any sky; below it in summer."""
    here = place("annual crops", 64, 300)
    fields, white = land_cover(here.canvas) == CROP, np.ones_like(here.relief)
    for number in range(8):
        rng = np.random.default_rng(number)
        sky = draw_sky(rng, 64, day=MIDWINTER)
        buried = reflectance(here.canvas, here.relief, here.spectra, sky, rng, snow=white).clip(0, 1)
        assert contrast(buried, "B3", "B11").min() > 0.4 and buried[..., BANDS.index("B3")].mean() > 0.5
        winter, summer = (seen(here, day, number)[fields] for day in (MIDWINTER, MIDSUMMER))
        assert (contrast(winter, "B3", "B11") > 0.4).mean() > 0.75  # snow is patchy
        assert (contrast(summer, "B3", "B11") > 0.4).mean() < 0.01


def test_canopies_and_streets_stay_darker_than_fields_under_snow() -> None:
    here, rng = place("forest", 64), np.random.default_rng(0)
    snow = snow_cover(here.canvas, here.relief, here.climate, MIDWINTER, rng)
    assert snow is not None
    assert snow[here.canvas.cover == TREES].max() < 0.4
    open_water = place("shore", 52)
    ice = snow_cover(open_water.canvas, open_water.relief, open_water.climate, MIDWINTER, rng)
    assert ice is None or ice[open_water.canvas.cover == WATER].max() == 0


def test_water_is_dark_in_the_infrared_in_every_season() -> None:
    """In B8A, B11 and B12, below a third of the land around it, where nothing is frozen."""
    here = place("shore", 40)
    cells = (here.canvas.cover == WATER)[: 48 * DETAIL].reshape(48, DETAIL, 48, DETAIL)
    water, land = cells.all(axis=(1, 3)), ~cells.any(axis=(1, 3))
    for day in (SPRING, MIDSUMMER, LATE_SUMMER):
        image = seen(here, day)
        for band in ("B11", "B12"):
            values = image[..., BANDS.index(band)]
            assert values[water].mean() < 0.33 * values[land].mean()
        assert contrast(image, "B8", "B4")[water].mean() < 0 < contrast(image, "B8", "B4")[land].mean()


def test_the_sun_stands_higher_in_summer_and_where_it_should_at_half_past_ten() -> None:
    """South-east in the north, north-east in the south; 90 − 50 + 23.4 degrees less a little on midsummer's day."""
    azimuth, elevation = np.degrees(sun_position(172, 50))
    assert 110 < azimuth < 160 and 52 < elevation < 62
    assert np.degrees(sun_position(355, 50)[1]) == pytest.approx(20)  # the lowest there is
    assert 0 < np.degrees(sun_position(355, -50)[0]) < 90
    assert sun_position(100, 30)[1] > sun_position(20, 30)[1]


def test_a_place_is_recognised_in_every_season() -> None:
    """After taking each picture's mean colour away, seasons of a place are more alike than those of two places."""
    world = scenes.generate(20, 32, 11, bands="s2", seasons=4)
    grey = world["seasons"][..., [BANDS.index(b) for b in ("B4", "B8", "B11")]].mean(axis=-1)  # (N, T, H, W)
    edges = np.abs(np.diff(np.log(grey + 0.01), axis=-1)).reshape(20, 4, -1)
    edges = (edges - edges.mean(axis=-1, keepdims=True)) / edges.std(axis=-1, keepdims=True)
    alike = np.einsum("itp,jtp->ij", edges[:, [0]], edges[:, [2]]) / edges.shape[-1]
    assert (alike.argmax(axis=1) == np.arange(20)).mean() > 0.9


@pytest.mark.parametrize("number", range(6))
def test_clouds_hide_what_is_below_and_shade_what_lies_away_from_the_sun(number: int) -> None:
    rng = np.random.default_rng(number)
    clouds = draw_clouds(rng, 64, azimuth=np.pi / 2, elevation=np.pi / 4)  # the sun in the east: shadows to the west
    assert clouds.opacity.shape == clouds.light.shape == (64, 64)
    assert 0 <= clouds.opacity.min() < clouds.opacity.max() <= 1 and 0.3 < clouds.light.min() <= clouds.light.max() <= 1
    assert 0.05 < (clouds.opacity > 0).mean() < 0.95
    shade, cloud = 1 - clouds.light, clouds.opacity
    fits = [(shade[:, : 64 - away] * cloud[:, away:]).mean() / cloud[:, away:].mean() for away in range(33)]
    aside = [(shade[:, away:] * cloud[:, : 64 - away]).mean() / cloud[:, : 64 - away].mean() for away in range(1, 33)]
    assert max(fits) > max(aside)


def test_what_lies_in_a_shadow_gets_less_light() -> None:
    here = place("pasture")
    shadow = Clouds(np.zeros((48, 48), np.float32), np.full((48, 48), 0.5, np.float32), np.ones(13, np.float32))
    sky = replace(draw_sky(np.random.default_rng(0), 50), haze=np.zeros(13, np.float32), noise=0.0)
    lit, shaded = (
        reflectance(here.canvas, here.relief, here.spectra, sky, np.random.default_rng(0), clouds=clouds)
        for clouds in (None, shadow)
    )
    np.testing.assert_allclose(shaded, 0.5 * lit, rtol=1e-5)


def test_clouds_are_bright_in_all_bands_but_that_of_cirrus() -> None:
    """Thick low clouds leave B10 dark, where water vapour takes the light; thin cirrus shows there."""
    tops = np.array([draw_clouds(np.random.default_rng(i), 16, 1.0, 1.0).white for i in range(40)])  # (40, bands)
    others = np.delete(tops, BANDS.index("B10"), axis=1)
    assert others.min() > 0.2
    cirrus = tops[:, BANDS.index("B10")] > 0.1
    assert 0 < cirrus.mean() < 0.5 and tops[~cirrus, BANDS.index("B10")].max() < 0.03
    here = place("forest")
    clear, cloudy = (
        scenes.acquire(here, np.random.default_rng(1), day=MIDSUMMER, clouds=veil)
        for veil in (None, np.random.default_rng(0))
    )
    visible = [BANDS.index(band) for band in ("B2", "B3", "B4")]
    assert np.quantile(cloudy[..., visible], 0.95) > 2 * np.quantile(clear[..., visible], 0.95)
