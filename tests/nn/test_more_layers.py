"""Every other layer: names, shapes, gradients, both modes, and the same layer in PyTorch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minissl import nn, ops, random
from minissl.tensor import Tensor
from tests import modules


@pytest.fixture(autouse=True)
def numbers() -> np.random.Generator:
    random.seed(0)
    return np.random.default_rng(0)


# a layer: how to make it, its input's shape, its output's shape, the shapes of its parameters and buffers
Case = tuple[Callable[[], nn.Module], tuple[int, ...], tuple[int, ...], dict[str, tuple[int, ...]]]
LAYERS: dict[str, Case] = {
    "Linear": (lambda: nn.Linear(3, 4), (2, 5, 3), (2, 5, 4), {"weight": (3, 4), "bias": (4,)}),
    "ChannelwiseLinear": (
        lambda: nn.ChannelwiseLinear(2, 3, 2),
        (3, 2, 3, 2),
        (3, 2, 3, 2),
        {"weight": (2, 6, 6), "bias": (2, 1, 6)},
    ),
    "Conv2d": (
        lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), (1, 2), groups=2),
        (2, 5, 4, 4),
        (2, 3, 2, 6),
        {"weight": (3, 2, 2, 6), "bias": (6,)},
    ),
    "Conv1d": (
        lambda: nn.Conv1d(4, 6, 3, 2, 2, 2, groups=2),
        (2, 6, 4),
        (2, 3, 6),
        {"weight": (3, 2, 6), "bias": (6,)},
    ),
    "ConvTranspose2d": (
        lambda: nn.ConvTranspose2d(3, 2, (3, 4), 2, 1, (1, 0)),
        (2, 2, 3, 3),
        (2, 4, 6, 2),
        {"weight": (3, 4, 2, 3), "bias": (2,)},
    ),
    "PatchEmbed": (
        lambda: nn.PatchEmbed(2, 3, 5),
        (2, 4, 6, 3),
        (2, 6, 5),
        {"proj.weight": (2, 2, 3, 5), "proj.bias": (5,)},
    ),
    "LearnedPositions": (lambda: nn.LearnedPositions(4, 3), (2, 4, 3), (2, 4, 3), {"weight": (1, 4, 3)}),
    "LayerNorm": (lambda: nn.LayerNorm(5, 1e-3), (2, 3, 5), (2, 3, 5), {"weight": (5,), "bias": (5,)}),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4, 1e-3), (2, 3, 2, 4), (2, 3, 2, 4), {"weight": (4,), "bias": (4,)}),
    "BatchNorm in sub-batches": (
        lambda: nn.BatchNorm(2, epsilon=1e-2, sub_batches=2),
        (4, 3, 2),
        (4, 3, 2),
        {"weight": (2,), "bias": (2,), "running_mean": (2,), "running_var": (2,)},
    ),
    "GELU": (nn.GELU, (3, 4), (3, 4), {}),
    "GELU, erf": (lambda: nn.GELU("erf"), (3, 4), (3, 4), {}),
    "Identity": (nn.Identity, (3, 4), (3, 4), {}),
    "GlobalAveragePool": (nn.GlobalAveragePool, (2, 3, 4, 2), (2, 2), {}),
    "MaxPool2d": (lambda: nn.MaxPool2d(3, 2, 1), (2, 4, 5, 2), (2, 2, 3, 2), {}),
    "Upsample": (lambda: nn.Upsample(2), (2, 2, 3, 2), (2, 4, 6, 2), {}),
    "Upsample, bilinear": (lambda: nn.Upsample(3, "bilinear"), (2, 2, 3, 2), (2, 6, 9, 2), {}),
    "UpsampleConv2d": (
        lambda: nn.UpsampleConv2d(2, 3),
        (2, 2, 3, 2),
        (2, 4, 6, 3),
        {"weight": (3, 3, 2, 3), "bias": (3,)},
    ),
    "Dropout": (lambda: nn.Dropout(0.4), (3, 4), (3, 4), {}),
    "DropPath": (lambda: nn.DropPath(0.4), (6, 2), (6, 2), {}),
    "FeedForward": (
        lambda: nn.FeedForward(3, 5),
        (2, 4, 3),
        (2, 4, 3),
        {"fc1.weight": (3, 5), "fc1.bias": (5,), "fc2.weight": (5, 3), "fc2.bias": (3,)},
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_names_shapes_and_gradients(name: str, numbers: np.random.Generator) -> None:
    make, inputs, outputs, state = LAYERS[name]
    layer = make()
    assert modules.shapes(layer) == state
    x = numbers.normal(size=inputs)
    assert layer(Tensor(x.astype("float32"))).shape == outputs
    assert layer(Tensor(x.astype("float32"))).dtype == "float32"
    modules.check_module(layer, x, tolerance=1e-5 if "erf" in name else 1e-6)


def test_an_embedding_reads_rows() -> None:
    layer = nn.Embedding(5, 3)
    assert modules.shapes(layer) == {"weight": (5, 3)} and 0.005 < layer.weight.data.std() < 0.05
    index = np.array([[4, 0], [4, 2]])
    np.testing.assert_array_equal(layer(index).data, layer.weight.data[index])
    modules.check_module(layer, index)
    layer(index).sum().backward()
    np.testing.assert_array_equal(layer.weight.grad, np.array([[1, 0, 1, 0, 2]]).T * np.ones(3))


@pytest.mark.parametrize("bias", [True, False])
def test_upsampling_and_convolution_in_one_step_are_the_two_steps(bias: bool, numbers: np.random.Generator) -> None:
    one = modules.random_parameters(nn.UpsampleConv2d(2, 3, bias))
    two = nn.Sequential(nn.Upsample(2), nn.Conv2d(2, 3, 3, 1, 1, bias=bias))
    for own, other in zip(two.parameters(), one.parameters(), strict=True):
        own.data = other.data
    x = Tensor(numbers.normal(size=(2, 3, 4, 2)))
    np.testing.assert_allclose(one(x).data, two(x).data, rtol=1e-12)


def test_a_channelwise_linear_layer_mixes_places_and_no_channels(numbers: np.random.Generator) -> None:
    layer = modules.random_parameters(nn.ChannelwiseLinear(2, 3, 2))
    x = numbers.normal(size=(4, 2, 3, 2))
    expected = np.empty_like(x)
    for c in range(2):
        flat = x[..., c].reshape(4, 6) @ layer.weight.data[c] + layer.bias.data[c]
        expected[..., c] = flat.reshape(4, 2, 3)
    np.testing.assert_allclose(layer(Tensor(x)).data, expected, rtol=1e-12)


def test_patches_come_in_reading_order(numbers: np.random.Generator) -> None:
    layer = modules.random_parameters(nn.PatchEmbed(2, 3, 5))
    x = numbers.normal(size=(2, 4, 6, 3))
    weight = layer.proj.weight.data.reshape(12, 5)
    patches = [x[:, i : i + 2, j : j + 2].reshape(2, 12) for i in (0, 2) for j in (0, 2, 4)]
    expected = np.stack([patch @ weight + layer.proj.bias.data for patch in patches], 1)
    np.testing.assert_allclose(layer(Tensor(x)).data, expected, rtol=1e-12)


def test_dropout_acts_in_training_only_and_keeps_the_mean() -> None:
    layer, x = nn.Dropout(0.25), Tensor(np.ones((100, 400), "float32"))
    y = layer(x).data
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    assert abs(y.mean() - 1) < 0.01 and abs((y == 0).mean() - 0.25) < 0.01
    assert layer.eval()(x) is x


def test_drop_path_drops_whole_images_in_training_only_and_keeps_the_mean() -> None:
    layer, x = nn.DropPath(0.25), Tensor(np.ones((4000, 2, 3), "float32"))
    y = layer(x).data
    assert (y == y[:, :1, :1]).all() and set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    assert abs(y.mean() - 1) < 0.05 and abs((y[:, 0, 0] == 0).mean() - 0.25) < 0.03
    assert layer.eval()(x) is x
    assert nn.DropPath(0.0)(x) is x


def test_sub_batches_are_batches_of_their_own(numbers: np.random.Generator) -> None:
    x = numbers.normal(2, 3, size=(6, 4, 2))
    layer, parts = nn.BatchNorm(2, sub_batches=3).astype("float64"), []
    expected = {"running_mean": np.zeros(2), "running_var": np.ones(2)}
    for part in np.split(x, 3):
        alone = nn.BatchNorm(2).astype("float64")
        parts.append(alone(Tensor(part)).data)
        found = {"running_mean": part.mean(axis=(0, 1)), "running_var": part.var(axis=(0, 1), ddof=1)}
        expected = {name: (1 - 0.1 / 3) * old + 0.1 / 3 * found[name] for name, old in expected.items()}
    np.testing.assert_allclose(layer(Tensor(x)).data, np.concatenate(parts), rtol=1e-12)
    for name, value in expected.items():
        np.testing.assert_allclose(layer.state_dict()[name], value, rtol=1e-12)
    plain = nn.BatchNorm(2).astype("float64")
    plain.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(layer.eval()(Tensor(x)).data, plain.eval()(Tensor(x)).data)


def test_a_batch_that_does_not_part_evenly_is_an_error() -> None:
    with pytest.raises(ValueError, match="parts that divide axis 0"):
        nn.BatchNorm(2, sub_batches=3)(Tensor(np.ones((4, 2), "float32")))


def test_groups_of_one_channel_are_instance_norm(numbers: np.random.Generator) -> None:
    x = numbers.normal(size=(2, 3, 3, 4))
    expected = (x - x.mean(axis=(1, 2), keepdims=True)) / np.sqrt(x.var(axis=(1, 2), keepdims=True) + 1e-5)
    np.testing.assert_allclose(nn.GroupNorm(4, 4).astype("float64")(Tensor(x)).data, expected, rtol=1e-10)


@pytest.mark.parametrize("kind", [list, tuple])
def test_modules_in_a_list_are_refused(kind: type) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            self.layers = kind([nn.Identity()])

    with pytest.raises(
        TypeError, match=f"Network.layers: modules and parameters inside a {kind.__name__} .*ModuleList"
    ):
        Network()


def test_modules_and_parameters_in_a_dict_are_refused_and_numbers_are_not() -> None:
    module = nn.Module()
    module.sizes = [1, 2]
    for value in ({"a": nn.Identity()}, {"a": nn.Parameter([1.0])}, {nn.Buffer([1.0])}):
        with pytest.raises(TypeError, match="would not be found"):
            module.parts = value


def test_a_module_list_names_and_finds_its_modules() -> None:
    layers = nn.ModuleList(nn.Linear(1, n, bias=False) for n in (2, 3))
    assert modules.shapes(layers) == {"0.weight": (1, 2), "1.weight": (1, 3)}
    assert len(layers) == 2 and layers[1] is list(layers)[1]
    with pytest.raises(TypeError, match="ModuleList has no forward"):
        layers(1)


def test_a_parameter_with_two_names_is_learned_once() -> None:
    net = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(2))
    net[1].weight = net[0].weight
    assert list(net.state_dict()) == ["0.weight", "1.weight"]
    assert net.parameters() == [net[0].weight] and net.parameter_count() == 4


# -- the same in PyTorch: images there are (N, C, H, W), weights (O, C, kh, kw) ---------------------------------------


def first(x: Any) -> Any:
    """Channels first, as PyTorch has them."""
    return x.permute(0, x.ndim - 1, *range(1, x.ndim - 1))


def last(x: Any) -> Any:
    return x.permute(0, *range(2, x.ndim), 1)


def equal_to_torch(ours: Any, theirs: Any, *arrays: np.ndarray, atol: float = 1e-9) -> None:
    """Value and gradients of both functions are equal."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    weights = np.random.default_rng(1).normal(size=ours(*map(Tensor, arrays)).shape)
    expected = modules.torch_gradients(torch, lambda *t: theirs(torch.nn.functional, *t), weights, *arrays)
    for found, correct in zip(modules.gradients(ours, weights, *arrays), expected, strict=True):
        np.testing.assert_allclose(found, correct, rtol=1e-9, atol=atol)


ELEMENTWISE: dict[str, tuple[Any, Any]] = {
    "gelu tanh": (lambda x: ops.gelu(x), lambda F, x: F.gelu(x, approximate="tanh")),
    "elu": (lambda x: ops.elu(x, 0.7), lambda F, x: F.elu(x, 0.7)),
    "silu": (ops.silu, lambda F, x: F.silu(x)),
    "softplus": (ops.softplus, lambda F, x: F.softplus(x)),
    "leaky_relu": (lambda x: ops.leaky_relu(x, 0.2), lambda F, x: F.leaky_relu(x, 0.2)),
    "sigmoid": (ops.sigmoid, lambda F, x: x.sigmoid()),
    "log_softmax": (ops.log_softmax, lambda F, x: F.log_softmax(x, -1)),
    "logsumexp": (lambda x: ops.logsumexp(x, 1), lambda F, x: x.logsumexp(1)),
    "l2_normalize": (ops.l2_normalize, lambda F, x: F.normalize(x, dim=-1)),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_functions_equal_pytorch(name: str, numbers: np.random.Generator) -> None:
    equal_to_torch(*ELEMENTWISE[name], 3 * numbers.normal(size=(4, 5)))


def test_gelu_by_erf_is_as_near_to_pytorch_as_its_polynomial(numbers: np.random.Generator) -> None:
    equal_to_torch(lambda x: ops.gelu(x, "erf"), lambda F, x: F.gelu(x), 3 * numbers.normal(size=(40,)), atol=1e-6)


@pytest.mark.parametrize(("stride", "padding", "extra"), [(1, 0, 0), (2, 1, 1), (3, 2, 0), ((2, 3), (1, 0), (0, 2))])
def test_transposed_convolution_equals_pytorch(stride: Any, padding: Any, extra: Any, numbers: Any) -> None:
    arrays = [numbers.normal(size=shape) for shape in ((2, 3, 4, 3), (4, 3, 2, 3), (2,))]  # x, W (kh, kw, O, C), b
    equal_to_torch(
        lambda x, w, b: ops.conv_transpose2d(x, w, stride, padding, extra) + b,
        lambda F, x, w, b: last(F.conv_transpose2d(first(x), w.permute(3, 2, 0, 1), b, stride, padding, extra)),
        *arrays,
    )


@pytest.mark.parametrize("groups", [1, 2])
def test_convolution_over_lines_equals_pytorch(groups: int, numbers: np.random.Generator) -> None:
    arrays = [numbers.normal(size=shape) for shape in ((2, 9, 4), (3, 4 // groups, 6))]
    equal_to_torch(
        lambda x, w: ops.conv1d(x, w, 2, 1, 2, groups),
        lambda F, x, w: last(F.conv1d(first(x), w.permute(2, 1, 0), None, 2, 1, 2, groups)),
        *arrays,
    )


def test_norms_equal_pytorch(numbers: np.random.Generator) -> None:
    arrays = [numbers.normal(size=shape) for shape in ((3, 4, 5, 6), (6,), (6,))]
    equal_to_torch(
        lambda x, w, b: ops.layer_norm(x, w, b, 1e-6), lambda F, x, w, b: F.layer_norm(x, (6,), w, b, 1e-6), *arrays
    )
    for groups in (1, 3, 6):
        equal_to_torch(
            lambda x, w, b, groups=groups: ops.group_norm(x, groups, w, b, 1e-5),
            lambda F, x, w, b, groups=groups: last(F.group_norm(first(x), groups, w, b, 1e-5)),
            *arrays,
        )
    equal_to_torch(
        lambda x, w, b: ops.batch_norm(x, w, b, 1e-5)[0],
        lambda F, x, w, b: last(F.batch_norm(first(x), None, None, w, b, training=True)),
        *arrays,
    )


@pytest.mark.parametrize("size", [(3, 2), (5, 7), (1, 1), (4, 4)])
def test_adaptive_pooling_equals_pytorch(size: tuple[int, int], numbers: np.random.Generator) -> None:
    equal_to_torch(
        lambda x: ops.adaptive_average_pool2d(x, size),
        lambda F, x: last(F.adaptive_avg_pool2d(first(x), size)),
        numbers.normal(size=(2, 5, 7, 3)),
    )


@pytest.mark.parametrize("size", [(10, 14), (3, 2), (9, 5), (1, 20)])
def test_bilinear_interpolation_equals_pytorch(size: tuple[int, int], numbers: np.random.Generator) -> None:
    equal_to_torch(
        lambda x: ops.upsample_bilinear(x, size),
        lambda F, x: last(F.interpolate(first(x), size, mode="bilinear", align_corners=False)),
        numbers.normal(size=(2, 5, 7, 3)),
    )


def test_upsampling_by_repetition_and_average_pooling_equal_pytorch(numbers: np.random.Generator) -> None:
    x = numbers.normal(size=(2, 5, 7, 3))
    equal_to_torch(lambda x: ops.upsample_nearest(x, 3), lambda F, x: last(F.interpolate(first(x), scale_factor=3)), x)
    equal_to_torch(lambda x: ops.average_pool2d(x, 3, 2, 1), lambda F, x: last(F.avg_pool2d(first(x), 3, 2, 1)), x)


def test_patches_and_their_sum_equal_pytorch(numbers: np.random.Generator) -> None:
    def windows(F: Any, x: Any) -> Any:  # (N, C·kh·kw, OH·OW) there
        return F.unfold(first(x), (2, 3), stride=(1, 2)).reshape(2, 3, 2, 3, 4, 3).permute(0, 4, 5, 2, 3, 1)

    equal_to_torch(lambda x: ops.unfold(x, (2, 3), (1, 2)), windows, numbers.normal(size=(2, 5, 7, 3)))

    def images(F: Any, w: Any) -> Any:
        return last(F.fold(w.permute(0, 5, 3, 4, 1, 2).reshape(2, 18, 12), (5, 7), (2, 3), stride=(1, 2)))

    equal_to_torch(lambda w: ops.fold(w, 5, 7, (1, 2)), images, numbers.normal(size=(2, 4, 3, 2, 3, 3)))
