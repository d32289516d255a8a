"""Attention: against plain loops, PyTorch and Swin's formulas; and who may look at whom, exactly."""

import math
from typing import Any

import numpy as np
import pytest

from minissl import nn, ops, random
from minissl.nn.attention import into_windows, out_of_windows, relative_places
from minissl.tensor import Tensor
from tests import modules


@pytest.fixture(autouse=True)
def numbers() -> np.random.Generator:
    random.seed(0)
    return np.random.default_rng(0)


QKV = {"qkv.weight": (4, 12), "qkv.bias": (12,), "proj.weight": (4, 4), "proj.bias": (4,)}
LAYERS: dict[str, tuple[Any, tuple[int, ...], dict[str, tuple[int, ...]]]] = {
    "MultiHeadAttention": (lambda: nn.MultiHeadAttention(4, 2), (2, 3, 4), QKV),
    "TransformerBlock": (
        lambda: nn.TransformerBlock(4, 2, expansion=2, drop_path=0.5),
        (2, 3, 4),
        {"norm1.weight": (4,), "norm1.bias": (4,)}
        | {f"attn.{name}": shape for name, shape in QKV.items()}
        | {"norm2.weight": (4,), "norm2.bias": (4,)}
        | {"mlp.fc1.weight": (4, 8), "mlp.fc1.bias": (8,), "mlp.fc2.weight": (8, 4), "mlp.fc2.bias": (4,)},
    ),
    "WindowAttention": (
        lambda: nn.WindowAttention(4, 2, 2),
        (1, 2, 4, 4),
        QKV | {"relative_position_bias_table": (9, 2)},
    ),
    "WindowAttention, shifted": (
        lambda: nn.WindowAttention(4, 2, 2, 1),
        (1, 4, 2, 4),
        QKV | {"relative_position_bias_table": (9, 2)},
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_names_shapes_and_gradients(name: str, numbers: np.random.Generator) -> None:
    make, shape, state = LAYERS[name]
    layer = make()
    assert modules.shapes(layer) == state
    x = numbers.normal(size=shape)
    y = layer(Tensor(x.astype("float32")))
    assert y.shape == shape and y.dtype == "float32"
    modules.check_module(modules.random_parameters(layer), x)


def test_heads_must_divide_the_features() -> None:
    with pytest.raises(ValueError, match="heads that divide the features, got 3 for 4"):
        nn.MultiHeadAttention(4, 3)


def one_head(q: np.ndarray, k: np.ndarray, v: np.ndarray, bias: np.ndarray | float = 0.0) -> np.ndarray:
    """Attention of one head by loops over queries and keys: (L, d) each."""
    y = np.zeros_like(v)
    for i in range(len(q)):
        weights = [
            math.exp(q[i] @ k[j] / math.sqrt(q.shape[1]) + np.broadcast_to(bias, (len(q),) * 2)[i, j])
            for j in range(len(k))
        ]
        for j, weight in enumerate(weights):
            y[i] += weight / sum(weights) * v[j]
    return y


def by_loops(layer: nn.MultiHeadAttention, tokens: np.ndarray, biases: Any = None) -> np.ndarray:
    """One image's tokens (L, D) through a layer, head by head: outputs hold q, k, v, each of them head after head."""
    L, D = tokens.shape
    d = D // layer.heads
    qkv = (tokens @ layer.qkv.weight.data + layer.qkv.bias.data).reshape(L, 3, D)
    parts = []
    for h in range(layer.heads):
        q, k, v = (qkv[:, i, h * d : (h + 1) * d] for i in range(3))
        parts.append(one_head(q, k, v, 0.0 if biases is None else biases[h]))
    return np.concatenate(parts, 1) @ layer.proj.weight.data + layer.proj.bias.data


def test_multi_head_attention_equals_loops(numbers: np.random.Generator) -> None:
    layer = modules.random_parameters(nn.MultiHeadAttention(6, 3))
    x = numbers.normal(size=(2, 4, 6))
    np.testing.assert_allclose(layer(Tensor(x)).data, [by_loops(layer, tokens) for tokens in x], rtol=1e-10)


def test_attention_weights_are_shares_and_with_the_values_give_the_output(numbers: np.random.Generator) -> None:
    layer = modules.random_parameters(nn.MultiHeadAttention(6, 3))
    x = Tensor(numbers.normal(size=(2, 4, 6)))
    A, (_, _, v) = layer.weights(x), layer.split_heads(x)  # (2, 3, 4, 4), (2, 3, 4, 2)
    np.testing.assert_allclose(A.data.sum(axis=3), 1)
    y = layer.proj((A @ v).transpose(0, 2, 1, 3).reshape(2, 4, 6))
    np.testing.assert_allclose(y.data, layer(x).data, rtol=1e-10)


def test_a_block_adds_attention_and_then_its_network(numbers: np.random.Generator) -> None:
    block = modules.random_parameters(nn.TransformerBlock(4, 2))
    x = Tensor(numbers.normal(size=(2, 3, 4)))
    middle = x.data + block.attn(block.norm1(x)).data
    expected = middle + block.mlp(block.norm2(Tensor(middle))).data
    np.testing.assert_allclose(block(x).data, expected, rtol=1e-12)


def test_a_block_drops_its_branches_in_training_only(numbers: np.random.Generator) -> None:
    block = nn.TransformerBlock(4, 2, drop_path=0.9)
    x = numbers.normal(size=(50, 3, 4)).astype("float32")
    y = block(Tensor(x)).data
    assert 20 < (y == x).all(axis=(1, 2)).sum() < 50  # both branches: 0.9² of all images
    assert not (block.eval()(Tensor(x)).data == x).all(axis=(1, 2)).any()


# -- the same in PyTorch ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "mask", "causal"])
@pytest.mark.parametrize("chunk", [None, 2])
def test_attention_equals_pytorch(kind: str, chunk: int | None, numbers: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    S = 5 if kind == "causal" else 7
    arrays = [numbers.normal(size=(2, 3, n, d)) for n, d in ((5, 4), (S, 4), (S, 6))]
    mask = numbers.random((2, 1, 5, S)) < 0.6 if kind == "mask" else None
    if mask is not None:
        mask[..., 0] = True
    weights, causal = numbers.normal(size=(2, 3, 5, 6)), kind == "causal"
    expected = modules.torch_gradients(
        torch,
        lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(
            q, k, v, None if mask is None else torch.from_numpy(mask), is_causal=causal
        ),
        weights,
        *arrays,
    )
    found = modules.gradients(
        lambda q, k, v: ops.scaled_dot_product_attention(q, k, v, mask, causal, chunk), weights, *arrays
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_multi_head_attention_equals_pytorch(numbers: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    ours = modules.random_parameters(nn.MultiHeadAttention(6, 3))
    theirs = torch.nn.MultiheadAttention(6, 3, batch_first=True).double()
    names = {"in_proj": "qkv", "out_proj.": "proj."}
    pairs = {}
    for name, parameter in theirs.named_parameters():
        for there, here in names.items():
            if name.startswith(there):
                own = dict(ours.named_parameters())[here + "." * (here == "qkv") + name.removeprefix(there).lstrip("_")]
                parameter.data = torch.from_numpy(own.data.T.copy())
                pairs[name] = (own, parameter)
    assert len(pairs) == 4
    x, weights = numbers.normal(size=(2, 5, 6)), numbers.normal(size=(2, 5, 6))
    expected = modules.torch_gradients(torch, lambda x: theirs(x, x, x, need_weights=False)[0], weights, x)
    for found, correct in zip(modules.gradients(ours, weights, x), expected, strict=True):
        np.testing.assert_allclose(found, correct, rtol=1e-9, atol=1e-9)
    for own, parameter in pairs.values():
        np.testing.assert_allclose(own.grad.T, parameter.grad.numpy(), rtol=1e-9, atol=1e-9)


# -- windows ----------------------------------------------------------------------------------------------------------


def swin_index(s: int) -> np.ndarray:
    """The index of the bias table as Swin's authors publish it."""
    places = np.stack(np.meshgrid(np.arange(s), np.arange(s), indexing="ij")).reshape(2, -1)
    relative = (places[:, :, None] - places[:, None, :]).transpose(1, 2, 0) + s - 1
    relative[:, :, 0] *= 2 * s - 1
    return relative.sum(-1)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_relative_places_equal_the_published_formula(size: int) -> None:
    np.testing.assert_array_equal(relative_places(size), swin_index(size))


def test_windows_come_in_reading_order_and_go_back() -> None:
    x = Tensor(np.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3))
    windows = into_windows(x, 2)
    assert windows.shape == (12, 4, 3)
    np.testing.assert_array_equal(windows.data[7], x.data[1, 0:2, 2:4].reshape(4, 3))
    np.testing.assert_array_equal(out_of_windows(windows, 4, 6, 2).data, x.data)


def test_without_a_shift_each_window_is_attention_by_itself(numbers: np.random.Generator) -> None:
    layer = modules.random_parameters(nn.WindowAttention(4, 2, 3))
    table = layer.relative_position_bias_table.data  # (25, heads)
    x = numbers.normal(size=(2, 3, 6, 4))
    expected = np.empty_like(x)
    for n in range(2):
        for left in (0, 3):
            window = x[n, :, left : left + 3].reshape(9, 4)
            y = by_loops(layer, window, table[swin_index(3)].transpose(2, 0, 1))
            expected[n, :, left : left + 3] = y.reshape(3, 3, 4)
    np.testing.assert_allclose(layer(Tensor(x)).data, expected, rtol=1e-10)


@pytest.mark.parametrize(("size", "shift", "height", "width"), [(2, 0, 4, 4), (2, 1, 4, 6), (3, 1, 6, 3), (3, 2, 6, 6)])
def test_exactly_the_neighbours_in_a_shifted_window_have_influence(
    size: int, shift: int, height: int, width: int, numbers: np.random.Generator
) -> None:
    layer = modules.random_parameters(nn.WindowAttention(4, 1, size, shift))
    array = numbers.normal(size=(1, height, width, 4))

    def side(i: int, n: int) -> tuple[int, bool]:  # the window along one side, and whether it wrapped around the edge
        s = shift if n > size else 0  # one window that covers the side stays where it is
        return (i - s) % n // size, i < s

    for i, j in np.ndindex(height, width):
        x = Tensor(array, requires_grad=True)
        layer(x)[0, i, j].sum().backward()
        influence = (x.grad[0] != 0).any(axis=-1)
        mine = side(i, height), side(j, width)
        allowed = [[(side(p, height), side(q, width)) == mine for q in range(width)] for p in range(height)]
        np.testing.assert_array_equal(influence, allowed)


def test_changing_one_token_changes_nothing_beyond_its_window(numbers: np.random.Generator) -> None:
    layer = nn.WindowAttention(4, 2, 2, 1)
    x = numbers.normal(size=(1, 4, 4, 4)).astype("float32")
    before, changed = layer(Tensor(x)).data, x.copy()
    changed[0, 0, 0] += 1  # alone in its corner: the other three of its window lie across the edges
    different = (layer(Tensor(changed)).data != before).any(axis=-1)[0]
    assert different[0, 0] and different.sum() == 1


def test_bad_sizes_and_masks_are_named() -> None:
    layer = nn.WindowAttention(4, 2, 2)
    with pytest.raises(ValueError, match=r"windows of 2 divide, got \(3, 4\)"):
        layer(Tensor(np.ones((1, 3, 4, 4), "float32")))
    for more in ((np.ones((4, 4), bool),), (None, True)):
        with pytest.raises(ValueError, match="WindowAttention: expected no mask"):
            layer(Tensor(np.ones((1, 4, 4, 4), "float32")), *more)


# -- positions --------------------------------------------------------------------------------------------------------


def test_sinusoidal_positions_equal_their_formula() -> None:
    found = nn.sinusoidal_positions(7, 6)
    assert found.dtype == "float32"
    for place in range(7):
        for i in range(3):
            angle = place / 10_000 ** (i / 3)
            np.testing.assert_allclose(
                found[place, [i, i + 3]], [math.sin(angle), math.cos(angle)], rtol=1e-6, atol=1e-7
            )
    with pytest.raises(ValueError, match="even number of features"):
        nn.sinusoidal_positions(7, 5)


def test_positions_in_a_grid_tell_row_and_column() -> None:
    grid = nn.sinusoidal_positions_2d(2, 3, 8).reshape(2, 3, 8)
    for i, j in np.ndindex(2, 3):
        np.testing.assert_array_equal(grid[i, j, :4], nn.sinusoidal_positions(2, 4)[i])
        np.testing.assert_array_equal(grid[i, j, 4:], nn.sinusoidal_positions(3, 4)[j])
    with pytest.raises(ValueError, match="features that 4 divides"):
        nn.sinusoidal_positions_2d(2, 3, 6)


def test_learned_positions_are_added_to_every_image(numbers: np.random.Generator) -> None:
    layer, x = nn.LearnedPositions(4, 3), numbers.normal(size=(2, 4, 3)).astype("float32")
    np.testing.assert_array_equal(layer(Tensor(x)).data, x + layer.weight.data)
