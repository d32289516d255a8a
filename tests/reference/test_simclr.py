"""SimCLR: its views, its heads, what collapses, that it learns, and that a GPU computes the same step."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from minissl import augment, backend, evaluation, random
from minissl.data import scenes
from minissl.tensor import Tensor
from reference.contrastive.simclr import Config, SimCLR
from reference.method import Inputs
from reference.trainer import make_optimizer
from tests import cupy_standin

N = 16


def images(channels: int = 3) -> np.ndarray:
    """Scenes of 16 pixels; other than three channels are noise."""
    if channels == 3:
        return scenes.generate(N, 16)["images"]
    return np.random.default_rng(0).integers(0, 256, (N, 16, 16, channels), np.uint8)


def make(pictures: np.ndarray, **settings: Any) -> SimCLR:
    random.seed(0)
    config = Config(**{"width": 4, "embedding": 16, "batch_size": N} | settings)
    return SimCLR(config, Inputs(pictures.shape[-1], *augment.channel_statistics(pictures), ()))


@pytest.mark.parametrize(("head", "layers", "size"), [("none", 0, 32), ("linear", 1, 16), ("nonlinear", 2, 16)])
def test_heads(head: Any, layers: int, size: int) -> None:
    method = make(images(), head=head)
    matrices = [p.shape for p in method.head.parameters() if p.ndim == 2]
    assert matrices == {0: [], 1: [(32, 16)], 2: [(32, 32), (32, 16)]}[layers]
    assert method.head(Tensor(np.ones((5, 32), np.float32))).shape == (5, size)


@pytest.mark.parametrize("head", ["none", "linear", "nonlinear"])
def test_the_probe_reads_h_and_not_z(head: Any) -> None:
    pictures = images()
    method = make(pictures, head=head)
    h = evaluation.extract(method.encoder, pictures, method.prepare)
    assert h.shape == (N, 8 * method.config.width)
    for parameter in method.head.parameters():
        parameter.data = parameter.data * 0
    np.testing.assert_array_equal(evaluation.extract(method.encoder, pictures, method.prepare), h)


@pytest.mark.parametrize("channels", [1, 2, 3, 13])
def test_a_step_on_any_number_of_channels(channels: int) -> None:
    pictures = images(channels)
    method = make(pictures)
    views = method.views({"images": pictures}, random.seed(1))
    assert [view.shape for view in views] == [pictures.shape] * 2
    assert all(view.dtype == np.float32 for view in views)
    logged = method.training_step(views, make_optimizer(method, method.config))
    assert 0 < logged["loss"] < 2 * math.log(2 * N - 1)


def test_views_of_one_image_differ_and_the_same_seed_repeats_them() -> None:
    pictures = images()
    method = make(pictures)
    first, second = method.views({"images": pictures}, random.seed(1))
    difference = np.abs(first - second).reshape(N, -1).max(axis=1)  # (N,)
    assert (difference > 0.1).all()
    again = method.views({"images": pictures}, random.seed(1))
    np.testing.assert_array_equal(np.stack(again), np.stack([first, second]))
    other = method.views({"images": pictures}, random.seed(2))
    assert np.abs(other[0] - first).max() > 0.1


def test_without_augmentation_a_view_is_the_standardised_image() -> None:
    pictures = images()
    method = make(pictures, crop=1.0, jitter=0.0, grey=0.0, blur=0.0, turns=False)
    for view in method.views({"images": pictures}, random.seed(1)):
        np.testing.assert_allclose(view.mean(axis=(0, 1, 2)), 0, atol=0.2)
        np.testing.assert_allclose(view.std(axis=(0, 1, 2)), 1, atol=0.2)
    exact = method.prepare(pictures)
    np.testing.assert_allclose(exact.mean(axis=(0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(exact.std(axis=(0, 1, 2)), 1, atol=1e-4)


def test_a_collapsed_encoder_pays_log_of_2n_minus_1() -> None:
    pictures = images()
    method = make(pictures, head="linear")
    weight, bias = method.head.parameters()
    weight.data, bias.data = weight.data * 0, bias.data * 0 + 3
    loss = method.loss(method.views({"images": pictures}, random.seed(1))).item()
    assert loss == pytest.approx(math.log(2 * N - 1), abs=1e-5)
    assert [loss] == pytest.approx(list(method.references.values()), abs=1e-5)


def test_training_lowers_the_loss() -> None:
    pictures = images()
    method = make(pictures, temperature=0.2, crop=0.7, grey=0.0, blur=0.0)
    optimizer = make_optimizer(method, method.config)
    batch = {"images": pictures}
    held_out = method.views(batch, random.seed(1))
    before = method.loss(held_out).item()
    for step in range(40):
        method.training_step(method.views(batch, random.seed(2, step)), optimizer)
    after = method.loss(held_out).item()
    assert after < before - 0.3, f"{before} -> {after}"


def one_step(place: str) -> tuple[float, dict[str, np.ndarray], list[Any], list[Any]]:
    """On the backend `place`: the loss, all weights after the update, and the copies to the host and from it."""
    pictures = images()
    with backend.use(place):
        method = make(pictures, learning_rate=0.03)
        optimizer = make_optimizer(method, method.config)
        cupy_standin.TRANSFERS.clear()
        cupy_standin.UPLOADS.clear()
        logged = method.training_step(method.views({"images": pictures}, random.seed(1)), optimizer)
        transfers, uploads = list(cupy_standin.TRANSFERS), list(cupy_standin.UPLOADS)
        weights = {name: backend.to_host(array) for name, array in method.state_dict().items()}
    return logged["loss"], weights, transfers, uploads


def test_a_step_on_cupy_equals_numpy_and_copies_three_values_back(cupy: backend.Backend) -> None:
    loss, weights, *_ = one_step("numpy")
    loss_there, weights_there, transfers, uploads = one_step("cupy")
    assert loss_there == pytest.approx(loss, abs=1e-5)
    assert list(weights_there) == list(weights)
    for name, array in weights.items():
        np.testing.assert_allclose(weights_there[name], array, rtol=1e-5, atol=1e-5, err_msg=name)
    if not hasattr(cupy.xp, "is_standin"):
        return
    # Each copy to the host waits for the device. The only ones: are the embeddings finite, the loss, their spread.
    assert [(copy.what, copy.caller) for copy in transfers] == [("get", "minissl.backend.gpu.to_host")] * 3
    # The images once; everything else is small: per view 4 numbers of a crop, 2 or 3 flips, 3 turns, 4 numbers and the
    # indices of a jitter, indices of grey and blur, constants such as mean and deviation. A rise is a regression.
    named = Counter(copy.caller for copy in uploads)
    assert named["minissl.backend.gpu.to_device"] <= 1 + 2 * 17
    assert len(uploads) <= 47, named
