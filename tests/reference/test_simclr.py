"""SimCLR: its views, its heads and version 2's, that it learns, and what a GPU copies to the host in a step."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from minissl import backend, evaluation
from minissl.tensor import Tensor
from reference.trainer import make_optimizer
from tests import cupy_standin
from tests.contrastive_chapters import N, first_views, make, step, tiny_data, weights


@pytest.mark.parametrize(
    ("head", "layers"),
    [("none", []), ("linear", [(32, 8)]), ("nonlinear", [(32, 32), (32, 8)]), ("v2", [(32, 32), (32, 32), (32, 8)])],
)
def test_the_loss_sees_the_head_and_the_probe_does_not(head: str, layers: list[tuple[int, int]]) -> None:
    method = make("simclr_v2") if head == "v2" else make("simclr", head=head)
    images = tiny_data()["images"]
    assert [p.shape for p in method.head.parameters() if p.ndim == 2] == layers
    assert method.head(Tensor(np.ones((5, 32), np.float32))).shape == (5, 8 if layers else 32)
    h = evaluation.extract(method.encoder, images, method.prepare)
    assert h.shape == (len(images), 8 * method.config.width)
    for parameter in method.head.parameters():
        parameter.data = parameter.data * 0
    np.testing.assert_array_equal(evaluation.extract(method.encoder, images, method.prepare), h)


def test_views_of_one_image_differ_and_the_same_seed_repeats_them() -> None:
    method = make("simclr")
    first, second = first_views(method)
    assert first.shape == second.shape == (N, 16, 16, 3) and first.dtype == np.float32
    difference = np.abs(first - second).reshape(N, -1).max(axis=1)  # (N,)
    assert (difference > 0.1).all()
    np.testing.assert_array_equal(np.stack(first_views(method)), np.stack([first, second]))
    assert np.abs(first_views(method, seed=2)[0] - first).max() > 0.1


def test_without_augmentation_a_view_is_the_standardised_image() -> None:
    method, images = (
        make("simclr", batch_size=2 * N, crop=1.0, jitter=0.0, grey=0.0, blur=0.0, turns=False),
        tiny_data(),
    )
    for x, tolerance in ((first_views(method)[0], 0.2), (method.prepare(images["images"]), 1e-4)):
        np.testing.assert_allclose(x.mean(axis=(0, 1, 2)), 0, atol=tolerance)
        np.testing.assert_allclose(x.std(axis=(0, 1, 2)), 1, atol=tolerance)


def test_thirteen_bands_are_shown_in_true_colour() -> None:
    data = tiny_data("s2")
    shown = make("simclr", data).picture(data["images"])
    assert np.abs(shown - tiny_data()["images"] / 255).mean() < 0.03  # the same places, but for the sensor's noise


def test_training_lowers_the_loss_of_views_it_has_not_seen() -> None:
    method = make("simclr", embedding=16, temperature=0.2, crop=0.7, grey=0.0, blur=0.0)
    optimizer, held_out = make_optimizer(method, method.config), first_views(method)
    before = method.loss(held_out).item()
    for number in range(20):
        step(method, optimizer, 100 + number)
    after = method.loss(held_out).item()
    assert after < before - 0.6, f"{before} -> {after}"


def one_step(place: str) -> tuple[float, dict[str, np.ndarray], list[Any], list[Any]]:
    """On the backend `place`: the loss, all weights after the update, and the copies to the host and from it."""
    with backend.use(place):
        method = make("simclr", learning_rate=0.03)
        optimizer = make_optimizer(method, method.config)
        cupy_standin.TRANSFERS.clear()
        cupy_standin.UPLOADS.clear()
        logged = step(method, optimizer)
        transfers, uploads = list(cupy_standin.TRANSFERS), list(cupy_standin.UPLOADS)
    return logged["loss"], weights(method), transfers, uploads


def test_a_step_on_cupy_equals_numpy_and_copies_three_values_back(cupy: backend.Backend) -> None:
    loss, here, *_ = one_step("numpy")
    loss_there, there, transfers, uploads = one_step("cupy")
    assert loss_there == pytest.approx(loss, abs=1e-5)
    assert list(there) == list(here)
    for name, array in here.items():
        np.testing.assert_allclose(there[name], array, rtol=1e-5, atol=1e-5, err_msg=name)
    if not hasattr(cupy.xp, "is_standin"):
        return
    # Each copy to the host waits for the device. The only ones: are the embeddings finite, the loss, their spread.
    assert [(copy.what, copy.caller) for copy in transfers] == [("get", "minissl.backend.gpu.to_host")] * 3
    # The images once; everything else is small: per view 4 numbers of a crop, 2 or 3 flips, 3 turns, 4 numbers and the
    # indices of a jitter, indices of grey and blur, constants such as mean and deviation. A rise is a regression.
    named = Counter(copy.caller for copy in uploads)
    assert named["minissl.backend.gpu.to_device"] <= 1 + 2 * 17
    assert len(uploads) <= 47, named
