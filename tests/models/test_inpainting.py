"""The context decoder: shapes, what reaches what, gradients, learning, both backends."""

from typing import Any

import numpy as np
import pytest

from minissl import backend, losses, nn, optim, random
from minissl.models.inpainting import ContextDecoder
from minissl.tensor import Tensor
from tests import modules


@pytest.fixture(autouse=True)
def numbers() -> np.random.Generator:
    random.seed(0)
    return np.random.default_rng(0)


@pytest.mark.parametrize("channels", [1, 3, 13])
@pytest.mark.parametrize("doublings", [1, 3])
def test_a_map_becomes_an_image(channels: int, doublings: int, numbers: np.random.Generator) -> None:
    net = ContextDecoder(2, 3, 8, doublings, channels)
    x = Tensor(numbers.normal(size=(4, 2, 3, 8)).astype("float32"))
    y = net(x)
    assert y.shape == (4, 2 << doublings, 3 << doublings, channels) and y.dtype == "float32"
    (y**2).sum().backward()
    assert all(p.grad is not None and (p.grad.any() or name == "spread.0.bias") for name, p in net.named_parameters())


def test_the_channelwise_layer_mixes_places_within_a_channel_and_no_channels(numbers: np.random.Generator) -> None:
    layer = ContextDecoder(2, 3, 8, 2).spread[0]  # type: ignore[index]
    x = numbers.normal(size=(1, 2, 3, 8))
    moved = x.copy()
    moved[0, 1, 2, 5] += 1
    changed = (layer(Tensor(moved)).data != layer(Tensor(x)).data)[0]  # (2, 3, 8)
    assert changed[..., 5].all()
    assert not np.delete(changed, 5, axis=2).any()


def test_every_place_of_the_map_reaches_every_pixel(numbers: np.random.Generator) -> None:
    """Transposed convolutions alone would carry one of the 4x4 places over a part of the image only."""
    net = modules.random_parameters(ContextDecoder(4, 4, 4, 2, 1)).eval()
    for parameter in net.parameters():
        parameter.data = abs(parameter.data)  # then no ReLU is 0
    x = numbers.uniform(1, 2, (1, 4, 4, 4))
    moved = x.copy()
    moved[0, 0, 0] += 1
    assert (net(Tensor(moved)).data != net(Tensor(x)).data).all()
    assert (net.rise(Tensor(moved)).data == net.rise(Tensor(x)).data).any()


def test_gradients(numbers: np.random.Generator) -> None:
    net = modules.random_parameters(ContextDecoder(2, 2, 4, 2, 1))
    modules.check_module(net, numbers.normal(size=(3, 2, 2, 4)), tolerance=1e-5)


def test_it_learns(numbers: np.random.Generator) -> None:
    net: nn.Module = ContextDecoder(2, 2, 16, 2, 1)
    x, target = Tensor(numbers.normal(size=(4, 2, 2, 16)).astype("float32")), numbers.normal(size=(4, 8, 8, 1))
    optimizer, values = optim.Adam(net.parameters(), 0.02), []
    for _ in range(40):
        loss = losses.mse(net(x), target.astype("float32"))
        values.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert values[-1] < 0.5 * values[0]


def test_the_same_numbers_on_both_backends(cupy: Any) -> None:
    found = []
    for where in ("numpy", "cupy"):
        random.seed(0)
        with backend.use(where):
            net = ContextDecoder(2, 2, 4, 2, 2).astype("float64")
            x = Tensor(backend.to_device(np.random.default_rng(0).normal(size=(3, 2, 2, 4))))
            y = net(x)
            (y**2).sum().backward()
            found.append([backend.to_host(a) for a in (y.data, *(p.grad for p in net.parameters()))])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-7, atol=1e-9 * max(1.0, float(np.abs(ours).max())))


def test_what_it_cannot_take_is_named() -> None:
    with pytest.raises(ValueError, match=r"ContextDecoder: expected maps \(N, 2, 2, 4\), got \(3, 2, 4, 4\)"):
        ContextDecoder(2, 2, 4, 1)(Tensor(np.ones((3, 2, 4, 4))))
    for inputs, doublings in ((4, 0), (4, 4), (6, 3)):
        with pytest.raises(ValueError, match=f"ContextDecoder: expected .* got {doublings} from {inputs} channels"):
            ContextDecoder(2, 2, inputs, doublings)
