"""Weights from outside: names, layouts, files, other channels and classes; all without PyTorch."""

import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from minissl import nn, random
from minissl.models.alexnet import AlexNet
from minissl.models.resnet import ResNet, resnet18
from minissl.models.torch_state import load_torch_state, torch_state
from minissl.models.vgg import VGG16
from minissl.tensor import Tensor
from tests.modules import random_parameters


def small(channels: int = 3, classes: int | None = 5, seed: int = 0) -> ResNet:
    random.seed(seed)
    return resnet18(2, channels, "cifar", classes)


def equal_states(a: nn.Module, b: nn.Module) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_names_are_torchvisions() -> None:
    names = list(torch_state(AlexNet(3, 5, 1, 2)))
    at = [("features", i) for i in (0, 3, 6, 8, 10)] + [("classifier", i) for i in (1, 4, 6)]
    assert names == [f"{part}.{i}.{kind}" for part, i in at for kind in ("weight", "bias")]
    names = list(torch_state(VGG16(3, 5, 1, 2)))
    at = [("features", i) for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)]
    at += [("classifier", i) for i in (0, 3, 6)]
    assert names == [f"{part}.{i}.{kind}" for part, i in at for kind in ("weight", "bias")]
    net = small()
    assert list(torch_state(net)) == list(net.state_dict()) and "fc.weight" in net.state_dict()


def test_a_model_inside_another_keeps_its_names() -> None:
    class Both(nn.Module):
        torch_names = {"head.0": "projection", "scale": "logit_scale"}  # noqa: RUF012

        def __init__(self) -> None:
            self.encoder = AlexNet(3, None, 1)
            self.head = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 2))
            self.scale, self.scale_2 = nn.Parameter(np.ones(1)), nn.Parameter(np.ones(1))

    names = list(torch_state(Both()))
    assert names[0] == "encoder.features.0.weight"
    assert names[-6:-2] == ["projection.weight", "projection.bias", "head.1.weight", "head.1.bias"]
    assert names[-2:] == ["logit_scale", "scale_2"]


LAYERS: dict[str, tuple[nn.Module, str, tuple[int, ...]]] = {
    "Conv2d": (nn.Conv2d(2, 3, (4, 5)), "weight", (3, 2, 4, 5)),
    "Conv2d in groups": (nn.Conv2d(4, 6, 3, groups=2), "weight", (6, 2, 3, 3)),
    "ConvTranspose2d": (nn.ConvTranspose2d(2, 3, (4, 5)), "weight", (2, 3, 4, 5)),
    "Conv1d": (nn.Conv1d(2, 3, 4), "weight", (3, 2, 4)),
    "Linear": (nn.Linear(2, 3), "weight", (3, 2)),
    "Embedding": (nn.Embedding(2, 3), "weight", (2, 3)),
    "LSTM": (nn.LSTM(2, 3), "weight_ih_l0", (12, 2)),
    "GRU": (nn.GRU(2, 3), "weight_hh_l0", (9, 3)),
    "LearnedPositions": (nn.LearnedPositions(2, 3), "weight", (1, 2, 3)),
    "fc6": (AlexNet(3, 5, 1, 2), "classifier.1.weight", (2, 4 * 36)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layouts(name: str) -> None:
    layer, key, shape = LAYERS[name]
    state = torch_state(layer)
    assert state[key].shape == shape
    for array, (_, tensor) in zip(state.values(), layer.named_tensors(), strict=True):
        assert array.flags.c_contiguous and not np.shares_memory(array, tensor.data)
    before = {own: array.copy() for own, array in layer.state_dict().items()}
    random_parameters(layer).astype("float32")
    load_torch_state(layer, state)
    for own, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, before[own])
        assert array.flags.c_contiguous and array.dtype == "float32"


def test_a_flattened_image_is_put_in_our_order() -> None:
    net: Any = AlexNet(3, 5, 1, 2)
    planes = np.random.default_rng(0).normal(size=(4, 6, 6))  # (C, h, w)
    weight = np.stack([planes.ravel(), -planes.ravel()])  # (D_out, C·h·w): finds this image
    load_torch_state(net.astype("float64"), torch_state(net) | {"classifier.1.weight": weight})
    y = net.fc6(Tensor(planes.transpose(1, 2, 0)[None])).data - net.fc6.bias.data
    np.testing.assert_allclose(y, [[(planes**2).sum(), -(planes**2).sum()]])


def write(path: Path, state: dict[str, Any]) -> None:
    if path.suffix == ".npz":
        np.savez(path, **state)  # type: ignore[arg-type, unused-ignore]
    else:
        safetensors.numpy.save_file(state, path)


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_files(tmp_path: Path, suffix: str) -> None:
    net, other, path = small(), small(seed=1), tmp_path / f"weights.{suffix}"
    derived = ("bn1.num_batches_tracked", "a.relative_position_index", "a.attn_mask")  # in many published files
    write(path, torch_state(net) | dict.fromkeys(derived, np.array(7)))
    assert not equal_states(net, other)
    report = load_torch_state(other, str(path))
    assert equal_states(net, other)
    assert report.loaded == list(net.state_dict()) and not report.problems()


@pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "pytorch_model.bin", "weights.ckpt", "weights"])
def test_a_pickle_is_never_opened(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    with pytest.raises(ValueError, match=r"expected a \.safetensors or \.npz file.*safetensors\.torch\.save_file"):
        load_torch_state(small(), path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_a_pickle_under_another_name_is_not_opened_either(tmp_path: Path, suffix: str) -> None:
    path, exploded = tmp_path / f"weights.{suffix}", tmp_path / "exploded"
    path.write_bytes(pickle.dumps(Bomb(exploded)))
    with pytest.raises(ValueError, match="is damaged, or holds other things than NumPy arrays"):
        load_torch_state(small(), path)
    if suffix == "npz":
        write(path, {"conv1.weight": np.array([Bomb(exploded)], dtype=object)})
        with pytest.raises(ValueError, match="is damaged, or holds other things than NumPy arrays"):
            load_torch_state(small(), path)
    assert not exploded.exists()


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_the_bomb_explodes(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "exploded")))
    assert (tmp_path / "exploded").exists()


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_files_that_are_missing_or_cut_short(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights.{suffix}"
    with pytest.raises(FileNotFoundError, match=f"there is no file .*weights.{suffix}"):
        load_torch_state(small(), path)
    write(path, torch_state(small()))
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ValueError, match="is damaged"):
        load_torch_state(small(), path)


def test_everything_that_does_not_fit_is_listed_before_anything_is_changed() -> None:
    net, state = small(), torch_state(small(seed=1))
    del state["bn1.bias"]
    state["extra"] = np.zeros(3)
    state["fc.weight"] = np.zeros((7, 16))
    before = small()
    with pytest.raises(ValueError) as caught:
        load_torch_state(net, state)
    for part in (
        "load_torch_state of ResNet: fc.weight: expected shape (5, 16), got (7, 16)",
        "bn1.bias: missing",
        "extra: unexpected",
        "strict=False skips these",
    ):
        assert part in str(caught.value)
    assert equal_states(net, before)


def test_a_head_for_other_classes_is_skipped_when_asked(caplog: pytest.LogCaptureFixture) -> None:
    net, source = small(classes=5), small(classes=9, seed=1)
    head = [net.state_dict()[f"fc.{kind}"].copy() for kind in ("weight", "bias")]
    report = load_torch_state(net, torch_state(source), strict=False)
    assert report.misshapen == [
        "fc.weight: expected shape (5, 16), got (9, 16)",
        "fc.bias: expected shape (5,), got (9,)",
    ]
    assert not report.missing and not report.unexpected
    assert "skipped: fc.weight: expected shape (5, 16)" in caplog.text
    np.testing.assert_array_equal(net.fc.weight.data, head[0])  # type: ignore[union-attr]
    np.testing.assert_array_equal(net.fc.bias.data, head[1])  # type: ignore[union-attr]
    for name, array in source.state_dict().items():
        assert name.startswith("fc.") or np.array_equal(net.state_dict()[name], array)


def test_features_only_take_a_classifiers_state() -> None:
    net, source = small(classes=None), small(seed=1)
    with pytest.raises(ValueError, match=r"fc\.weight: unexpected; fc\.bias: unexpected"):
        load_torch_state(net, torch_state(source))
    assert load_torch_state(net, torch_state(source), strict=False).unexpected == ["fc.weight", "fc.bias"]
    x = Tensor(np.ones((1, 8, 8, 3), "float32"))
    np.testing.assert_array_equal(net.eval()(x).data, source.eval().features(x).data)


def test_a_source_of_which_nothing_fits_is_always_an_error() -> None:
    state = {f"module.encoder_q.{name}": array for name, array in torch_state(small()).items()}
    with pytest.raises(ValueError, match=r"conv1\.weight: missing.*module\.encoder_q\.conv1\.weight: unexpected"):
        load_torch_state(small(), state, strict=False)


@pytest.mark.parametrize("how", ["mean", "repeat"])
@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_other_channels_keep_the_size_of_the_response(
    how: Any, channels: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "minissl")
    net, source = small(channels), small(seed=1)
    assert not load_torch_state(net, torch_state(source), channels=how).problems()
    assert f"conv1.weight: {channels} channels made of 3 by {how!r}" in caplog.text
    ours, old = net.conv1.weight.data, source.conv1.weight.data  # (kh, kw, C, O)
    for c in range(channels):
        expected = (old.mean(axis=2) if how == "mean" else old[:, :, c % 3]) * np.float32(3 / channels)
        np.testing.assert_allclose(ours[:, :, c], expected, rtol=1e-5, atol=1e-7)
    if how == "mean":  # an image of equal channels: the same response
        grey = np.random.default_rng(0).normal(size=(1, 8, 8, 1)).astype("float32")
        y, expected = (each.conv1(Tensor(grey.repeat(C, axis=3))).data for each, C in ((net, channels), (source, 3)))
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_other_channels_only_when_asked(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "minissl")
    state = torch_state(small())
    with pytest.raises(ValueError, match=r'conv1\.weight: expected .*\(channels="mean" or "repeat" adapts it\)'):
        load_torch_state(small(13), state)
    with pytest.raises(ValueError, match='expected channels to be "mean", "repeat" or None, got \'sum\''):
        load_torch_state(small(13), state, channels="sum")  # type: ignore[arg-type]
    net = small(seed=1)
    load_torch_state(net, state, channels="mean")  # nothing to adapt
    assert equal_states(net, small()) and not caplog.text
    state["layer1.0.conv1.weight"] = np.zeros((2, 3, 3, 3), "float32")  # not the first convolution
    with pytest.raises(ValueError, match=r"layer1\.0\.conv1\.weight: expected shape \(2, 2, 3, 3\)"):
        load_torch_state(small(), state, channels="mean")


def test_types_and_backends_are_the_models(cupy: Any) -> None:
    net, source = small(seed=1).astype("float64").to("cupy"), small()
    load_torch_state(net, torch_state(source))
    assert all(isinstance(a, cupy.xp.ndarray) and a.dtype == "float64" for a in net.state_dict().values())
    for name, array in torch_state(net).items():
        np.testing.assert_array_equal(array, torch_state(source)[name])
