"""Networks give the same outputs and gradients on both backends."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minissl import backend, nn, random
from minissl.models.autoencoder import ConvAutoencoder, DeepAutoencoder, StackedDenoisingAutoencoder
from minissl.models.gan import Discriminator, Generator
from minissl.models.recurrent import SequenceClassifier
from minissl.models.segmentation import SegmentationDecoder, UNet
from minissl.models.swin import SwinTransformer
from minissl.models.vae import VAE
from minissl.models.vit import VisionTransformer, resize_positions
from minissl.tensor import Tensor

NETWORKS: dict[str, tuple[Callable[[], nn.Module], list[tuple[int, ...]]]] = {
    "deep autoencoder": (lambda: DeepAutoencoder(12, (6,), 4), [(2, 12)]),
    "stacked autoencoder": (lambda: StackedDenoisingAutoencoder((12, 6)), [(2, 12)]),
    "convolutional autoencoder": (lambda: ConvAutoencoder(8, 2, 2, 2, 3), [(2, 8, 8, 2)]),
    "VAE": (lambda: VAE(8, 2, 2, 2, 3), [(2, 8, 8, 2), (2, 3)]),
    "generator": (lambda: Generator(3, 8, 2, 2), [(2, 3)]),
    "discriminator": (lambda: Discriminator(16, 2, 2), [(2, 16, 16, 2)]),
    "LSTM": (lambda: SequenceClassifier(3, 4, 2), [(2, 3, 3)]),
    "ViT": (lambda: VisionTransformer(8, 4, 2, 4, 1, 2, classes=3, gelu="erf"), [(2, 8, 8, 2)]),
    "Swin": (lambda: SwinTransformer((2, 2, 1, 1), (1, 1, 2, 2), 4, 3, 2, 2, 3), [(2, 10, 14, 2)]),
    "U-Net": (lambda: UNet(3, 2, 2, 1), [(2, 4, 6, 2)]),
    "decoder": (
        lambda: SegmentationDecoder(VisionTransformer(8, 4, 2, 4, 1, 2), 3, (8, 8, 2), 4),
        [(2, 8, 8, 2)],
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_numbers_on_both_backends(name: str, cupy: Any) -> None:
    make, shapes = NETWORKS[name]
    arrays = [np.random.default_rng(i).normal(size=shape) for i, shape in enumerate(shapes)]
    found = []
    for where in ("numpy", "cupy"):
        random.seed(0)
        with backend.use(where):
            net = make().astype("float64")
            inputs = [backend.to_device(array) for array in arrays]
            y = net(Tensor(inputs[0]), *inputs[1:])
            outputs = y if isinstance(y, tuple) else (y,)
            sum(((output**2).sum() for output in outputs[1:]), (outputs[0] ** 2).sum()).backward()
            gradients = [p.grad for p in net.parameters() if p.grad is not None]
            found.append([backend.to_host(array) for array in [*(output.data for output in outputs), *gradients]])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-7, atol=1e-9 * max(1.0, float(np.abs(ours).max())))


def test_positions_are_resized_on_both_backends(cupy: Any) -> None:
    positions = np.random.default_rng(0).normal(size=(1, 10, 4))
    with backend.use("cupy"):
        found = resize_positions(backend.to_device(positions), 5).numpy()
    np.testing.assert_allclose(found, resize_positions(positions, 5).data, rtol=1e-12)
