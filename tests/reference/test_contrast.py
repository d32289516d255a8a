"""What contrastive chapters share: the loss of a large batch in parts, the switches of the views, and the warning."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minissl import nn, ops, random
from minissl.optim import SGD
from minissl.tensor import Tensor
from reference.contrastive.simclr import Config, SimCLR
from reference.trainer import train, warn_of_collapse
from tests.contrastive_chapters import double, first_views, make, tiny_data

N = 12


class Plain(nn.Module):
    """Flattened pixels through dropout and a hidden layer: nothing in it lets images of a batch see each other."""

    def __init__(self, out_features: int) -> None:
        self.drop, self.hidden = nn.Dropout(0.3), nn.Linear(16 * 16 * 3, out_features)

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(self.hidden(self.drop(x.reshape(len(x), -1))))


def simclr(plain: bool = False, **settings: Any) -> Any:
    method = make("simclr", **{"batch_size": N, "head": "linear", "jitter": 0.0} | settings)
    if plain:
        method.encoder = Plain(method.encoder.out_features)
    return method.astype("float64")


def gradients(method: Any) -> tuple[dict[str, float], list[np.ndarray]]:
    views = double(first_views(method))
    random.seed(2)  # of the dropout
    logged = method.gradients(views)
    return logged, [parameter.grad for parameter in method.parameters()]


@pytest.mark.parametrize("parts", [2, 3, 12])
def test_a_batch_in_parts_has_the_loss_and_gradient_of_the_whole(parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without dropout: one draw for a batch and several for its parts differ.
    monkeypatch.setattr(nn.Dropout, "forward", lambda self, x: x)
    expected, whole = gradients(simclr(plain=True))
    found, summed = gradients(simclr(plain=True, accumulate=parts))
    assert found == pytest.approx(expected, rel=1e-9)
    for own, other in zip(summed, whole, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-6, atol=1e-12)


def test_the_parts_drop_the_same_numbers_in_both_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    method = simclr(plain=True, accumulate=3)
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


def test_a_step_in_parts_moves_the_weights_as_a_whole_step_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.Dropout, "forward", lambda self, x: x)
    moved = []
    for parts in (1, 4):
        method = simclr(plain=True, accumulate=parts)
        method.training_step(double(first_views(method)), SGD(method.parameters(), 0.1))
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
    plain, one = simclr(**off), simclr(**off | {switch: on[switch]})
    image = plain.prepare(tiny_data()["images"][:N])
    np.testing.assert_allclose(first_views(plain)[0], image, atol=1e-5)
    assert np.abs(first_views(one)[0] - image).max() > 0.05


def test_a_collapse_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    warn_of_collapse({"epoch": 3, "loss": 1.0, "std": 0.5, "cosine": 0.2})
    warn_of_collapse({"epoch": 3, "loss": 1.0})
    assert capsys.readouterr().out == ""
    warn_of_collapse({"epoch": 3, "loss": 1.0, "std": 0.04, "cosine": 0.99})
    assert capsys.readouterr().out.startswith("epoch 3: the embeddings have collapsed: std 0.040")


def test_the_trainer_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A head of zeros that stay zeros, since nothing is learned."""
    method = simclr(epochs=1, learning_rate=1e-9).astype("float32")
    for parameter in method.head.parameters():
        parameter.data[...] = 1e-3
    method.head.weight.data[...] = 0
    train(method, tiny_data(), method.config, tmp_path)
    assert "epoch 1: the embeddings have collapsed" in capsys.readouterr().out


def test_pictures_of_a_run(tmp_path: Path) -> None:
    data, method = tiny_data(), simclr(epochs=3).astype("float32")
    train(method, data, method.config, tmp_path)
    assert [file.name for file in sorted(tmp_path.glob("encoder*.safetensors"))] == [
        f"encoder_epoch_000{epoch}.safetensors" for epoch in (1, 2, 3)
    ]
    method.eval().measure({"test": data.select(np.arange(6))}, tmp_path)
    assert {file.name for file in tmp_path.glob("*.png")} == {"similarities.png", "neighbours.png", "maps.png"}
