"""Inpainting: what the encoder may not see, what counts, what D looks at, and two gradients that must not mix."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minissl import augment, backend, checkpoint, evaluation, losses, nn, random
from minissl.data import DataSet, scenes
from minissl.nn.frozen import frozen
from minissl.optim import Optimizer
from minissl.tensor import Tensor
from reference.method import Inputs
from reference.pretext import inpainting
from reference.pretext.inpainting import BORDER_WEIGHT, Config, Inpainting
from reference.trainer import Interrupted, make_optimizer, train

N, SIDE = 8, 16
SMALL: dict[str, Any] = {"image_size": SIDE, "hole": 8, "overlap": 1, "width": 4, "batch_size": N}


@pytest.fixture(scope="module")
def data() -> DataSet:
    return scenes.generate(2 * N, SIDE)


def make(data: DataSet, **settings: Any) -> Inpainting:
    random.seed(0)
    config = Config(**SMALL | settings)
    method = Inpainting(config, Inputs(data.channels, *augment.channel_statistics(data["images"]), data.classes))
    method.start_epoch(0)
    return method


def views(method: Inpainting, images: np.ndarray, seed: int = 1) -> tuple[Any, ...]:
    return method.views({"images": images[:N]}, random.seed(seed))


# -- the hole ---------------------------------------------------------------------------------------------------------


def test_the_hole_in_the_centre_and_its_border(data: DataSet) -> None:
    hidden, weights = make(data, overlap=2).masks(3, random.seed(0))
    for n in range(3):
        for i in range(SIDE):
            for j in range(SIDE):
                in_hole = 6 <= i < 10 and 6 <= j < 10
                in_border = 4 <= i < 12 and 4 <= j < 12 and not in_hole
                assert hidden[n, i, j] == in_hole
                assert weights[n, i, j] == (1 if in_hole else BORDER_WEIGHT if in_border else 0)


def test_several_holes_are_at_random_places(data: DataSet) -> None:
    method = make(data, holes=3, hole=4)
    hidden, weights = method.masks(500, random.seed(0))
    assert ((weights == 1) == (hidden == 1)).all()
    assert set(np.unique(weights)) == {0, 1, BORDER_WEIGHT}
    assert hidden.any(axis=(1, 2)).all() and (hidden.sum(axis=(1, 2)) <= 3 * 4).all()
    assert ((weights > 0).sum(axis=(1, 2)) <= 3 * 16).all()
    assert (weights > 0).any(axis=0).all()  # up to the edges of the image
    np.testing.assert_array_equal(method.masks(500, random.seed(0))[0], hidden)
    assert (method.masks(500, random.seed(1))[0] != hidden).any()


@pytest.mark.parametrize("holes", [{}, {"holes": 3, "hole": 6}])
def test_the_encoder_never_sees_what_is_hidden(data: DataSet, holes: dict[str, int]) -> None:
    """Whatever stands in the hole, its input has the same bits; a pixel of the border it does see."""
    method = make(data, turns=False, **holes)
    images = data["images"][:N]
    holed, x, weights = views(method, images)
    np.testing.assert_array_equal(holed, np.where(weights[..., None] == 1, 0, x))
    for counts, seen in ((1, False), (BORDER_WEIGHT, True)):
        others = np.where((weights == counts)[..., None], 255 - images, images)
        again, target, _ = views(method, others)
        assert (again != holed).any() == seen
        assert (target != x).any()


def test_one_hole_is_all_that_the_decoder_fills(data: DataSet) -> None:
    for settings, filled in (({}, 8), ({"hole": 4}, 4), ({"holes": 3, "hole": 6}, SIDE)):
        method = make(data, **settings)
        y = method.net(Tensor(views(method, data["images"])[0])).data
        edge = (SIDE - filled) // 2
        inside = np.zeros((SIDE, SIDE), bool)
        inside[edge : SIDE - edge, edge : SIDE - edge] = True
        assert y.shape == (N, SIDE, SIDE, 3) and not y[:, ~inside].any()
        assert y[:, inside].any(axis=(0, 2)).all()


# -- the loss ---------------------------------------------------------------------------------------------------------


class Fixed(nn.Module):
    """A decoder that says y, whatever it is given."""

    def __init__(self, y: np.ndarray) -> None:
        self.y = Tensor(y, requires_grad=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.y


def test_only_the_hole_and_ten_times_its_border_count(data: DataSet) -> None:
    method = make(data)
    batch = views(method, data["images"])
    _, x, weights = batch
    method.decoder = Fixed(x + 1)  # type: ignore[assignment]
    method.loss(batch).backward()
    felt = abs(method.decoder.y.grad).sum(axis=-1)  # type: ignore[attr-defined]
    np.testing.assert_allclose(felt / felt.max(), weights / BORDER_WEIGHT, atol=1e-6)
    assert method.loss(batch).item() == pytest.approx(1)

    elsewhere = np.where(weights[..., None] == 0, 1e3, x + 1).astype("float32")
    method.decoder = Fixed(elsewhere)  # type: ignore[assignment]
    assert method.loss(batch).item() == pytest.approx(1)


def test_a_copy_of_what_the_encoder_sees_is_no_answer(data: DataSet) -> None:
    """With the hole's pixels in its input the identity would solve the task, and nothing would be learned."""
    method = make(data)
    holed, x, weights = views(method, data["images"])
    copied = {}
    for name, seen in (("whole", x), ("holed", holed)):
        method.decoder = Fixed(seen)  # type: ignore[assignment]
        copied[name] = method.loss((seen, x, weights)).item()
    assert copied["whole"] == 0
    inside = weights == 1
    expected = (x[inside] ** 2).mean() * inside.sum() / weights.sum()
    assert copied["holed"] == pytest.approx(expected, rel=1e-5) and expected > 0.01


def test_training_lowers_the_loss(data: DataSet) -> None:
    method = make(data, learning_rate=0.01)
    optimizer, batch = make_optimizer(method, method.config), views(method, data["images"])
    values = [method.training_step(batch, optimizer)["L2"] for _ in range(30)]
    assert values[-1] < 0.5 * values[0]


# -- the adversary ----------------------------------------------------------------------------------------------------


class StillOptimizer(Optimizer):
    """Keeps the gradients of a step, and moves nothing."""

    def step(self) -> None:
        self.gradients: list[Any] = [None if p.grad is None else p.grad.copy() for p, _ in self._parameters()]


def gradients(method: Inpainting, batch: tuple[Any, ...]) -> dict[str, np.ndarray]:
    """The gradient that a training step gives each parameter."""
    names = [name for name, _ in method.named_parameters()]
    optimizer = StillOptimizer(method.parameters(), 0.0)
    method.training_step(batch, optimizer)
    return dict(zip(names, optimizer.gradients, strict=True))


def test_d_looks_at_the_hole_alone(data: DataSet) -> None:
    method, looked_at = make(data, adversarial=True), []

    class Watched(nn.Module):
        def __init__(self, D: nn.Module) -> None:
            self.D = D

        def forward(self, x: Tensor) -> Tensor:
            looked_at.append(x.data)
            return self.D(x)

    method.D = Watched(method.D)  # type: ignore[assignment]
    method.start_epoch(method.config.epochs - 1)
    batch = holed, x, weights, noise = views(method, data["images"])
    y = method.net(Tensor(holed)).data
    gradients(method, batch)
    inside = weights[0] > 0
    assert len(looked_at) == 3  # real and filled in D's step, filled in the other's
    for given, images, n in zip(looked_at, (x, y, y), method.sigma * noise, strict=True):
        np.testing.assert_array_equal(given, images[:, inside].reshape(N, 8, 8, 3) + n)


def test_no_gradient_crosses_between_the_networks(data: DataSet) -> None:
    """D's gradient is that of its own loss alone; the filling network's that of its own, with D in it."""
    method = make(data, adversarial=True, adversarial_weight=0.3)
    method.start_epoch(method.config.epochs - 1)
    batch = holed, x, weights, noise = views(method, data["images"])
    n1, n2, n3 = method.sigma * noise
    found = gradients(method, batch)
    assert all(p.requires_grad for p in [*method.D.parameters(), *method.net.parameters()])

    y = method.net(Tensor(holed))
    real, fake = method.hole(x), method.hole(y)
    losses.gan_discriminator(method.D(Tensor(real + n1)), method.D(Tensor(fake.data + n2))).backward()
    assert all(p.grad is None for p in method.net.parameters())
    for name, parameter in method.D.named_parameters():
        np.testing.assert_array_equal(found[f"D.{name}"], parameter.grad)

    method.zero_grad()
    with frozen(method.D):
        logits = method.D(fake + n3)
    losses.inpainting(y, x, weights, logits, 0.3).backward()
    assert all(p.grad is None for p in method.D.parameters())
    for name, parameter in method.net.named_parameters():
        np.testing.assert_allclose(found[name], parameter.grad, rtol=1e-5, atol=1e-7, err_msg=name)


def test_at_first_there_is_l2_alone_and_then_noise_that_fades(data: DataSet) -> None:
    method, sigmas = make(data, adversarial=True, epochs=8, alone=0.5, noise=2.0), []
    alone, batch = make(data, epochs=8), views(method, data["images"])
    for epoch in range(8):
        method.start_epoch(epoch)
        if method.joint:
            sigmas.append(method.sigma)
            continue
        found, expected = gradients(method, batch), gradients(alone, batch[:3])
        assert all(found[f"D.{name}"] is None for name, _ in method.D.named_parameters())
        for name, gradient in expected.items():
            np.testing.assert_array_equal(found[name], gradient)
    assert sigmas == [2, 1.5, 1, 0.5]


def test_what_l2_alone_has_learned_is_kept_when_d_is_heard(data: DataSet) -> None:
    method = make(data, adversarial=True, epochs=4, alone=0.5)
    optimizer, batch = make_optimizer(method, method.config), views(method, data["images"])
    same = []
    for epoch in range(4):
        method.start_epoch(epoch)
        method.training_step(batch, optimizer)
        kept = method.l2_alone.module.state_dict()
        same.append(all(np.array_equal(kept[name], array) for name, array in method.net.state_dict().items()))
    assert same == [True, True, False, False]


def test_an_interrupted_run_ends_with_the_same_bits(data: DataSet, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"adversarial": True, "epochs": 2, "alone": 0.5}
    whole = make(data, **settings)
    (tmp_path / "whole").mkdir()
    train(whole, data, whole.config, tmp_path / "whole")

    class Stopped(Inpainting):
        steps = 0

        def training_step(self, views: tuple[Any, ...], optimizer: Optimizer) -> dict[str, float]:
            self.steps += 1
            if self.steps == 4:  # the second of the epoch in which D is heard
                raise Interrupted
            return super().training_step(views, optimizer)

    random.seed(0)
    with pytest.raises(Interrupted):
        train(Stopped(whole.config, whole.inputs), data, whole.config, tmp_path)
    train(make(data, **settings), data, whole.config, tmp_path)
    expected = checkpoint.load(tmp_path / "whole" / "checkpoint.safetensors")[0]
    found = checkpoint.load(tmp_path / "checkpoint.safetensors")[0]
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


# -- pictures, figures, settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 13])
@pytest.mark.parametrize("settings", [{}, {"holes": 2, "hole": 6}, {"adversarial": True}])
def test_pictures_and_figures(channels: int, settings: dict[str, Any], tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (N, SIDE, SIDE, channels), np.uint8)
    data = DataSet({"images": images})
    method = make(data, **settings)
    rows = method.shown(views(method, images))
    assert [row.shape[:3] for row in rows.values()] == [(N, SIDE, SIDE)] * 2
    measured = method.eval().measure({"test": data}, tmp_path)
    assert len(measured) == (5 if "adversarial" in settings else 3)
    assert all(np.isfinite(value) for value in measured.values())
    assert [file.name for file in tmp_path.glob("*.png")] == ["filled.png"]
    features = evaluation.extract(method.encoder, images, method.prepare)
    assert features.shape == (N, 8 * method.config.width)


def test_a_perfect_filling_has_no_error_and_a_flat_one_no_sharpness(data: DataSet) -> None:
    x = data["images"] / np.float32(255)
    hidden = make(data).masks(len(x), random.seed(0))[0][..., None] == 1
    mean = inpainting.mean_colour(x, hidden)
    for n in range(len(x)):
        np.testing.assert_allclose(mean[n, 0, 0], x[n][~hidden[n, ..., 0]].mean(axis=0), rtol=1e-5)
    assert inpainting.error(x, x, hidden) == 0
    assert inpainting.error(x + 2 * hidden, x, hidden) == pytest.approx(4, rel=1e-5)
    assert inpainting.error(x + 2 * ~hidden, x, hidden) == 0
    assert inpainting.sharpness(mean + 0 * x, hidden) == 0
    assert inpainting.sharpness(x + 5 * hidden, hidden) == pytest.approx(inpainting.sharpness(x, hidden), rel=1e-4)
    blurred = augment.gaussian_blur(x, random.seed(0), (1.0, 1.0), 1.0)
    assert inpainting.sharpness(blurred, hidden) < 0.8 * inpainting.sharpness(x, hidden)


def test_a_ramp_is_as_sharp_as_it_is_steep() -> None:
    i, j = np.mgrid[:6, :6]
    ramp = (3.0 * i + 4.0 * j)[None, ..., None]
    hidden = np.zeros((1, 6, 6, 1), bool)
    hidden[:, 1:4, 2:5] = True
    assert inpainting.sharpness(ramp, hidden) == pytest.approx(5)


def test_the_same_gradients_on_both_backends(data: DataSet, cupy: backend.Backend) -> None:
    found = []
    for place in ("numpy", "cupy"):
        with backend.use(place):
            method = make(data, adversarial=True, adversarial_weight=0.3)
            method.start_epoch(method.config.epochs - 1)
            kept = gradients(method, views(method, data["images"]))
            found.append({name: backend.to_host(array) for name, array in kept.items() if array is not None})
    assert found[0].keys() == found[1].keys()
    for name, array in found[0].items():
        atol = 1e-5 + 1e-3 * float(abs(array).max())
        np.testing.assert_allclose(found[1][name], array, atol=atol, err_msg=name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 24}, "--image-size: the stem 'halving' takes sides that 16 divides, got 24"),
        ({"hole": 2}, "--hole: expected more than its two borders of 1 pixels"),
        ({"hole": 17}, "--hole: expected at most the image's side of 16, got 17"),
        ({"adversarial": True, "holes": 2}, "--adversarial: D looks at the one hole in the centre, got --holes 2"),
        ({"adversarial": True, "epochs": 1}, "--adversarial: expected at least one epoch with L2 alone"),
        ({"adversarial": True, "adversarial_weight": 1.5}, "--adversarial-weight: expected at most 1, got 1.5"),
        ({"hole": 12}, r"--hole: expected one of \[16, 8, 4, 2\], or several --holes; got 12"),
        ({"adversarial": True, "hole": 4}, "Discriminator: expected an image side of 8, 16, 32, 64"),
    ],
)
def test_settings_that_do_not_go_together_are_named(data: DataSet, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(data, **settings)
