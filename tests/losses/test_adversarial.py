"""The losses of a generative adversarial network against their formulas as loops, and their slopes."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minissl.backend import Backend
from minissl.gradcheck import gradcheck
from minissl.losses.adversarial import gan_discriminator, gan_generator
from tests.losses.checking import equals_the_loops, gradients, same_on_the_device
from tests.oracles import adversarial as oracle


@st.composite
def logits(draw: Any) -> np.ndarray:
    """Logits of any shape, from near 0 to beyond where eˣ overflows."""
    shape = draw(st.lists(st.sampled_from([1, 2, 3, 8]), max_size=3))
    scale = draw(st.sampled_from([1e-3, 1.0, 30.0, 2000.0]))
    return scale * np.random.default_rng(draw(st.integers(0, 9999))).normal(size=shape)


@given(logits(), logits())
def test_the_discriminators_loss_equals_the_loops(real: np.ndarray, fake: np.ndarray) -> None:
    expected = oracle.gan_discriminator(real.ravel().tolist(), fake.ravel().tolist())
    equals_the_loops(gan_discriminator, expected, real, fake)


@pytest.mark.parametrize("saturating", [False, True])
@given(logits())
def test_the_generators_loss_equals_the_loops(saturating: bool, fake: np.ndarray) -> None:
    expected = oracle.gan_generator(fake.ravel().tolist(), saturating)
    equals_the_loops(lambda fake: gan_generator(fake, saturating), expected, fake)


@given(logits(), logits())
def test_gradients_equal_central_differences(real: np.ndarray, fake: np.ndarray) -> None:
    real, fake = np.clip(real.ravel()[:6], -5, 5), np.clip(fake.ravel()[:6], -5, 5)
    gradcheck(gan_discriminator, real, fake)
    gradcheck(gan_generator, fake)
    gradcheck(lambda fake: gan_generator(fake, saturating=True), fake)


def test_a_guess_costs_2_log_2() -> None:
    assert gan_discriminator(np.zeros(3), np.zeros((2, 2))).item() == pytest.approx(2 * math.log(2))
    assert gan_generator(np.zeros(3)).item() == pytest.approx(math.log(2))
    assert gan_generator(np.zeros(3), saturating=True).item() == pytest.approx(-math.log(2))


def test_the_slides_form_saturates_where_the_discriminator_is_sure() -> None:
    sure = np.array([-50.0])
    assert gradients(gan_generator, sure)[0] == pytest.approx(-1)
    assert gradients(lambda fake: gan_generator(fake, saturating=True), sure)[0] == pytest.approx(0, abs=1e-15)


def test_the_same_numbers_on_a_device(cupy: Backend) -> None:
    real, fake = np.random.default_rng(0).normal(size=(2, 4, 3))
    same_on_the_device(cupy, gan_discriminator, real, fake)
    same_on_the_device(cupy, gan_generator, fake)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (np.ones((0, 1)), ValueError, "at least one logit"),
        (np.array([0.0, np.nan]), ValueError, "expected finite numbers"),
        (np.ones(2, int), TypeError, "expected floating-point"),
    ],
)
def test_bad_input_is_named(bad: np.ndarray, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"gan_generator: .*{message}"):
        gan_generator(bad)
    for pair in ((bad, np.ones(2)), (np.ones(2), bad)):
        with pytest.raises(error, match=f"gan_discriminator: .*{message}"):
            gan_discriminator(*pair)
