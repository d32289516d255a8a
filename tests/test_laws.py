"""What must hold whatever the numbers are: adjoints, symmetries, and zeros that are exactly zero."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minissl import nn, ops, random
from minissl.tensor import Tensor
from tests import modules

seeds = st.integers(0, 2**32 - 1)


def normal(seed: int, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    numbers = np.random.default_rng(seed)
    return [numbers.normal(size=shape) for shape in shapes]


@st.composite
def convolutions(draw: Any) -> dict[str, Any]:
    """Kernel, stride and padding of a convolution, and a size of image that it can be applied to."""
    two = lambda low, high: (draw(st.integers(low, high)), draw(st.integers(low, high)))
    size, stride, padding = two(1, 4), two(1, 3), two(0, 2)
    image = tuple(max(k - 2 * p, 1) + draw(st.integers(0, 5)) for k, p in zip(size, padding, strict=True))
    return {"size": size, "stride": stride, "padding": padding, "image": image, "seed": draw(seeds)}


@given(convolutions())
def test_convolution_and_its_transpose_are_adjoint(c: dict[str, Any]) -> None:
    """⟨conv(x), y⟩ = ⟨x, convᵀ(y)⟩, where output_padding says which of the possible sizes x had."""
    x, w = normal(c["seed"], (2, *c["image"], 3), (*c["size"], 3, 2))
    forth = ops.conv2d(x, w, c["stride"], c["padding"]).data
    (y,) = normal(c["seed"] + 1, forth.shape)
    rest = tuple(
        (n + 2 * p - k) % s for n, p, k, s in zip(c["image"], c["padding"], c["size"], c["stride"], strict=True)
    )
    back = ops.conv_transpose2d(y, w, c["stride"], c["padding"], rest).data
    assert back.shape == x.shape
    np.testing.assert_allclose((forth * y).sum(), (x * back).sum(), rtol=1e-9, atol=1e-9)


@given(convolutions())
def test_a_transposed_convolution_is_the_gradient_of_a_convolution(c: dict[str, Any]) -> None:
    image, w = normal(c["seed"], (1, *c["image"], 3), (*c["size"], 3, 2))
    x = Tensor(image, requires_grad=True)
    forth = ops.conv2d(x, w, c["stride"], c["padding"])
    (y,) = normal(c["seed"] + 1, forth.shape)
    forth.backward(y)
    rest = tuple(
        (n + 2 * p - k) % s for n, p, k, s in zip(c["image"], c["padding"], c["size"], c["stride"], strict=True)
    )
    transposed = ops.conv_transpose2d(y, w, c["stride"], c["padding"], rest).data
    np.testing.assert_allclose(transposed, x.grad, rtol=1e-9, atol=1e-12)


@given(convolutions())
def test_windows_and_their_sum_are_adjoint(c: dict[str, Any]) -> None:
    height, width = (max(n, k) for n, k in zip(c["image"], c["size"], strict=True))
    (x,) = normal(c["seed"], (2, height, width, 3))
    windows = ops.unfold(x, c["size"], c["stride"]).data
    (y,) = normal(c["seed"] + 1, windows.shape)
    back = ops.fold(y, height, width, c["stride"]).data
    np.testing.assert_allclose((windows * y).sum(), (x * back).sum(), rtol=1e-9, atol=1e-9)


@given(seeds, st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
def test_patches_fold_back_into_their_images(seed: int, size: int, rows: int, columns: int) -> None:
    (x,) = normal(seed, (2, rows * size, columns * size, 3))
    np.testing.assert_array_equal(ops.fold(ops.unfold(x, size), *x.shape[1:3]).data, x)


@given(seeds, st.sampled_from([1, 3, 5]), st.integers(-4, 4), st.integers(-4, 4))
def test_convolution_commutes_with_cyclic_shifts(seed: int, size: int, down: int, right: int) -> None:
    x, w = normal(seed, (2, 5, 6, 2), (size, size, 2, 3))
    p = size // 2

    def convolution(image: Any) -> Tensor:
        return ops.conv2d(ops.pad(image, [(0, 0), (p, p), (p, p), (0, 0)], mode="circular"), w)

    shifted = convolution(ops.roll(x, (down, right), (1, 2))).data
    np.testing.assert_allclose(shifted, np.roll(convolution(x).data, (down, right), (1, 2)), rtol=1e-10, atol=1e-12)


@given(seeds, st.integers(1, 6), st.sampled_from([1, 2, 4]))
def test_permuting_tokens_permutes_what_attention_gives(seed: int, L: int, heads: int) -> None:
    random.seed(seed)
    numbers = np.random.default_rng(seed)
    x, order = numbers.normal(size=(2, L, 4)), numbers.permutation(L)
    for layer in (nn.MultiHeadAttention(4, heads), nn.TransformerBlock(4, heads)):
        modules.random_parameters(layer, seed % 1000)
        expected = layer(Tensor(x)).data[:, order]
        np.testing.assert_allclose(layer(Tensor(x[:, order])).data, expected, rtol=1e-9, atol=1e-12)


@given(seeds, st.integers(1, 6), st.sampled_from([None, 2]))
def test_the_order_of_keys_does_not_matter(seed: int, S: int, chunk: int | None) -> None:
    q, k, v = normal(seed, (2, 3, 4), (2, S, 4), (2, S, 5))
    order = np.random.default_rng(seed).permutation(S)
    mask = np.random.default_rng(seed).random((3, S)) < 0.7
    found = ops.scaled_dot_product_attention(q, k[:, order], v[:, order], mask[:, order], chunk=chunk).data
    expected = ops.scaled_dot_product_attention(q, k, v, mask, chunk=chunk).data
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@given(seeds, st.booleans(), st.sampled_from([None, 2]))
def test_blocked_tokens_have_exactly_no_influence(seed: int, causal: bool, chunk: int | None) -> None:
    arrays = normal(seed, (5, 3), (5, 3), (5, 4))
    mask = np.random.default_rng(seed).random((5, 5)) < 0.5
    allowed = mask & np.tri(5, dtype=bool) if causal else mask
    for i in range(5):
        q, k, v = (Tensor(array, requires_grad=True) for array in arrays)
        (ops.scaled_dot_product_attention(q, k, v, mask, causal, chunk)[i] * np.arange(1.0, 5)).sum().backward()
        np.testing.assert_array_equal((v.grad != 0).any(axis=1), allowed[i])
        assert not k.grad[~allowed[i]].any()
        assert not np.delete(q.grad, i, axis=0).any()


@pytest.mark.parametrize("layer", [nn.MultiHeadAttention(4, 2), nn.TransformerBlock(4, 2)])
def test_a_causal_layer_does_not_look_ahead(layer: nn.Module) -> None:
    modules.random_parameters(layer)
    (x,) = normal(0, (1, 6, 4))
    before = layer(Tensor(x), None, True).data
    for i in range(6):
        changed = x.copy()
        changed[0, i, 0] += 1  # not all features: layer norm would take that off again
        different = (layer(Tensor(changed), None, True).data != before).any(axis=-1)[0]
        np.testing.assert_array_equal(different, np.arange(6) >= i)


@given(seeds, st.floats(0.1, 10), st.floats(-5, 5))
def test_layer_norm_ignores_scale_and_shift(seed: int, scale: float, shift: float) -> None:
    (x,) = normal(seed, (3, 6))
    weight, bias = np.ones(6), np.zeros(6)
    expected = ops.layer_norm(x, weight, bias, 0.0).data
    np.testing.assert_allclose(
        ops.layer_norm(scale * x + shift, weight, bias, 0.0).data, expected, rtol=1e-7, atol=1e-9
    )


@given(seeds, st.integers(1, 6), st.integers(1, 7))
def test_resampling_keeps_constant_images(seed: int, h: int, w: int) -> None:
    value = float(np.random.default_rng(seed).normal())
    image = np.full((1, 6, 7, 2), value)
    for result in (ops.adaptive_average_pool2d(image, (h, w)), ops.upsample_bilinear(image, (2 * h, 2 * w))):
        np.testing.assert_allclose(result.data, value, rtol=1e-12)
