"""U-Net and the light decoder: shapes on every backbone, gradients, learning, errors."""

from typing import Any

import numpy as np
import pytest

from minissl import losses, models, optim, random
from minissl.models.autoencoder import ConvEncoder
from minissl.models.backbone import Backbone
from minissl.models.segmentation import SegmentationDecoder, UNet, UNetEncoder, as_map
from minissl.models.swin import SwinTransformer
from minissl.models.vit import VisionTransformer
from minissl.tensor import Tensor

CHANNELS = [1, 3, 15]


@pytest.fixture(autouse=True)
def numbers() -> np.random.Generator:
    random.seed(0)
    return np.random.default_rng(0)


def normal(*shape: int) -> Tensor:
    return Tensor(np.random.default_rng(0).standard_normal(shape, "float32"))


def backbone(name: str, C: int) -> Backbone:
    if name == "ResNet":
        return models.resnet18(4, C)
    if name == "Swin":
        return SwinTransformer((1, 1, 1, 1), (1, 1, 2, 2), 4, 2, 2, C)
    if name == "ViT":
        return VisionTransformer(32, 8, C, 8, 2, 2)
    if name == "convolutions":
        return ConvEncoder(32, C, 4, 2, 5)
    return UNetEncoder(C, 4, 2)


EXPECTED = {
    "ResNet": ("layer1", "layer2", "layer3", "layer4"),
    "Swin": ("stage1", "stage2", "stage3", "stage4"),
    "ViT": ("blocks.1",),
    "convolutions": ("conv1", "conv2"),
    "U-Net's": ("down0", "down1", "down2"),
}


# -- U-Net ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("C", CHANNELS)
@pytest.mark.parametrize(("H", "W", "depth"), [(8, 24, 2), (5, 7, 0), (16, 8, 3)])
def test_u_net(C: int, H: int, W: int, depth: int) -> None:
    net, x = UNet(6, C, 3, depth), normal(2, H, W, C)
    assert net(x).shape == (2, H, W, 6) and net(x).dtype == "float32"
    assert net.features(x).shape == (2, net.out_features) == (2, 3 << depth)
    for i, name in enumerate(net.encoder.stages):
        assert net.features(x, name).shape == (2, H >> i, W >> i, 3 << i)


def test_u_net_is_as_large_as_the_papers_with_batch_norm() -> None:
    assert UNet(1).parameter_count() == 31_037_633


def test_u_net_joins_the_maps_of_the_way_down() -> None:
    """With what comes from below cut off, the fine map alone still reaches the output, and moves with its pixel."""
    net: Any = UNet(2, 1, 2, 1).eval()
    net.up0.weight.data[:] = 0
    x, changed = normal(1, 16, 16, 1), normal(1, 16, 16, 1)
    changed.data[0, 8, 8] += 5
    different = (net(x).data != net(changed).data).any(axis=-1)[0]
    assert (
        different[8, 8] and not different[:3].any() and not different[:, 13:].any()
    )  # four 3x3 convolutions: 4 pixels


# -- the decoder ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("C", CHANNELS)
@pytest.mark.parametrize("name", EXPECTED)
def test_the_decoder_on_every_backbone(name: str, C: int) -> None:
    net = SegmentationDecoder(backbone(name, C), 5, (32, 32, C), 6)
    assert net.used == EXPECTED[name]
    y = net(normal(2, 32, 32, C))
    assert y.shape == (2, 32, 32, 5) and y.dtype == "float32"


@pytest.mark.parametrize(("name", "H", "W"), [("ResNet", 40, 27), ("Swin", 18, 30), ("U-Net's", 8, 20)])
def test_the_decoder_takes_the_sizes_that_its_backbone_takes(name: str, H: int, W: int) -> None:
    net = SegmentationDecoder(backbone(name, 2), 5, (32, 32, 2), 6)
    assert net(normal(2, H, W, 2)).shape == (2, H, W, 5)


def test_trying_the_backbone_leaves_it_as_it_was() -> None:
    net = backbone("ResNet", 3)
    net.layer2.eval()  # type: ignore[attr-defined]
    before = {name: array.copy() for name, array in net.state_dict().items()}
    SegmentationDecoder(net, 5)
    assert net.training and not net.layer2.training  # type: ignore[attr-defined]
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_chosen_stages_of_a_vision_transformer() -> None:
    net = SegmentationDecoder(backbone("ViT", 3), 5, (32, 32, 3), 6, ("blocks.0", "blocks.1"))
    assert len(net.laterals) == 2 and net(normal(2, 32, 32, 3)).shape == (2, 32, 32, 5)


def test_tokens_become_a_map_without_the_class_token() -> None:
    x = normal(2, 10, 3)
    np.testing.assert_array_equal(as_map(x).data, x.data[:, 1:].reshape(2, 3, 3, 3))
    np.testing.assert_array_equal(as_map(x[:, 1:]).data, x.data[:, 1:].reshape(2, 3, 3, 3))
    image = normal(1, 4, 5, 3)
    assert as_map(image) is image


# -- learning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["U-Net", *EXPECTED])
def test_every_parameter_learns_and_the_loss_falls(name: str) -> None:
    """Bright pixels are to be told from dark ones."""
    random.seed(1)
    blocks = np.random.default_rng(1).random((2, 4, 4, 1)).repeat(8, 1).repeat(8, 2).astype("float32")
    x, labels = Tensor(blocks), (blocks > 0.5).astype(int).reshape(-1)
    net: Any = UNet(2, 1, 4, 2) if name == "U-Net" else SegmentationDecoder(backbone(name, 1), 2, (32, 32, 1), 8)
    optimizer, values = optim.Adam(net.parameters(), 0.01), []
    for _ in range(20):
        net.zero_grad()
        loss = losses.cross_entropy(net(x).reshape(-1, 2), labels)
        loss.backward()
        optimizer.step()
        values.append(float(loss.data))
    idle = {name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()}
    assert all(name.startswith(("backbone.norm.", "backbone.fc.")) for name in idle)  # only pooled features use these
    assert values[-1] < 0.75 * values[0]


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 6, 8, 3), (1, 8, 6, 3), (1, 0, 8, 3), (8, 8, 3)])
def test_images_that_cannot_be_halved_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"U-Net: expected images \(N, H, W, C\) whose sides 4 divides, got"):
        UNet(2, 3, 2, 2)(normal(*shape))


@pytest.mark.parametrize("stages", [(), ("conv1", "latent"), ("layer1",)])
def test_stages_without_a_map_are_named(stages: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="expected stages with maps among conv1, conv2, got"):
        SegmentationDecoder(backbone("convolutions", 3), 5, (32, 32, 3), 6, stages)
