"""Probes of every stage: the size of what is probed, one pass for all, and what they find."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from minissl import models, nn, ops, random
from minissl.evaluation import Labelled, layer_probes
from minissl.evaluation.layers import pooled, stage_features
from minissl.models.autoencoder import ConvEncoder
from minissl.models.backbone import Backbone
from minissl.models.vit import VisionTransformer
from minissl.tensor import Tensor


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, "float32")


@pytest.mark.parametrize(
    ("shape", "limit", "side"),
    [
        ((8, 8, 4), 256, (8, 8)),  # fits as it is
        ((8, 8, 4), 255, (7, 7)),
        ((32, 32, 16), 10_000, (25, 25)),
        ((8, 3, 4), 100, (5, 3)),  # no side is enlarged
        ((4, 4, 50), 10, (1, 1)),  # more channels than the limit: at least one place
    ],
)
def test_maps_become_the_largest_square_within_the_limit(
    shape: tuple[int, int, int], limit: int, side: tuple[int, int]
) -> None:
    y = Tensor(normal(2, *shape))
    found = pooled(y, limit)
    expected = ops.adaptive_average_pool2d(y, side).data.reshape(2, -1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == "float32"


def test_tokens_are_pooled_as_a_map_without_the_class_token() -> None:
    y = normal(2, 1 + 16, 3)
    expected = y[:, 1:].reshape(2, 2, 2, 2, 2, 3).mean(axis=(2, 4)).reshape(2, -1)
    np.testing.assert_allclose(pooled(Tensor(y), 12), expected, atol=1e-6)
    np.testing.assert_array_equal(pooled(Tensor(y), 48), y[:, 1:].reshape(2, -1))
    np.testing.assert_array_equal(pooled(Tensor(y[:, 0]), 2), y[:, 0])  # rows have no places to pool


NETWORKS: dict[str, Any] = {
    "ResNet": lambda: models.resnet18(4, 3, "halving"),
    "ViT": lambda: VisionTransformer(16, 4, 3, 8, 2, 2),
    "convolutions": lambda: ConvEncoder(16, 3, 4, 2, 5),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_stage_is_read_from_one_pass_in_evaluation_mode(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    random.seed(0)
    net, images = NETWORKS[name](), normal(300, 16, 16, 3)  # two batches
    before = {key: array.copy() for key, array in net.state_dict().items()}
    runs: list[int] = []
    run = net.run

    def counted(x: Tensor) -> Any:
        runs.append(len(x))
        return run(x)

    monkeypatch.setattr(net, "run", counted)
    found = stage_features(net, images, lambda x: 2 * x, 10_000)
    assert runs == [256, 44] and tuple(found) == net.stages and net.training
    for key, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[key])
    for stage, rows in found.items():
        whole = net.eval().features(Tensor(2 * images[-3:]), stage)
        np.testing.assert_allclose(rows[-3:], pooled(whole, 10_000), atol=1e-5)


class Squares(Backbone):
    """x, then x²."""

    stages = ("x", "square")
    out_features = 2

    def run(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        yield "x", x
        yield "square", x * x


def test_a_stage_that_separates_the_classes_is_told_from_one_that_does_not() -> None:
    """Near or far from 0: no line through x tells, and x² does."""
    rng = np.random.default_rng(0)

    def draw(count: int) -> Labelled:
        y = rng.integers(2, size=count)
        x = rng.choice([-1, 1], (count, 1, 1, 2)) * (1 + y)[:, None, None, None] + 0.1 * rng.random((count, 1, 1, 2))
        return Labelled(x.astype("float32"), y)

    found = layer_probes(Squares(), draw(200), draw(100), draw(200), lambda x: x)
    assert list(found) == ["x", "square"]
    assert found["square"].score == 1 and found["x"].score < 0.65


def test_an_encoder_without_stages_is_an_error() -> None:
    part = Labelled(normal(4, 2, 2, 3), np.arange(4) % 2)
    with pytest.raises(TypeError, match="layer_probes: expected a Backbone, which has stages, got Linear"):
        layer_probes(nn.Linear(3, 2), part, part, part, lambda x: x)  # type: ignore[arg-type]
