"""Reconstruction losses against their formulas as loops, and their laws."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minissl import losses
from minissl.backend import Backend
from minissl.gradcheck import gradcheck
from minissl.losses.reconstruction import colorization, gaussian_kl, inpainting
from minissl.tensor import Tensor
from tests.losses.checking import equals_the_loops, gradients, same_on_the_device
from tests.losses.drawing import embeddings
from tests.oracles import reconstruction as oracle

seeds = st.integers(0, 2**32 - 1)
PLAIN = {"mse": (losses.mse, oracle.mse), "l1": (losses.l1, oracle.l1)}


@st.composite
def patches(draw: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prediction and target (N, L, D), and a mask (N, L) in which at least one place counts."""
    rng = np.random.default_rng(draw(seeds))
    N, L, D = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 6))
    prediction, target = rng.normal(0, 3, (2, N, L, D))
    mask = (rng.random((N, L)) < draw(st.sampled_from([0.0, 0.25, 0.75, 1.0]))).astype(float)
    mask[rng.integers(N), rng.integers(L)] = 1
    return prediction, target, mask


@pytest.mark.parametrize("name", PLAIN)
@given(seed=seeds, shape=st.lists(st.integers(1, 4), min_size=0, max_size=4))
def test_mse_and_l1_equal_the_loops(name: str, seed: int, shape: list[int]) -> None:
    loss, loops = PLAIN[name]
    p, t = np.random.default_rng(seed).normal(0, 3, (2, *shape))
    expected = loops(p.ravel().tolist(), t.ravel().tolist())
    found = loss(p, t)
    assert found.shape == () and found.dtype == "float64"
    assert found.item() == pytest.approx(expected, rel=1e-12)
    single = loss(p.astype("float32"), t.astype("float32"))
    assert single.dtype == "float32" and single.item() == pytest.approx(expected, rel=1e-4)
    gradcheck(lambda p: loss(p, t), np.where(abs(p - t) < 1e-3, p + 1, p))  # |p − t| has a kink at 0


@given(patches())
def test_masked_mse_equals_the_loops(case: Any) -> None:
    p, t, mask = case
    expected = oracle.masked_mse(p.tolist(), t.tolist(), mask.tolist())
    found = losses.masked_mse(p, t, mask)
    assert found.shape == () and found.dtype == "float64"
    assert found.item() == pytest.approx(expected, rel=1e-12)
    single = losses.masked_mse(*(array.astype("float32") for array in case))
    assert single.dtype == "float32" and single.item() == pytest.approx(expected, rel=1e-4)
    gradcheck(lambda p: losses.masked_mse(p, t, mask), p)


@given(patches())
def test_with_a_full_mask_it_is_mse(case: Any) -> None:
    p, t, mask = case
    for full in (np.ones_like(mask), np.ones(mask.shape, bool), np.full(mask.shape, 3)):
        assert losses.masked_mse(p, t, full).item() == pytest.approx(losses.mse(p, t).item(), rel=1e-12)


@given(patches())
def test_patches_that_do_not_count_have_no_influence(case: Any) -> None:
    p, t, mask = case
    prediction = Tensor(p, requires_grad=True)
    loss = losses.masked_mse(prediction, t, mask)
    loss.backward()
    np.testing.assert_array_equal((prediction.grad != 0).any(axis=2), mask == 1)
    changed = np.where(mask[..., None] == 1, p, 100.0)
    assert losses.masked_mse(changed, t, mask).item() == loss.item()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float32", "float64"])
def test_a_mask_of_any_type_keeps_the_predictions_type(dtype: str) -> None:
    p, t = np.random.default_rng(0).normal(size=(2, 2, 3, 4)).astype("float32")
    mask = np.array([[1, 0, 1], [0, 1, 1]])
    loss = losses.masked_mse(p, t, mask.astype(dtype))
    assert loss.dtype == "float32" and loss.item() == losses.masked_mse(p, t, mask).item()


def test_targets_and_masks_receive_no_gradient() -> None:
    p, t = (Tensor(np.full((2, 3, 4), value), requires_grad=True) for value in (1.0, 2.0))
    mask = Tensor(np.ones((2, 3)), requires_grad=True)
    (losses.mse(p, t) + losses.l1(p, t) + losses.masked_mse(p, t, mask)).backward()
    assert t.grad is None and mask.grad is None
    np.testing.assert_allclose(p.grad, (-2 - 1 - 2) / 24)


def test_the_best_constant_is_the_mean_or_the_median() -> None:
    t = np.array([0.0, 1.0, 2.0, 10.0, 100.0])
    constants = np.linspace(0, 100, 1001)
    best = {name: constants[np.argmin([PLAIN[name][0](np.full(5, c), t).item() for c in constants])] for name in PLAIN}
    assert best == pytest.approx({"mse": t.mean(), "l1": np.median(t)})


@pytest.mark.parametrize(("p", "t"), [((2, 3), (2, 1)), ((2, 3), (3,)), ((0, 3), (0, 3)), ((2, 3, 4), (2, 3))])
@pytest.mark.parametrize("name", ["mse", "l1", "masked_mse"])
def test_bad_shapes_are_named(name: str, p: tuple[int, ...], t: tuple[int, ...]) -> None:
    arguments = [np.ones(p), np.ones(t)] + [np.ones(p[:2])] * (name == "masked_mse")
    with pytest.raises(ValueError, match=f"^{name}: expected prediction and target of one shape"):
        getattr(losses, name)(*arguments)


@pytest.mark.parametrize("name", ["mse", "l1"])
def test_integer_predictions_are_named(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name}: expected floating-point"):
        getattr(losses, name)(np.ones(3, int), np.ones(3))


@pytest.mark.parametrize("mask", [np.ones((2, 4)), np.ones((2, 3, 1)), np.ones(3), np.ones((3, 2))])
def test_a_mask_of_another_shape_is_named(mask: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"masked_mse: expected a mask \(2, 3\) for a prediction \(2, 3, 4\)"):
        losses.masked_mse(np.ones((2, 3, 4)), np.ones((2, 3, 4)), mask)


def test_predictions_that_are_no_patches_are_named() -> None:
    with pytest.raises(ValueError, match=r"masked_mse: expected a tensor \(N, L, D\)"):
        losses.masked_mse(np.ones((2, 3)), np.ones((2, 3)), np.ones(2))


def test_an_empty_mask_is_named() -> None:
    with pytest.raises(ValueError, match="masked_mse: expected a mask with at least one place"):
        losses.masked_mse(np.ones((2, 3, 4)), np.ones((2, 3, 4)), np.zeros((2, 3)))


@st.composite
def holes(draw: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prediction and target (N, H, W, C), and weights (N, H, W): 0 outside a hole, 10 in its border, 1 inside."""
    rng = np.random.default_rng(draw(seeds))
    N, C = draw(st.sampled_from([1, 2, 8])), draw(st.sampled_from([1, 3, 13]))
    H, W = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    mask = np.zeros((N, H, W))
    top, left = draw(st.integers(0, H - 1)), draw(st.integers(0, W - 1))
    mask[:, top:, left:] = 10
    mask[:, top + 1 : H - 1, left + 1 : W - 1] = 1
    return *rng.normal(0, 3, (2, N, H, W, C)), mask


@given(holes(), st.sampled_from([0.001, 0.3, 1.0]))
def test_inpainting_equals_the_loops(case: Any, weight: float) -> None:
    p, t, mask = case
    lists, logits = [array.tolist() for array in case], p[..., :1]
    equals_the_loops(inpainting, oracle.inpainting(*lists), p, t, mask)
    expected = oracle.inpainting(*lists, logits.ravel().tolist(), weight)
    equals_the_loops(lambda *arrays: inpainting(*arrays, adversarial_weight=weight), expected, p, t, mask, logits)


@given(holes())
def test_the_gradient_of_inpainting_is_in_the_hole_and_in_the_logits(case: Any) -> None:
    p, t, mask = (array[:1] for array in case)
    logits = np.linspace(-2, 2, 3)
    gradcheck(lambda p, logits: inpainting(p, t, mask, logits, 0.3), p, logits)
    grad_p, grad_t, grad_mask, grad_logits = gradients(inpainting, p, t, mask, logits)
    assert grad_t is None and grad_mask is None and grad_logits is not None
    np.testing.assert_array_equal((grad_p != 0).any(axis=3), mask != 0)


def test_inpainting_of_everything_alone_is_mse() -> None:
    p, t = np.random.default_rng(0).normal(size=(2, 2, 3, 4, 3))
    assert inpainting(p, t, np.ones((2, 3, 4))).item() == pytest.approx(losses.mse(p, t).item(), rel=1e-12)


IMAGE, MASK = np.ones((2, 3, 4, 1)), np.ones((2, 3, 4))
BAD_INPAINTING: dict[str, tuple[Any, ...]] = {
    "images that differ": ((IMAGE, IMAGE[:1], MASK), "of one shape"),
    "no channels": ((MASK, MASK, MASK), r"expected a tensor \(N, H, W, C\)"),
    "a mask with channels": ((IMAGE, IMAGE, IMAGE), r"a mask \(2, 3, 4\) for a prediction \(2, 3, 4, 1\)"),
    "no hole": ((IMAGE, IMAGE, 0 * MASK), "at least one place that counts"),
    "a weight above 1": ((IMAGE, IMAGE, MASK, np.zeros(2), 1.5), "adversarial_weight from 0 to 1, got 1.5"),
}


@pytest.mark.parametrize("case", BAD_INPAINTING)
def test_bad_input_to_inpainting_is_named(case: str) -> None:
    arguments, message = BAD_INPAINTING[case]
    with pytest.raises(ValueError, match=f"inpainting: .*{message}"):
        inpainting(*arguments)


@st.composite
def colours(draw: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits and soft targets (N, H, W, Q), at times equally likely colours, and class weights (Q,)."""
    rng = np.random.default_rng(draw(seeds))
    N, H, W = (draw(st.integers(1, 4)) for _ in range(3))
    Q = draw(st.sampled_from([1, 2, 5, 64]))
    Z = rng.dirichlet(np.ones(Q), (N, H, W))
    if draw(st.booleans()):
        Z[0] = 1 / Q
    return draw(st.sampled_from([1, 30])) * rng.normal(size=(N, H, W, Q)), Z, rng.uniform(0.1, 5, Q)


@given(colours())
def test_colorization_equals_the_loops(case: Any) -> None:
    logits, Z, w = case
    Q = len(w)
    expected = oracle.colorization(logits.reshape(-1, Q).tolist(), Z.reshape(-1, Q).tolist(), w.tolist())
    equals_the_loops(colorization, expected, logits, Z, w)


@given(colours())
def test_the_gradient_of_colorization_goes_to_the_logits_alone(case: Any) -> None:
    logits, Z, w = case[0][:1, :2, :2, :5], case[1][:1, :2, :2, :5], case[2][:5]
    gradcheck(lambda logits: colorization(logits, Z, w), logits)
    assert [grad is None for grad in gradients(colorization, logits, Z, w)] == [False, True, True]


def test_equal_class_weights_leave_the_cross_entropy() -> None:
    rng = np.random.default_rng(0)
    logits, Z = rng.normal(size=(2, 3, 4, 5)), rng.dirichlet(np.ones(5), (2, 3, 4))
    expected = losses.cross_entropy(logits.reshape(-1, 5), Z.reshape(-1, 5)).item()
    assert colorization(logits, Z, np.full(5, 3)).item() == pytest.approx(3 * expected, rel=1e-12)


def test_a_pixel_counts_by_its_most_probable_colour() -> None:
    Z = np.array([0.4, 0.5, 0.1]).reshape(1, 1, 1, 3)
    assert colorization(np.zeros((1, 1, 1, 3)), Z, [7, 2, 9]).item() == pytest.approx(2 * math.log(3))


PIXEL = np.ones((1, 2, 2, 3))
BAD_COLOURS: dict[str, tuple[Any, ...]] = {
    "other colours": (PIXEL, np.ones((1, 2, 2, 4)), np.ones(3), "of one shape"),
    "numbers of colours": (PIXEL, np.ones((1, 2, 2)), np.ones(3), "of one shape"),
    "rows": (np.ones((4, 3)), np.ones((4, 3)), np.ones(3), r"expected a tensor \(N, H, W, Q\)"),
    "an empty batch": (PIXEL[:0], PIXEL[:0], np.ones(3), "at least one element"),
    "other weights": (PIXEL, PIXEL, np.ones(4), "one weight for each of 3 classes"),
}


@pytest.mark.parametrize("case", BAD_COLOURS)
def test_bad_input_to_colorization_is_named(case: str) -> None:
    *arguments, message = BAD_COLOURS[case]
    with pytest.raises(ValueError, match=f"colorization: .*{message}"):
        colorization(*arguments)


@given(embeddings(scaled=False))
def test_gaussian_kl_equals_the_loops(z: Any) -> None:
    equals_the_loops(gaussian_kl, oracle.gaussian_kl(*(rows.tolist() for rows in z)), *z)
    gradcheck(gaussian_kl, *(rows[:4, :5] for rows in z))


@given(embeddings(scaled=False))
def test_gaussian_kl_is_0_at_the_prior_and_above_it_elsewhere(z: Any) -> None:
    mu, log_var = z
    assert gaussian_kl(0 * mu, 0 * log_var).item() == 0
    assert (gaussian_kl(mu, log_var).item() > 0) == bool(mu.any() or log_var.any())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gaussian_kl_is_finite_from_a_point_to_a_very_wide_gaussian(dtype: str) -> None:
    mu, log_var = np.zeros((1, 3), dtype), np.array([[-1000, 1e-4, 80]], dtype)
    assert gaussian_kl(mu, log_var).item() == pytest.approx(0.5 * (999 + math.exp(80) - 81), rel=1e-5)
    assert all(np.isfinite(grad).all() for grad in gradients(gaussian_kl, mu, log_var))


@pytest.mark.parametrize(
    ("mu", "log_var", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 1)), "of one shape"),
        (np.ones((0, 3)), np.ones((0, 3)), "N at least 1"),
        (np.ones(3), np.ones(3), "expected a tensor"),
        (np.ones((2, 3)), np.full((2, 3), np.inf), "expected finite numbers"),
    ],
)
def test_bad_input_to_gaussian_kl_is_named(mu: Any, log_var: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"gaussian_kl: .*{message}"):
        gaussian_kl(mu, log_var)


@pytest.mark.parametrize("loss", [losses.mse, losses.l1, losses.masked_mse, inpainting, colorization])
def test_nan_is_not_hidden(loss: Any) -> None:
    """Losses over pixels do not search their inputs for NaN; they pass it on, also from where the mask is 0."""
    shape = (1, 2, 3) if loss is losses.masked_mse else (1, 2, 2, 3)
    p, t = np.ones((2, *shape))
    p[0, 0, 0] = np.nan
    mask = np.ones(shape[:-1])
    mask[0, 0] = 0
    extra = {losses.masked_mse: [mask], inpainting: [mask], colorization: [np.ones(3)]}.get(loss, [])
    assert math.isnan(loss(p, t, *extra).item())


def test_the_same_numbers_on_a_device(cupy: Backend) -> None:
    rng = np.random.default_rng(0)
    p, t, Z = *rng.normal(size=(2, 2, 3, 4, 5)), rng.dirichlet(np.ones(5), (2, 3, 4))
    mask, weights = rng.integers(0, 2, (2, 3, 4)), np.arange(5.0)
    for loss, arrays in {
        losses.mse: [p, t],
        losses.l1: [p, t],
        losses.masked_mse: [p[0], t[0], mask[0]],
        inpainting: [p, t, mask, rng.normal(size=(2, 1))],
        gaussian_kl: [p[0, 0], t[0, 0]],
    }.items():
        same_on_the_device(cupy, loss, *arrays)
    same_on_the_device(cupy, lambda logits, Z: colorization(logits, Z, weights), p, Z)
