"""Lab against the CIE's formulas and published values; colours as classes, and back."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minissl import augment, backend
from minissl.augment import ab_bins
from tests import cupy_standin

BINS = ab_bins.gamut_bins()
rng = np.random.default_rng


def lab_by_loops(rgb: list[float]) -> list[float]:
    """One colour by the formulas of IEC 61966-2-1 and CIE 15, with the white of D65 as it is published."""
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb)
    X = 0.4124564 * r + 0.3575761 * g + 0.1804375 * b
    Y = 0.2126729 * r + 0.7151522 * g + 0.0721750 * b
    Z = 0.0193339 * r + 0.1191920 * g + 0.9503041 * b
    parts = []
    for value, white in ((X, 0.95047), (Y, 1.0), (Z, 1.08883)):
        t = value / white
        parts.append(t ** (1 / 3) if t > (6 / 29) ** 3 else (29 / 6) ** 2 * t / 3 + 4 / 29)
    x, y, z = parts
    return [116 * y - 16, 500 * (x - y), 200 * (y - z)]


# Lab of sRGB under D65, as colour calculators give it (here B. Lindbloom's).
PUBLISHED = {
    (1, 1, 1): (100, 0, 0),
    (0, 0, 0): (0, 0, 0),
    (1, 0, 0): (53.2408, 80.0925, 67.2032),
    (0, 1, 0): (87.7347, -86.1827, 83.1793),
    (0, 0, 1): (32.2970, 79.1875, -107.8602),
    (1, 1, 0): (97.1393, -21.5537, 94.4780),
    (0, 1, 1): (91.1132, -48.0875, -14.1312),
    (1, 0, 1): (60.3242, 98.2343, -60.8249),
}


@given(st.lists(st.floats(0, 1) | st.sampled_from([0.0, 0.04, 0.04045, 0.041, 1.0]), min_size=3, max_size=3))
def test_lab_equals_the_formulas(rgb: list[float]) -> None:
    np.testing.assert_allclose(augment.rgb_to_lab(np.array(rgb)), lab_by_loops(rgb), atol=1e-3)  # white has 5 digits


@pytest.mark.parametrize(("rgb", "lab"), PUBLISHED.items())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_known_colours(rgb: tuple[int, ...], lab: tuple[float, ...], dtype: str) -> None:
    np.testing.assert_allclose(augment.rgb_to_lab(np.array(rgb, dtype)), np.array(lab), atol=2e-3)
    np.testing.assert_allclose(augment.lab_to_rgb(np.array(lab, dtype)), np.array(rgb), atol=1e-4)


def test_grey_has_no_colour() -> None:
    grey = np.linspace(0, 1, 256, dtype=np.float32)[:, None].repeat(3, axis=1)
    lab = augment.rgb_to_lab(grey)
    np.testing.assert_allclose(lab[:, 1:], 0, atol=1e-4)
    assert (np.diff(lab[:, 0]) > 0).all()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 3e-5), ("float64", 1e-7)])
@pytest.mark.parametrize("shape", [(3,), (7, 3), (2, 5, 4, 3)])
def test_there_and_back(shape: tuple[int, ...], dtype: str, tolerance: float) -> None:
    rgb = rng(0).random(shape).astype(dtype)
    lab = augment.rgb_to_lab(rgb)
    back = augment.lab_to_rgb(lab)
    assert lab.dtype == back.dtype == dtype and lab.shape == back.shape == shape
    np.testing.assert_allclose(back, rgb, atol=tolerance)


def test_colours_that_srgb_lacks_come_out_beyond_0_and_1() -> None:
    out = augment.lab_to_rgb(np.array([[50, -120, 0], [99, 60, 60], [5, 0, -60]], "float32"))
    assert np.isfinite(out).all() and out.min() < 0 and out.max() > 1
    assert np.isfinite(augment.rgb_to_lab(np.array([-0.5, 1.5, 0.2], "float32"))).all()


def test_conversions_say_what_is_wrong() -> None:
    for convert in (augment.rgb_to_lab, augment.lab_to_rgb):
        with pytest.raises(ValueError, match=r"3 channels in the last axis, got shape \(2, 13\); choose the bands"):
            convert(np.zeros((2, 13)))
        with pytest.raises(TypeError, match="expected floats, got uint8; call to_float"):
            convert(np.zeros((2, 3), np.uint8))


# -- bins -------------------------------------------------------------------------------------------------------------


def test_every_colour_of_srgb_falls_into_a_bin_and_every_bin_has_one() -> None:
    assert len(BINS) == 261 and BINS.dtype == np.float32
    np.testing.assert_array_equal(BINS % 10, 0)
    assert [0, 0] in BINS.tolist()
    level = np.linspace(0, 1, 52)
    cube = np.stack(np.meshgrid(level, level, level), axis=-1).reshape(-1, 3)
    squares = np.rint(augment.rgb_to_lab(cube)[:, 1:] / 10) * 10
    assert {tuple(row) for row in squares.tolist()} <= {tuple(row) for row in BINS.tolist()}
    finer = ab_bins.gamut_bins(5)
    assert len(finer) > 3 * len(BINS)


def soft_by_loops(ab: np.ndarray, neighbours: int, sigma: float) -> list[float]:
    distances = [math.dist(ab, centre) for centre in BINS]
    nearest = sorted(range(len(BINS)), key=lambda q: distances[q])[:neighbours]
    total = sum(math.exp(-(distances[q] ** 2) / (2 * sigma**2)) for q in nearest)
    return [math.exp(-(distances[q] ** 2) / (2 * sigma**2)) / total if q in nearest else 0 for q in range(len(BINS))]


@pytest.mark.parametrize(("neighbours", "sigma"), [(5, 5.0), (1, 5.0), (3, 20.0)])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_soft_codes(neighbours: int, sigma: float, dtype: str, tolerance: float) -> None:
    colours = augment.rgb_to_lab(rng(0).random((3, 4, 3)))[..., 1:].astype(dtype)
    Z = ab_bins.soft_encode(colours, BINS, neighbours, sigma)
    assert Z.shape == (3, 4, len(BINS)) and Z.dtype == dtype
    np.testing.assert_allclose(Z.sum(axis=-1), 1, atol=1e-6)
    assert ((Z > 0).sum(axis=-1) == neighbours).all()
    for i, j in np.ndindex(3, 4):
        np.testing.assert_allclose(Z[i, j], soft_by_loops(colours[i, j], neighbours, sigma), atol=tolerance)


def test_a_bins_own_colour_is_mostly_that_bin() -> None:
    Z = ab_bins.soft_encode(BINS, BINS)
    np.testing.assert_array_equal(Z.argmax(axis=1), np.arange(len(BINS)))
    grey = BINS.tolist().index([0, 0])
    assert Z[grey, grey] == pytest.approx(1 / (1 + 4 * math.exp(-2)), abs=1e-5)
    far = ab_bins.soft_encode(np.array([[1000, 1000]], "float32"), BINS)  # all weights would underflow to 0
    assert far.sum() == pytest.approx(1)


def test_soft_encode_says_what_is_wrong() -> None:
    for ab, bins, neighbours in ((np.zeros((4, 3)), BINS, 5), (np.zeros((4, 2)), BINS[:4], 5)):
        with pytest.raises(ValueError, match=r"expected colours \(..., 2\) and at least 5 bins \(Q, 2\), got"):
            ab_bins.soft_encode(ab, bins, neighbours)


@given(st.lists(st.floats(0, 100), min_size=2, max_size=20).filter(lambda p: sum(p) > 1e-3), st.floats(0.01, 1))
def test_rebalancing(counts: list[float], uniform: float) -> None:
    p, Q = [c / sum(counts) for c in counts], len(counts)
    w = ab_bins.rebalancing_weights(np.array(counts), uniform)
    raw = [1 / ((1 - uniform) * p_q + uniform / Q) for p_q in p]
    expected = [r / sum(p_q * r_q for p_q, r_q in zip(p, raw, strict=True)) for r in raw]
    np.testing.assert_allclose(w, expected, rtol=1e-9)
    assert float(p @ w) == pytest.approx(1)  # the average pixel counts 1
    order = np.argsort(counts)
    assert (np.diff(w[order]) <= 1e-9 * w.max()).all()  # the rarer, the more


def test_uniform_weights_and_their_bounds() -> None:
    np.testing.assert_allclose(ab_bins.rebalancing_weights(np.array([0, 1, 5], "float32"), 1), 1, rtol=1e-6)
    assert ab_bins.rebalancing_weights(np.array([0, 1, 5], "float32")).dtype == np.float32
    for uniform in (0, 1.5, math.nan):
        with pytest.raises(ValueError, match="uniform above 0 and up to 1"):
            ab_bins.rebalancing_weights(np.array([1, 2], "float32"), uniform)


def test_annealed_mean() -> None:
    logits = rng(0).normal(size=(2, 3, len(BINS)))
    p = np.exp(logits)
    mean = (p[..., None] * BINS).sum(axis=-2) / p.sum(axis=-1, keepdims=True)
    mode = BINS[logits.argmax(axis=-1)]
    decode = lambda T: ab_bins.annealed_mean(logits, BINS, T)
    np.testing.assert_allclose(decode(1), mean, atol=1e-9)
    np.testing.assert_array_equal(decode(0), mode)
    np.testing.assert_allclose(decode(1e-4), mode, atol=1e-6)
    np.testing.assert_allclose(decode(1e9), np.broadcast_to(BINS.mean(axis=0), mean.shape), atol=1e-5)
    sharper = p ** (1 / 0.38)
    expected = (sharper[..., None] * BINS).sum(axis=-2) / sharper.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(ab_bins.annealed_mean(logits + 1e3, BINS), expected, atol=1e-9)
    single = ab_bins.annealed_mean(logits.astype("float32"), BINS)
    assert single.dtype == np.float32 and single.shape == (2, 3, 2)
    with pytest.raises(ValueError, match="a temperature of at least 0, got -1"):
        ab_bins.annealed_mean(logits, BINS, -1)


def test_the_mean_of_two_colours_is_greyer_than_both() -> None:
    green, brown = BINS.tolist().index([-40, 40]), BINS.tolist().index([40, 40])
    logits = np.full(len(BINS), -50.0)
    logits[green], logits[brown] = 0.1, 0.0
    chroma = {T: float(np.linalg.norm(ab_bins.annealed_mean(logits, BINS, T))) for T in (0, 0.38, 1)}
    assert chroma[1] < chroma[0.38] < chroma[0] == pytest.approx(40 * math.sqrt(2))


def test_device_equals_host(cupy: backend.Backend) -> None:
    rgb = rng(0).random((2, 4, 4, 3), dtype=np.float32)
    logits = rng(1).normal(size=(5, len(BINS))).astype(np.float32)
    with backend.use("cupy"):
        bins, there, guesses = ab_bins.gamut_bins(), cupy.to_device(rgb), cupy.to_device(logits)
        cupy_standin.TRANSFERS.clear()
        lab = augment.rgb_to_lab(there)
        Z = ab_bins.soft_encode(lab[..., 1:], bins)
        w = ab_bins.rebalancing_weights(Z.mean(axis=(0, 1, 2)))
        found = [bins, lab, augment.lab_to_rgb(lab), Z, w]
        found += [ab_bins.annealed_mean(guesses, bins, T) for T in (0, 0.38)]
        assert cupy_standin.TRANSFERS == []
    lab = augment.rgb_to_lab(rgb)
    Z = ab_bins.soft_encode(lab[..., 1:], BINS)
    expected = [BINS, lab, rgb, Z, ab_bins.rebalancing_weights(Z.mean(axis=(0, 1, 2)))]
    expected += [ab_bins.annealed_mean(logits, BINS, T) for T in (0, 0.38)]
    for here, device in zip(expected, found, strict=True):
        assert isinstance(device, cupy.xp.ndarray) and device.dtype == np.float32
        np.testing.assert_allclose(cupy.to_host(device), here, rtol=1e-4, atol=2e-4)
