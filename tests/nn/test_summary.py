"""The table of a network, and its multiply-adds against counts by hand."""

from typing import Any

import numpy as np
import pytest

from minissl import backend, models, nn, ops, random
from minissl.tensor import Tensor, no_grad


@pytest.fixture(autouse=True)
def seed() -> None:
    random.seed(0)


def totals(table: str) -> tuple[int, int]:
    """Parameters and multiply-adds of the whole network."""
    parameters, products = table.splitlines()[-1].replace(",", "").split()[1:]
    return int(parameters), int(products)


def test_the_table_of_a_small_network() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU(), nn.GlobalAveragePool(), head=nn.Linear(2, 1000))
    assert nn.summary(net, (5, 4, 4, 3)).splitlines() == [
        "layer  type               output        parameters  multiply-adds",
        "-----------------------------------------------------------------",
        "0      Conv2d             (5, 4, 4, 2)          56          4,320",
        "1      ReLU               (5, 4, 4, 2)           0              0",
        "2      GlobalAveragePool  (5, 2)                 0              0",
        "head   Linear             (5, 1000)          3,000         10,000",
        "-----------------------------------------------------------------",
        "total                                        3,056         14,320",
    ]


def test_a_single_layer_is_its_own_row() -> None:
    rows = nn.summary(nn.Linear(3, 4), (2, 3)).splitlines()
    assert rows[2].split() == ["(the", "model)", "Linear", "(2,", "4)", "16", "24"]


def test_resnet18_on_small_images() -> None:
    products = 27 * 64 * 32**2 + 4 * 9 * 64 * 64 * 32**2
    for narrow, wide, side in ((64, 128, 16), (128, 256, 8), (256, 512, 4)):
        products += (9 * narrow * wide + 3 * 9 * wide * wide + narrow * wide) * side**2
    assert round(products / 1e9, 3) == 0.555
    net = models.resnet18(64, 3, "cifar")
    assert totals(nn.summary(net, (1, 32, 32, 3))) == (net.parameter_count(), products)


def test_a_transformer_block() -> None:
    N, L, D = 2, 5, 8
    each = 3 * D * D + D * D + 2 * 4 * D * D  # q, k, v; projection; two layers of the network, four times as wide
    table = nn.summary(nn.TransformerBlock(D, 2), (N, L, D))
    assert totals(table) == (12 * D * D + 13 * D, N * (L * each + 2 * L * L * D))
    rows = [line.split()[0] for line in table.splitlines()[2:-2]]
    assert rows == ["norm1", "attn", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.act", "mlp.fc2", "drop_path"]


LAYERS: dict[str, tuple[Any, tuple[int, ...], int]] = {
    "Linear": (lambda: nn.Linear(3, 4), (2, 5, 3), 10 * 3 * 4),
    "Conv1d": (lambda: nn.Conv1d(4, 6, 3, groups=2), (2, 7, 4), 2 * 5 * 6 * (3 * 2)),
    "Conv2d": (lambda: nn.Conv2d(4, 6, 3, 2, 1), (2, 7, 7, 4), 2 * 4 * 4 * 6 * (9 * 4)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 3, 2, 2), (2, 5, 5, 4), 2 * 25 * 4 * (4 * 3)),
    "ChannelwiseLinear": (lambda: nn.ChannelwiseLinear(2, 3, 4), (5, 2, 3, 4), 5 * 4 * 6 * 6),
    "PatchEmbed": (lambda: nn.PatchEmbed(4, 3, 8), (2, 8, 8, 3), 2 * 4 * 8 * 48),
    "MultiHeadAttention": (lambda: nn.MultiHeadAttention(8, 4), (2, 5, 8), 10 * 4 * 64 + 2 * 2 * 25 * 8),
    "WindowAttention": (lambda: nn.WindowAttention(8, 4, 2, 1), (3, 4, 4, 8), 48 * 4 * 64 + 3 * 4 * 2 * 4 * 4 * 8),
    "RNN": (lambda: nn.RNN(3, 4), (2, 5, 3), 10 * (3 + 4) * 4),
    "LSTM": (lambda: nn.LSTM(3, 4), (2, 5, 3), 10 * (3 + 4) * 16),
    "GRU": (lambda: nn.GRU(3, 4), (2, 5, 3), 10 * (3 + 4) * 12),
    "BatchNorm": (lambda: nn.BatchNorm(3), (2, 5, 3), 0),
}


@pytest.mark.parametrize("name", LAYERS)
def test_counts_by_hand(name: str) -> None:
    make, shape, expected = LAYERS[name]
    layer = make()
    assert totals(nn.summary(layer, shape)) == (layer.parameter_count(), expected)


class Drawing(nn.Module):
    """Its modes differ, it draws random numbers, and one layer waits in vain."""

    def __init__(self) -> None:
        self.norm, self.drop, self.unused = nn.BatchNorm(3), nn.Dropout(0.5), nn.Linear(3, 4)
        self.twice = nn.Linear(3, 3)
        self.same = self.twice

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.drop(self.norm(x)) + float(random.generator().random())
        return self.twice(self.same(x)), x


def test_nothing_is_changed() -> None:
    net = Drawing()
    net.drop.eval()
    before = {name: array.copy() for name, array in net.state_dict().items()}
    state, modes = random.generator().bit_generator.state, [module.training for module in net.modules()]
    nn.summary(net, (2, 3))
    assert random.generator().bit_generator.state == state
    assert [module.training for module in net.modules()] == modes
    assert not any("forward" in vars(module) for module in net.modules())
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_layers_that_are_applied_twice_and_never() -> None:
    table = nn.summary(Drawing(), (2, 3))
    rows = {line.split()[0]: line.split()[1:] for line in table.splitlines()[2:]}
    assert rows["unused"] == ["Linear", "-", "16", "0"]
    assert rows["twice"] == ["Linear", "(2,", "3)", "12", "36"] and "same" not in rows
    assert totals(table) == (6 + 16 + 12, 36)


def test_a_module_with_a_parameter_of_its_own_has_a_row() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            self.layer, self.scale = nn.Linear(2, 2, bias=False), nn.Parameter([2.0])

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) * self.scale

    rows = [line.split() for line in nn.summary(Scaled(), (1, 2)).splitlines()[2:-2]]
    assert [(row[0], row[-2]) for row in rows] == [("(the", "1"), ("layer", "4")]


def test_an_input_that_does_not_fit_leaves_no_trace() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 6))
    with pytest.raises(ValueError, match="linear: expected x"):
        nn.summary(net, (2, 3))
    assert all(module.training and "forward" not in vars(module) for module in net.modules())


def test_watching_reports_inner_layers_first_and_may_be_nested() -> None:
    net = nn.Sequential(nn.ReLU(), nn.Identity())
    outer: list[str] = []
    inner: list[str] = []
    with nn.watching(net, lambda module, inputs, output: outer.append(type(module).__name__)):
        with nn.watching(net, lambda module, inputs, output: inner.append(type(module).__name__)), no_grad():
            net(Tensor([1.0]))
        net(Tensor([1.0]))
    net(Tensor([1.0]))
    assert inner == ["ReLU", "Identity", "Sequential"] and outer == 2 * inner


def test_it_runs_where_the_model_is_and_in_its_type(cupy: backend.Backend) -> None:
    seen = []

    class Looking(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            seen.append((backend.of(x.data).name, x.dtype.name))
            return ops.relu(self.layer(x))

    for net in (Looking(), Looking().astype("float64"), Looking().to("cupy")):
        assert totals(nn.summary(net, (1, 2))) == (9, 6)
    assert seen == [("numpy", "float32"), ("numpy", "float64"), ("cupy", "float32")]
