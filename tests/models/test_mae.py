"""The masked autoencoder: patches and masks against loops, what the encoder cannot see, and gradients."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minissl import losses, models, nn, random
from minissl.models.mae import MaskedAutoencoder, normalize_patches, patchify, random_mask, unpatchify
from minissl.tensor import Tensor
from tests import modules

seeds = st.integers(0, 2**32 - 1)
BANDS = [1, 2, 13]


@pytest.fixture(autouse=True)
def numbers() -> np.random.Generator:
    random.seed(0)
    return np.random.default_rng(0)


def tiny(channels: int = 1, image: int = 4, features: int = 4) -> MaskedAutoencoder:
    """Patches of 2x2, one block on each side, in float64; no γ is 1 and no β is 0."""
    net = MaskedAutoencoder(image, 2, channels, features, 1, 2, 4, 1, 1)
    return modules.random_parameters(net)


def hidden_pixels(mask: np.ndarray, image: int, channels: int) -> np.ndarray:
    """(N, H, W, C): whether a pixel lies in a hidden patch of 2x2."""
    return unpatchify(np.repeat(mask[..., None], 4 * channels, axis=2), 2, image, image).data == 1


# -- patches ----------------------------------------------------------------------------------------------------------


@given(seeds, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.sampled_from(BANDS))
def test_patches_come_in_the_order_of_the_loops(seed: int, size: int, h: int, w: int, C: int) -> None:
    images = np.random.default_rng(seed).normal(size=(2, h * size, w * size, C))
    expected = np.empty((2, h * w, size * size * C))
    for n in range(2):
        for i in range(h):
            for j in range(w):
                for p in range(size):
                    for q in range(size):
                        for c in range(C):
                            here = images[n, i * size + p, j * size + q, c]
                            expected[n, i * w + j, (p * size + q) * C + c] = here
    patches = patchify(images, size)
    np.testing.assert_array_equal(patches.data, expected)
    np.testing.assert_array_equal(unpatchify(patches, size, h * size, w * size).data, images)


def test_patches_are_those_of_the_patch_embedding(numbers: np.random.Generator) -> None:
    images, layer = numbers.normal(size=(2, 4, 6, 3)), nn.PatchEmbed(2, 3, 5).astype("float64")
    weight = layer.proj.weight.data.reshape(12, 5)
    np.testing.assert_allclose(layer(Tensor(images)).data, patchify(images, 2).data @ weight, rtol=1e-10, atol=1e-12)


def test_gradients_go_through_both_ways(numbers: np.random.Generator) -> None:
    weights = numbers.normal(size=(1, 4, 6, 2))
    patches = Tensor(numbers.normal(size=(1, 6, 8)), requires_grad=True)
    unpatchify(patches, 2, 4, 6).backward(weights)
    np.testing.assert_array_equal(patches.grad, patchify(weights, 2).data)
    images = Tensor(weights, requires_grad=True)
    patchify(images, 2).backward(patches.data)
    np.testing.assert_array_equal(images.grad, unpatchify(patches, 2, 4, 6).data)


@pytest.mark.parametrize("shape", [(1, 5, 4, 1), (1, 4, 5, 1), (4, 4, 1)])
def test_images_that_patches_do_not_divide_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"patchify: expected images \(N, H, W, C\) that patches of 2 divide"):
        patchify(np.ones(shape), 2)


@pytest.mark.parametrize(
    ("shape", "height"), [((1, 3, 4), 4), ((1, 4, 5), 4), ((4, 4), 4), ((1, 4, 4), 5), ((1, 5, 4), 4)]
)
def test_patches_that_make_no_image_are_named(shape: tuple[int, ...], height: int) -> None:
    with pytest.raises(ValueError, match="unpatchify: expected 4 patches of 2x2 pixels that make images of"):
        unpatchify(np.ones(shape), 2, height, 4)


@pytest.mark.parametrize("C", BANDS)
def test_normalized_patches(C: int, numbers: np.random.Generator) -> None:
    patches = numbers.normal(3, 5, size=(2, 3, 4 * C))
    found = normalize_patches(patches).data
    for n in range(2):
        for l in range(3):
            values = patches[n, l].tolist()
            mean = sum(values) / len(values)
            variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
            np.testing.assert_allclose(found[n, l], [(v - mean) / (variance + 1e-6) ** 0.5 for v in values], rtol=1e-10)
    assert normalize_patches(patches.astype("float32")).dtype == "float32"
    assert not normalize_patches(np.full((1, 1, 4), 7.0)).data.any()  # a patch of one colour stays finite


def test_the_small_number_is_inside_the_root() -> None:
    patch = np.array([[[-1e-3, 1e-3]]])  # its unbiased variance is 2e-6
    np.testing.assert_allclose(normalize_patches(patch).data, patch / 3e-6**0.5)


# -- masks ------------------------------------------------------------------------------------------------------------


@given(seeds, st.integers(1, 5), st.integers(1, 70), st.sampled_from([0.0, 0.1, 0.5, 0.75, 0.9]))
def test_masks_are_exact_and_restore_inverts(seed: int, N: int, L: int, ratio: float) -> None:
    if (K := L - round(ratio * L)) < 1:
        return
    keep, restore, mask = random_mask(N, L, ratio, np.random.default_rng(seed))
    assert keep.shape == (N, K) and restore.shape == mask.shape == (N, L) and mask.dtype == "float32"
    assert keep.dtype.kind == restore.dtype.kind == "i"
    np.testing.assert_array_equal(mask.sum(axis=1), L - K)
    for n in range(N):
        assert sorted(restore[n]) == list(range(L))
        np.testing.assert_array_equal(restore[n, keep[n]], np.arange(K))  # the visible stand first, in their order
        np.testing.assert_array_equal(np.flatnonzero(mask[n] == 0), sorted(keep[n]))


def test_images_have_masks_of_their_own_and_all_patches_their_turn() -> None:
    _, _, mask = random_mask(4000, 8, 0.75, np.random.default_rng(0))
    np.testing.assert_allclose(mask.mean(axis=0), 0.75, atol=0.03)
    assert len({tuple(row) for row in mask}) == 28  # all ways to choose 2 of 8


@pytest.mark.parametrize(("L", "ratio"), [(4, 1.0), (1, 0.75), (4, -0.5), (16, 2.0)])
def test_ratios_that_hide_all_or_less_than_none_are_named(L: int, ratio: float) -> None:
    with pytest.raises(ValueError, match="random_mask: expected a ratio from 0 that leaves a patch"):
        random_mask(2, L, ratio, np.random.default_rng(0))


# -- the network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("C", BANDS)
@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.75])
def test_shapes(C: int, ratio: float, numbers: np.random.Generator) -> None:
    net = MaskedAutoencoder(8, 2, C, 8, 1, 2, 4, 1, 1)
    images = Tensor(numbers.normal(size=(3, 8, 8, C)).astype("float32"))
    keep, restore, _ = random_mask(3, 16, ratio, numbers)
    assert net.encode(images).shape == (3, 17, 8)
    assert net.encode(images, keep).shape == (3, 1 + keep.shape[1], 8)
    predicted = net(images, keep, restore)
    assert predicted.shape == (3, 16, 4 * C) and predicted.dtype == "float32"
    assert net.encoder(images).shape == (3, 8)


def test_the_usual_size_is_vit_tiny_with_a_light_decoder() -> None:
    net, vit = MaskedAutoencoder(), models.vit_tiny()
    assert modules.shapes(net.encoder) == modules.shapes(vit)
    learned = {name for name, _ in net.named_parameters()}
    assert set(net.state_dict()) - learned == {"encoder.pos_embed", "decoder_pos_embed"}
    assert net.parameter_count() < 1.06 * vit.parameter_count()


@given(seeds)
def test_hidden_patches_never_reach_the_encoder(seed: int) -> None:
    rng = np.random.default_rng(seed)
    net, (keep, restore, mask) = tiny(channels=2, image=8), random_mask(2, 16, 0.75, rng)
    images = rng.normal(size=(2, 8, 8, 2))
    hidden = hidden_pixels(mask, 8, 2)
    changed = np.where(hidden, rng.normal(5, 20, images.shape), images)
    for see in (lambda x: net.encode(x, keep), lambda x: net(x, keep, restore)):
        np.testing.assert_array_equal(see(Tensor(changed)).data, see(Tensor(images)).data)

    x = Tensor(images, requires_grad=True)
    y = net.encode(x, keep)
    y.backward(rng.normal(size=y.shape))
    assert not x.grad[hidden].any() and (x.grad[~hidden] != 0).all()


def test_the_prediction_does_not_depend_on_the_order_of_the_visible(numbers: np.random.Generator) -> None:
    """Each patch takes its position along, and `restore` brings it back to where it was."""
    net, (keep, restore, _) = tiny(image=8), random_mask(1, 16, 0.5, numbers)
    images, K = Tensor(numbers.normal(size=(1, 8, 8, 1))), keep.shape[1]
    order = numbers.permutation(K)
    moved = np.where(restore < K, np.append(np.argsort(order), np.zeros(16 - K, int))[restore], restore)
    np.testing.assert_allclose(
        net(images, keep[:, order], moved).data, net(images, keep, restore).data, rtol=1e-10, atol=1e-12
    )


def test_with_all_patches_visible_in_order_the_encoder_is_a_vision_transformer(numbers: np.random.Generator) -> None:
    net, images = tiny(image=8), Tensor(numbers.normal(size=(2, 8, 8, 1)))
    everything = np.broadcast_to(np.arange(16), (2, 16))
    np.testing.assert_array_equal(net.encode(images, everything).data, net.encode(images).data)
    np.testing.assert_allclose(net.encoder(images).data, net.encode(images).data[:, 0], rtol=1e-12)


def test_hidden_patches_differ_by_their_position_alone(numbers: np.random.Generator) -> None:
    net, (keep, restore, mask) = tiny(image=8), random_mask(1, 16, 0.75, numbers)
    images = Tensor(numbers.normal(size=(1, 8, 8, 1)))
    hidden = net(images, keep, restore).data[mask == 1]
    assert len(np.unique(hidden.round(9), axis=0)) == 12
    net.decoder_pos_embed.data = np.zeros_like(net.decoder_pos_embed.data)
    hidden = net(images, keep, restore).data[mask == 1]
    np.testing.assert_allclose(hidden, np.broadcast_to(hidden[:1], hidden.shape), rtol=1e-10)


def test_gradients(numbers: np.random.Generator) -> None:
    net, (keep, restore, mask) = tiny(), random_mask(2, 4, 0.5, numbers)

    class Loss(nn.Module):
        def __init__(self) -> None:
            self.net = net

        def forward(self, images: Tensor) -> Tensor:
            return losses.masked_mse(self.net(images, keep, restore), target, mask)

    images = numbers.normal(size=(2, 4, 4, 1))
    target = normalize_patches(patchify(images, 2))
    modules.check_module(Loss(), images)


def test_every_parameter_receives_a_gradient(numbers: np.random.Generator) -> None:
    net, (keep, restore, mask) = MaskedAutoencoder(8, 2, 3, 8, 2, 2, 4, 2, 1), random_mask(3, 16, 0.75, numbers)
    images = Tensor(numbers.normal(size=(3, 8, 8, 3)).astype("float32"))
    losses.masked_mse(net(images, keep, restore), patchify(images, 2), mask).backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())
    assert net.encoder.pos_embed.grad is None and net.decoder_pos_embed.grad is None


@pytest.mark.parametrize("keep", [np.zeros(3, int), np.zeros((1, 3), int), np.zeros((3, 3), int)])
def test_another_number_of_rows_than_images_is_named(keep: Any) -> None:
    with pytest.raises(ValueError, match="take_tokens: expected a row of numbers for each of 2 images"):
        tiny().encode(Tensor(np.ones((2, 4, 4, 1))), keep)


def test_the_same_numbers_on_both_backends(cupy: Any, numbers: np.random.Generator) -> None:
    from minissl import backend

    net, images = tiny(image=8), numbers.normal(size=(2, 8, 8, 1))
    found = []
    for name in ("numpy", "cupy"):
        with backend.use(name):
            keep, restore, mask = random_mask(2, 16, 0.75, np.random.default_rng(0))
            x = Tensor(backend.to_device(images))
            loss = losses.masked_mse(net.to(name)(x, keep, restore), normalize_patches(patchify(x, 2)), mask)
            loss.backward()
            found.append([loss.numpy(), *(backend.to_host(p.grad) for p in net.parameters())])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-7, atol=1e-10)
