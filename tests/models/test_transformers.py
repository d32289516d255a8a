"""Vision and Swin transformers: published sizes and names, shapes at every stage, gradients, learning, errors."""

from typing import Any

import numpy as np
import pytest

from minissl import losses, models, optim, random
from minissl.models.backbone import Backbone
from minissl.models.swin import PatchMerging, SwinBlock, SwinTransformer, pad_to_multiple, swin_tiny
from minissl.models.vit import VisionTransformer, resize_positions, vit_base, vit_small, vit_tiny
from minissl.tensor import Tensor
from tests import modules

CHANNELS = [1, 3, 15]


@pytest.fixture(autouse=True)
def numbers() -> np.random.Generator:
    random.seed(0)
    return np.random.default_rng(0)


def normal(*shape: int) -> Tensor:
    return Tensor(np.random.default_rng(0).standard_normal(shape, "float32"))


def small_vit(channels: int = 3, classes: int | None = None) -> VisionTransformer:
    return VisionTransformer(8, 2, channels, 8, 2, 2, classes=classes)


def small_swin(channels: int = 3, classes: int | None = None) -> SwinTransformer:
    return SwinTransformer((2, 2, 1, 1), (1, 2, 2, 4), 4, 3, 2, channels, classes)


# -- as published -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "count"), [(vit_tiny, 5_717_416), (vit_small, 22_050_664), (vit_base, 86_567_656)], ids=["T", "S", "B"]
)
def test_vision_transformers_are_as_large_as_published(make: Any, count: int) -> None:
    assert make(224, 16, 3, 1000).parameter_count() == count


def test_swin_t_is_as_large_as_published() -> None:
    assert swin_tiny(classes=1000).parameter_count() == 28_288_354


def test_names_follow_timm() -> None:
    block = pairs("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    vit = {"cls_token", "pos_embed", *pairs("patch_embed.proj", "norm", "head")}
    vit |= {f"blocks.{i}.{name}" for i in range(2) for name in block}
    assert set(small_vit(classes=5).state_dict()) == vit

    swin = {*pairs("patch_embed.proj", "patch_embed.norm", "norm", "head.fc")}
    for s, depth in enumerate((2, 2, 1, 1)):
        if s:
            swin |= {*pairs(f"layers.{s}.downsample.norm"), f"layers.{s}.downsample.reduction.weight"}
        swin |= {
            f"layers.{s}.blocks.{i}.{name}"
            for i in range(depth)
            for name in [*block, "attn.relative_position_bias_table"]
        }
    assert set(small_swin(classes=5).state_dict()) == swin


def pairs(*names: str) -> list[str]:
    return [f"{name}.{part}" for name in names for part in ("weight", "bias")]


def test_settings_reach_the_blocks() -> None:
    for net in (vit_tiny(16, 8, gelu="erf"), swin_tiny(width=12, gelu="erf")):
        acts = {m.mlp.act.form for m in net.modules() if hasattr(m, "mlp")}
        assert acts == {"erf"}
    swin = swin_tiny(width=12, window=5)
    blocks = [m for m in swin.modules() if isinstance(m, SwinBlock)]
    assert [b.attn.shift for b in blocks] == [0, 2] * 6 and {b.attn.size for b in blocks} == {5}
    assert {m.epsilon for b in blocks for m in (b.norm1, b.norm2)} == {1e-5}
    deep = SwinTransformer((1, 1, 2, 1), (1, 1, 1, 1), 4, drop_path=0.4)
    rates = [m.drop_path.rate for m in deep.modules() if isinstance(m, SwinBlock)]
    np.testing.assert_allclose(rates, [0, 0.1, 0.2, 0.3, 0.4])


# -- shapes, gradients, learning --------------------------------------------------------------------------------------


@pytest.mark.parametrize("C", CHANNELS)
def test_shapes_of_the_vision_transformer(C: int) -> None:
    net, x = small_vit(C), normal(2, 8, 8, C)
    assert net(x).shape == net.features(x).shape == (2, net.out_features) == (2, 8) and net(x).dtype == "float32"
    assert net.stages == ("embed", "blocks.0", "blocks.1")
    assert all(net.features(x, stage).shape == (2, 17, 8) for stage in net.stages)
    assert small_vit(C, 5)(x).shape == (2, 5) and small_vit(C, 5).features(x).shape == (2, 8)


@pytest.mark.parametrize("C", CHANNELS)
@pytest.mark.parametrize(
    ("size", "maps"),
    [
        ((12, 24), [(6, 12), (3, 6), (2, 3), (1, 2)]),  # windows of 3 divide the first maps, then no longer
        ((10, 14), [(5, 7), (3, 4), (2, 2), (1, 1)]),
        ((2, 2), [(1, 1), (1, 1), (1, 1), (1, 1)]),
    ],
)
def test_shapes_of_swin(C: int, size: tuple[int, int], maps: list[tuple[int, int]]) -> None:
    net, x = small_swin(C), normal(2, *size, C)
    assert net(x).shape == net.features(x).shape == (2, net.out_features) == (2, 32) and net(x).dtype == "float32"
    for i, name in enumerate(net.stages):
        assert net.features(x, name).shape == (2, *maps[i], 4 << i)
    assert small_swin(C, 5)(x).shape == (2, 5) and small_swin(C, 5).features(x).shape == (2, 32)


@pytest.mark.parametrize("net", [small_vit, small_swin])
def test_every_parameter_learns_and_the_loss_falls(net: Any) -> None:
    model: Backbone = net(2, 4)
    x, labels = normal(8, 8, 8, 2), np.arange(8) % 4
    optimizer, values = optim.Adam(model.parameters(), 0.01), []
    for _ in range(25):
        model.zero_grad()
        loss = losses.cross_entropy(model(x), labels)
        loss.backward()
        missing = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
        assert missing == set()
        optimizer.step()
        values.append(float(loss.data))
    assert values[-1] < 0.5 * values[0]


def test_gradients_of_a_padded_and_shifted_block(numbers: np.random.Generator) -> None:
    block = modules.random_parameters(SwinBlock(4, 2, 2, 1))
    modules.check_module(block, numbers.normal(size=(1, 3, 5, 4)))


def test_padded_tokens_are_cut_off_again_and_padding_is_below_and_to_the_right() -> None:
    padded = pad_to_multiple(normal(1, 3, 5, 2), 4).data
    assert padded.shape == (1, 4, 8, 2) and not padded[:, 3:].any() and not padded[:, :, 5:].any()
    np.testing.assert_array_equal(padded[:, :3, :5], normal(1, 3, 5, 2).data)
    x = normal(1, 4, 8, 2)
    assert pad_to_multiple(x, 4) is x


def test_merging_takes_squares_column_by_column(numbers: np.random.Generator) -> None:
    layer = modules.random_parameters(PatchMerging(2))
    x = numbers.normal(size=(1, 3, 4, 2))
    padded = np.concatenate([x, np.zeros((1, 1, 4, 2))], 1)
    for i, j in np.ndindex(2, 2):
        square = padded[0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        row = np.concatenate([square[0, 0], square[1, 0], square[0, 1], square[1, 1]])
        row = (row - row.mean()) / np.sqrt(row.var() + 1e-5) * layer.norm.weight.data + layer.norm.bias.data
        found = layer(Tensor(x)).data[0, i, j]
        np.testing.assert_allclose(found, row @ layer.reduction.weight.data, rtol=1e-9)


def test_the_call_that_benchmarks_use_still_works() -> None:
    assert models.vit_tiny(16, 8, 2)(normal(1, 16, 16, 2)).shape == (1, 192)


# -- positions --------------------------------------------------------------------------------------------------------


def test_resized_positions(numbers: np.random.Generator) -> None:
    positions = numbers.normal(size=(1, 17, 3))
    np.testing.assert_allclose(resize_positions(positions, 4).data, positions, rtol=1e-12)
    larger = resize_positions(positions, 8).data
    assert larger.shape == (1, 65, 3)
    np.testing.assert_array_equal(larger[:, 0], positions[:, 0])
    np.testing.assert_allclose(larger[0, 1], positions[0, 1], rtol=1e-12)  # the corners stay
    ramp = np.concatenate([np.zeros((1, 1, 1)), np.repeat(np.arange(4.0), 4).reshape(1, 16, 1)], 1)
    rows = resize_positions(ramp, 8).data[0, 1:, 0].reshape(8, 8)
    np.testing.assert_allclose(rows[1:-1, 3], np.arange(0.25, 3, 0.5), rtol=1e-12)


def test_a_state_loads_into_a_network_for_other_images() -> None:
    state, net = small_vit().state_dict(), VisionTransformer(12, 2, 3, 8, 2, 2)
    net.load_state_dict(state | {"pos_embed": resize_positions(state["pos_embed"], 6).data})
    assert net(normal(1, 12, 12, 3)).shape == (1, 8)


@pytest.mark.parametrize("shape", [(1, 16, 3), (17, 3)])
def test_positions_of_no_square_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="resize_positions: expected positions"):
        resize_positions(np.ones(shape), 4)


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 16, 4, 3), (2, 9, 9, 3), (2, 4, 4, 3), (8, 8, 3)])
def test_images_of_another_size_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="VisionTransformer: expected images of 8x8 pixels, got shape"):
        small_vit()(normal(*shape))


@pytest.mark.parametrize("shape", [(2, 9, 8, 3), (2, 8, 9, 3), (2, 0, 8, 3), (8, 8, 3)])
def test_images_that_patches_do_not_divide_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"SwinTransformer: expected images .* that patches of 2 divide"):
        small_swin()(normal(*shape))


def test_impossible_networks_are_named() -> None:
    with pytest.raises(ValueError, match="an image side that patches of 8 divide, got 30"):
        vit_tiny(30)
    with pytest.raises(ValueError, match="expected heads that divide the features"):
        swin_tiny(width=32)
    with pytest.raises(ValueError, match="expected a stage among stage1, stage2, stage3, stage4, got 'stage5'"):
        small_swin().features(normal(1, 8, 8, 3), "stage5")
