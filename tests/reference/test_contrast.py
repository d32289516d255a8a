"""What contrastive chapters share: the loss of a large batch in parts, the switches of the views, and the warning."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minissl import augment, nn, ops, random
from minissl.data import DataSet, scenes
from minissl.optim import SGD
from minissl.tensor import Tensor
from reference.contrastive.simclr import Config, SimCLR
from reference.method import Inputs
from reference.trainer import train, warn_of_collapse

N = 12
BATCH = {"images": scenes.generate(N, 16)["images"]}


class Plain(nn.Module):
    """Flattened pixels through dropout and a hidden layer: nothing in it lets images of a batch see each other."""

    def __init__(self, out_features: int) -> None:
        self.drop, self.hidden = nn.Dropout(0.3), nn.Linear(16 * 16 * 3, out_features)

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(self.hidden(self.drop(x.reshape(len(x), -1))))


def make(plain: bool, **settings: Any) -> SimCLR:
    random.seed(0)
    config = Config(**{"width": 4, "embedding": 8, "batch_size": N, "head": "linear", "jitter": 0.0} | settings)
    method = SimCLR(config, Inputs(3, *augment.channel_statistics(BATCH["images"]), ()))
    if plain:
        method.encoder = Plain(method.encoder.out_features)  # type: ignore[assignment]
    return method.astype("float64")


def gradients(method: SimCLR) -> tuple[dict[str, float], list[np.ndarray]]:
    views = method.views(BATCH, random.seed(1))
    random.seed(2)  # of the dropout
    logged = method.gradients(tuple(view.astype("float64") for view in views))
    return logged, [parameter.grad for parameter in method.parameters()]


@pytest.mark.parametrize("parts", [2, 3, 12])
def test_a_batch_in_parts_has_the_loss_and_gradient_of_the_whole(parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without dropout: one draw for a batch and several for its parts differ.
    monkeypatch.setattr(nn.Dropout, "forward", lambda self, x: x)
    expected, whole = gradients(make(plain=True))
    found, summed = gradients(make(plain=True, accumulate=parts))
    assert found == pytest.approx(expected, rel=1e-9)
    for own, other in zip(summed, whole, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-6, atol=1e-12)


def test_the_parts_drop_the_same_numbers_in_both_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    method = make(plain=True, accumulate=3)
    seen: list[np.ndarray] = []
    real = SimCLR.embed

    def watched(self: SimCLR, views: tuple[Any, ...]) -> tuple[Tensor, ...]:
        z = real(self, views)
        seen.append(z[0].data.copy())
        return z

    monkeypatch.setattr(SimCLR, "embed", watched)
    gradients(method)
    assert len(seen) == 6
    for without_graph, with_graph in zip(seen[:3], seen[3:], strict=True):
        np.testing.assert_array_equal(without_graph, with_graph)


def test_batch_norm_averages_every_part_once() -> None:
    method, twin = make(plain=False, accumulate=2), make(plain=False)
    gradients(method)
    x = twin.views(BATCH, random.seed(1))
    for part in (slice(0, N // 2), slice(N // 2, N)):
        twin.embed(tuple(view[part].astype("float64") for view in x))
    for (name, found), (_, expected) in zip(method.named_tensors(), twin.named_tensors(), strict=True):
        if "running" in name:
            np.testing.assert_allclose(found.data, expected.data, rtol=1e-12, err_msg=name)


def test_a_step_in_parts_moves_the_weights_as_a_whole_step_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.Dropout, "forward", lambda self, x: x)
    moved = []
    for parts in (1, 4):
        method = make(plain=True, accumulate=parts)
        views = tuple(view.astype("float64") for view in method.views(BATCH, random.seed(1)))
        method.training_step(views, SGD(method.parameters(), 0.1))
        moved.append(method.state_dict())
    for name, array in moved[0].items():
        np.testing.assert_allclose(moved[1][name], array, rtol=1e-9, err_msg=name)


def test_parts_that_do_not_divide_the_batch_are_an_error() -> None:
    with pytest.raises(ValueError, match="--accumulate 5: expected a divisor of --batch-size 12"):
        Config(batch_size=12, accumulate=5)


@pytest.mark.parametrize("switch", ["crop", "flip", "turns", "jitter", "grey", "blur", "solarize"])
def test_every_augmentation_is_a_switch(switch: str) -> None:
    off = {"crop": 1.0, "flip": False, "turns": False, "jitter": 0.0, "grey": 0.0, "blur": 0.0, "solarize": 0.0}
    on = {"crop": 0.3, "flip": True, "turns": True, "jitter": 0.5, "grey": 1.0, "blur": 1.0, "solarize": 1.0}
    plain = make(plain=False, **off)
    image = plain.prepare(BATCH["images"])
    np.testing.assert_allclose(plain.views(BATCH, random.seed(1))[0], image, atol=1e-5)
    one = make(plain=False, **off | {switch: on[switch]})
    assert np.abs(one.views(BATCH, random.seed(1))[0] - image).max() > 0.05


def test_a_collapse_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    warn_of_collapse({"epoch": 3, "loss": 1.0, "std": 0.5, "cosine": 0.2})
    warn_of_collapse({"epoch": 3, "loss": 1.0})
    assert capsys.readouterr().out == ""
    warn_of_collapse({"epoch": 3, "loss": 1.0, "std": 0.04, "cosine": 0.99})
    assert capsys.readouterr().out.startswith("epoch 3: the embeddings have collapsed: std 0.040")


def test_the_trainer_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A head of zeros that stay zeros, since nothing is learned."""
    data: DataSet = scenes.generate(N, 16)
    method = make(plain=False, epochs=1, learning_rate=1e-9, workers=0).astype("float32")
    for parameter in method.head.parameters():
        parameter.data[...] = 1e-3
    method.head.weight.data[...] = 0  # type: ignore[attr-defined]
    train(method, data, method.config, tmp_path)
    assert "epoch 1: the embeddings have collapsed" in capsys.readouterr().out


def test_pictures_of_a_run(tmp_path: Path) -> None:
    data = scenes.generate(40, 16)
    method = make(plain=False, epochs=3, workers=0).astype("float32")
    train(method, data, method.config, tmp_path)
    assert [file.name for file in sorted(tmp_path.glob("encoder*.safetensors"))] == [
        f"encoder_epoch_000{epoch}.safetensors" for epoch in (1, 2, 3)
    ]
    method.inputs = Inputs(3, method.inputs.mean, method.inputs.deviation, data.classes)
    method.eval().measure(dict.fromkeys(("train", "validation", "test"), data), tmp_path)
    assert {file.name for file in tmp_path.glob("*.png")} == {"similarities.png", "neighbours.png", "maps.png"}
