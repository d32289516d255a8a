"""Layers: how they start, what they compute, and how BatchNorm keeps its averages."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minissl import nn, ops, random
from minissl.gradcheck import gradcheck
from minissl.nn import initializers
from minissl.tensor import Tensor, no_grad


@pytest.fixture(autouse=True)
def numbers() -> np.random.Generator:
    random.seed(0)
    return np.random.default_rng(0)


def test_fans_count_the_taps_of_a_convolution() -> None:
    assert initializers.fans((20, 30)) == (20, 30)
    assert initializers.fans((3, 5, 20, 30)) == (300, 450)


@pytest.mark.parametrize(
    ("initializer", "bound"),
    [(initializers.lecun_uniform, (1 / 300) ** 0.5), (initializers.xavier_uniform, (6 / 750) ** 0.5)],
)
def test_uniform_weights_fill_their_range(initializer: Callable[..., Any], bound: float) -> None:
    w = initializer((3, 5, 20, 30))
    assert w.dtype == "float32" and np.abs(w).max() <= np.float32(bound)
    assert w.max() > 0.99 * bound and w.min() < -0.99 * bound
    np.testing.assert_allclose(w.std(), bound / 3**0.5, rtol=0.03)


@pytest.mark.parametrize(("fan", "count"), [("in", 300), ("out", 450)])
def test_kaiming_normal_has_variance_two_over_fan(fan: str, count: int) -> None:
    w = initializers.kaiming_normal((3, 5, 20, 30), fan)
    assert w.dtype == "float32"
    np.testing.assert_allclose(w.std(), (2 / count) ** 0.5, rtol=0.03)
    assert abs(w.mean()) < 0.1 * w.std() and np.abs(w).max() > 3 * w.std()  # tails: it is no uniform


def test_kaiming_normal_keeps_the_size_of_signals_through_relu(numbers: np.random.Generator) -> None:
    x = numbers.normal(size=(64, 200)).astype("float32")
    for _ in range(10):
        x = np.maximum(x, 0) @ initializers.kaiming_normal((200, 200))
    assert 0.5 < x.std() < 2


def test_layers_start_in_their_ranges() -> None:
    linear = nn.Linear(100, 50)
    assert linear.weight.shape == (100, 50) and linear.bias is not None and linear.bias.shape == (50,)
    for tensor in linear.parameters():
        assert 0.09 < np.abs(tensor.data).max() <= np.float32(0.1)
    conv = nn.Conv2d(8, 16, (3, 5), groups=2)
    assert conv.weight.shape == (3, 5, 4, 16)
    np.testing.assert_allclose(conv.weight.data.std(), (2 / 60) ** 0.5, rtol=0.1)
    assert conv.bias is not None and not conv.bias.data.any()
    for name, start in {"weight": 1, "bias": 0, "running_mean": 0, "running_var": 1}.items():
        np.testing.assert_array_equal(nn.BatchNorm(3).state_dict()[name], [start] * 3)


def test_the_seed_decides_the_weights() -> None:
    def weights(seed: int) -> np.ndarray:
        random.seed(seed)
        return np.concatenate([nn.Linear(3, 4).weight.data.ravel(), nn.Conv2d(2, 3, 3).weight.data.ravel()])

    np.testing.assert_array_equal(weights(1), weights(1))
    assert (weights(1) != weights(2)).all()


@pytest.mark.parametrize("layer", [nn.Linear(3, 4, bias=False), nn.Conv2d(3, 4, 3, bias=False)])
def test_without_bias_there_is_only_a_weight(layer: nn.Module) -> None:
    assert [name for name, _ in layer.named_parameters()] == ["weight"]


def test_linear_works_on_the_last_axis(numbers: np.random.Generator) -> None:
    layer = nn.Linear(3, 4).astype("float64")
    x = numbers.normal(size=(2, 5, 3))
    np.testing.assert_allclose(layer(Tensor(x)).data, x @ layer.weight.data + layer.bias.data, rtol=1e-12)
    plain = nn.Linear(3, 4, bias=False).astype("float64")
    np.testing.assert_allclose(plain(Tensor(x)).data, x @ plain.weight.data, rtol=1e-12)


def test_conv2d_hands_its_settings_to_the_op(numbers: np.random.Generator) -> None:
    layer = nn.Conv2d(4, 6, 3, stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2).astype("float64")
    layer.bias.data[:] = np.arange(6)
    x = numbers.normal(size=(2, 7, 8, 4))
    expected = ops.conv2d(x, layer.weight, (2, 1), (1, 2), (1, 2), 2).data + np.arange(6)
    np.testing.assert_allclose(layer(Tensor(x)).data, expected, rtol=1e-12)
    assert layer(Tensor(x)).shape == (2, 4, 8, 6)


def test_layers_without_parameters(numbers: np.random.Generator) -> None:
    x = Tensor(numbers.normal(size=(2, 4, 6, 3)))
    np.testing.assert_array_equal(nn.ReLU()(x).data, np.maximum(x.data, 0))
    assert nn.Identity()(x) is x
    np.testing.assert_allclose(nn.GlobalAveragePool()(x).data, x.data.mean(axis=(1, 2)))
    np.testing.assert_array_equal(nn.MaxPool2d(2)(x).data, x.data.reshape(2, 2, 2, 3, 2, 3).max(axis=(2, 4)))
    assert nn.MaxPool2d(3, 2, 1)(x).shape == (2, 2, 3, 3)
    assert nn.MaxPool2d(3, 1)(x).shape == (2, 2, 4, 3)


@pytest.mark.parametrize("relu", [False, True])
def test_training_normalizes_by_the_batch(numbers: np.random.Generator, relu: bool) -> None:
    x = numbers.normal(3, 2, size=(4, 5, 6, 2))
    layer = nn.BatchNorm(2, relu=relu).astype("float64")
    layer.weight.data[:], layer.bias.data[:] = [2, 3], [1, -1]
    y = layer(Tensor(x)).data
    expected = [2, 3] * (x - x.mean(axis=(0, 1, 2))) / np.sqrt(x.var(axis=(0, 1, 2)) + 1e-5) + [1, -1]
    np.testing.assert_allclose(y, np.maximum(expected, 0) if relu else expected, rtol=1e-10, atol=1e-12)


def test_running_averages_follow_the_hand_computation() -> None:
    layer = nn.BatchNorm(1, momentum=0.25)
    layer(Tensor([[0.0], [2.0], [4.0]]))  # mean 2, unbiased variance 4
    np.testing.assert_allclose(layer.running_mean.data, [0.75 * 0 + 0.25 * 2])
    np.testing.assert_allclose(layer.running_var.data, [0.75 * 1 + 0.25 * 4])
    layer(Tensor([[10.0], [12.0]]))  # mean 11, unbiased variance 2
    np.testing.assert_allclose(layer.running_mean.data, [0.75 * 0.5 + 0.25 * 11])
    np.testing.assert_allclose(layer.running_var.data, [0.75 * 1.75 + 0.25 * 2])
    assert layer.running_mean.dtype == layer.running_var.dtype == "float32"


def trained(numbers: np.random.Generator, relu: bool = False) -> nn.BatchNorm:
    layer = nn.BatchNorm(3, relu=relu).astype("float64")
    for _ in range(5):
        layer(Tensor(numbers.normal([1, 2, 3], [1, 2, 3], size=(20, 3))))
    layer.weight.data[:], layer.bias.data[:] = [1, 2, 3], [3, 2, 1]
    return layer.eval()


@pytest.mark.parametrize("relu", [False, True])
def test_evaluation_uses_the_averages_and_leaves_them(numbers: np.random.Generator, relu: bool) -> None:
    layer = trained(numbers, relu)
    mean, variance = layer.running_mean.data.copy(), layer.running_var.data.copy()
    x = numbers.normal(size=(4, 3))
    expected = layer.weight.data * (x - mean) / np.sqrt(variance + 1e-5) + layer.bias.data
    np.testing.assert_allclose(layer(Tensor(x)).data, np.maximum(expected, 0) if relu else expected, rtol=1e-10)
    np.testing.assert_array_equal(layer.running_mean.data, mean)
    np.testing.assert_array_equal(layer.running_var.data, variance)


def test_in_evaluation_an_image_does_not_depend_on_its_batch(numbers: np.random.Generator) -> None:
    layer, x = trained(numbers), numbers.normal(size=(4, 5, 5, 3))
    together = layer(Tensor(x)).data
    for i in range(4):
        np.testing.assert_array_equal(layer(Tensor(x[i : i + 1])).data[0], together[i])


def test_one_value_per_channel_can_be_evaluated_and_not_trained_on() -> None:
    layer = nn.BatchNorm(3)
    with pytest.raises(ValueError, match="more than one value per channel"):
        layer(Tensor(np.ones((1, 3), "float32")))
    assert layer.eval()(Tensor(np.ones((1, 3), "float32"))).shape == (1, 3)


def test_averages_are_kept_without_a_graph_too() -> None:
    layer = nn.BatchNorm(1)
    with no_grad():
        layer(Tensor([[0.0], [2.0]]))
    np.testing.assert_allclose(layer.running_mean.data, [0.1])


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_of_both_modes(numbers: np.random.Generator, training: bool, relu: bool) -> None:
    layer = trained(numbers, relu).train(training)

    def function(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        layer.weight, layer.bias = weight, bias  # type: ignore[assignment]
        return layer(x)

    gradcheck(function, numbers.normal(size=(2, 2, 2, 3)), np.array([1.0, 2, 3]), np.array([3.0, 2, 1]))
