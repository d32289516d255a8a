"""What holds for every contrastive chapter and variant: how it is resumed, cut into parts, and run on a GPU."""

import math
import os
import pkgutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minissl import backend, checkpoint, evaluation, nn, ops, random
from minissl.tensor import Tensor
from reference import chapters, contrastive, earth
from reference.trainer import Interrupted, make_optimizer, train
from tests.contrastive_chapters import (
    CASES,
    N,
    changed,
    data_of,
    double,
    find,
    first_views,
    make,
    step,
    tiny_data,
    weights,
    with_channels,
)

every_case = pytest.mark.parametrize("name", CASES)
KEPT = {  # some of what checkpoints must hold beside encoder and head
    "byol": ["target.module.1.0.weight", "predictor.0.weight"],
    "clip": ["log_scale", "other.words.weight"],
    "cmc": ["heads.1.weight"],
    "cpc": ["context.0.conv.weight", "W.3.weight"],
    "instance_discrimination": ["bank.rows", "log_z", "batches"],
    "moco 1": ["key.module.0.conv1.weight", "queue.rows", "queue.written"],
    "moco 3": ["key.module.0.patch_embed.proj.weight", "predictor.0.weight"],
    "positives generated": ["ready", "painter.G.decoder.fc.weight"],
    "positives selfaugment": ["ready", "told"],
    "sar_optical s1": ["unseen.0.conv1.weight", "heads.1.0.weight"],
    "seco": ["key.module.1.heads.2.0.weight", "queue.2.rows", "queue.2.written"],
    "swav": ["queues.1.rows", "queues.1.written", "prototypes.rows"],
}
CHANNELS = {"cmc": [3], "cmc spectral": [13]}  # of others any number
CHANNELS |= {name: [5, 15] for name in CASES if "sar_optical" in name} | {"seco": [3], "seco temporal": [3]}
SIZES = {"moco 3": 16, "cmc spectral": 24, "sar_optical": 64, "sar_optical s2 swin": 24}  # of features; of others 32
LARGEST = {"byol": 10.0, "swav": 10.0, "simclr": 2 * math.log(2 * N - 1)}  # the loss of a first step is less


def test_every_chapter_is_here_and_the_command_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {module.name for module in pkgutil.iter_modules([*contrastive.__path__, *earth.__path__])}
    assert {name.split()[0] for name in CASES} == modules
    listed = chapters.chapters()  # once, as all files are read
    monkeypatch.setattr(chapters, "chapters", lambda: listed)
    assert {name for part in ("contrastive", "earth") for name, _ in listed[part]} == modules
    assert all(chapters.find(module) is find(module) for module in modules)


class Killed(Exception):
    """The process ends here."""


@every_case
def test_a_run_that_is_stopped_in_every_step_ends_with_the_same_bits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two epochs of two steps: killed in the first, and then Ctrl-C in every one, after which a new process goes on."""
    monkeypatch.setattr(os, "fsync", lambda file: None)  # no disk is waited for
    file, whole = tmp_path / "checkpoint.safetensors", make(name, epochs=2)
    data = data_of(name)
    expected = train(whole, data, whole.config, tmp_path, "whole_").history
    for standing in (None, (0, 1), (1, 0), (1, 1), (2, 0)):
        method = make(name, epochs=2)
        if file.exists():
            for parameter in method.parameters():
                parameter.data = parameter.data + 1  # all that counts is in the checkpoint

        def stopped(views: Any, optimizer: Any, do: Any = method.training_step, kill: bool = standing is None) -> Any:
            if kill:
                raise Killed
            signal.raise_signal(signal.SIGINT)
            return do(views, optimizer)

        method.training_step = stopped
        with pytest.raises(Interrupted if standing else Killed):
            train(method, data, method.config, tmp_path)
        assert file.exists() == (standing is not None)
    arrays, state = checkpoint.load(file)
    unstopped, _ = checkpoint.load(tmp_path / "whole_checkpoint.safetensors")
    assert changed(unstopped, arrays) == changed(weights(whole), weights(method)) == set()
    found = state["progress"]["history"]
    assert [line | {"seconds": 0} for line in found] == [line | {"seconds": 0} for line in expected]
    assert {f"method.{key}" for key in KEPT.get(name, [])} <= arrays.keys()


@every_case
def test_a_batch_in_parts_has_the_loss_and_gradient_of_the_whole(name: str) -> None:
    """With batch norm in evaluation mode, where images of a batch do not see each other."""
    found = []
    for parts in (1, 2):
        method = make(name, accumulate=parts).astype("float64")
        for module in method.modules():
            if isinstance(module, nn.BatchNorm):
                module.eval()
        views = double(first_views(method))
        random.seed(2)
        logged = method.gradients(views)
        found.append((logged, {key: p.grad for key, p in method.named_parameters() if p.grad is not None}))
    (logged, whole), (logged_in_parts, summed) = found
    assert logged_in_parts == pytest.approx(logged, rel=1e-9)
    assert summed.keys() == whole.keys() and len(whole) > 20
    for key, gradient in whole.items():
        np.testing.assert_allclose(summed[key], gradient, rtol=1e-6, atol=1e-10, err_msg=key)


@every_case
def test_each_part_enters_averages_once_and_the_whole_batch_queues_and_banks(name: str) -> None:
    method, twin = (make(name, accumulate=2).astype("float64") for _ in range(2))
    views = double(first_views(method))
    random.seed(2)
    method.gradients(views)
    method.after_step()
    random.seed(2)
    parts = [twin.embed(tuple(view[part] for view in views)) for part in (slice(N // 2), slice(N // 2, N))]
    twin.compare(*(ops.concatenate(list(pieces)) for pieces in zip(*parts, strict=True)))
    twin.after_step()
    expected = weights(twin)
    for key, array in weights(method).items():
        np.testing.assert_allclose(array, expected[key], rtol=1e-12, err_msg=key)


@pytest.mark.parametrize(
    ("name", "channels"), [(name, channels) for name in CASES for channels in CHANNELS.get(name, [1, 2, 13])]
)
def test_a_step_on_any_number_of_channels(name: str, channels: int) -> None:
    """Of two channels in parts."""
    data = with_channels(tiny_data(), channels)
    method = make(name, data, accumulate=2 if channels == 2 else 1)
    views = first_views(method, data)
    images = [view for view in views if view.ndim >= 4]
    assert all(len(view) == N and view.dtype == np.float32 for view in images)
    logged = step(method, data=data)
    assert logged.keys() - {"scale"} == {"loss", "std", "cosine", "alignment", "uniformity"}
    assert all(math.isfinite(value) for value in logged.values())
    assert 0 < logged["loss"] < LARGEST.get(name, math.inf)
    h = evaluation.extract(method.encoder, data["images"], method.prepare)
    assert h.shape == (len(data), SIZES.get(name, 32))
    for title, pictures in method.shown(views).items():
        assert len(pictures) == N and pictures.min() >= 0 and pictures.max() <= 1
        assert pictures.shape[-1] == (1 if channels < 3 and name != "cpc" and "VV" not in title else 3)


@every_case
def test_a_small_step_lowers_the_loss_of_its_batch(name: str) -> None:
    method = make(name, optimizer="sgd", learning_rate=1e-5)
    optimizer, views = make_optimizer(method, method.config), first_views(method)
    buffers = [(tensor, tensor.data.copy()) for _, tensor in method.named_tensors() if isinstance(tensor, nn.Buffer)]

    def loss() -> float:
        random.seed(1, 1)
        for tensor, before in buffers:
            tensor.data = before.copy()
        return method.gradients(views)["loss"]

    before = loss()
    optimizer.step()
    assert loss() < before


@pytest.mark.parametrize("name", ["swav", "cmc"])
def test_a_batch_is_learned_by_heart(name: str) -> None:
    """The loss falls well below what it is when all embeddings are equal."""
    method = make(name, learning_rate=0.02, **({"multi_crop": False} if name == "swav" else {}))
    optimizer, views = make_optimizer(method, method.config), first_views(method)
    for _ in range(25):
        logged = method.training_step(views, optimizer)
    [reference] = method.references.values()
    assert logged["loss"] < 0.8 * reference, (logged, reference)


@pytest.mark.parametrize("name", [name for name in CASES if name.split()[0] not in ("byol", "negatives")])
def test_when_all_embeddings_are_alike_the_loss_is_the_reference(name: str) -> None:
    method = make(name)
    for key, tensor in method.named_tensors():
        if key.endswith("rows"):  # of queue, bank and prototypes
            tensor.data = np.full_like(tensor.data, tensor.shape[1] ** -0.5)
    numbers = lambda z: z.ndim == 1 or z.shape[1] == 1  # which class, which row
    alike = lambda z: Tensor(np.full_like(z.data, z.shape[1] ** -0.5))
    z = [each if numbers(each) else alike(each) for each in method.embed(first_views(method))]
    assert [method.compare(*z).item()] == pytest.approx(list(method.references.values()), rel=1e-4)


@every_case
def test_the_same_steps_on_both_backends(name: str, cupy: backend.Backend) -> None:
    found: list[Any] = []
    # Plain steps: Adam's first one is the sign of a gradient, which rounding turns where it is nearly 0.
    settings = {"optimizer": "sgd", "learning_rate": 1e-3} | ({"queue": N} if name == "swav" else {})
    for place in ("numpy", "cupy"):
        with backend.use(place):
            method = make(name, **settings)
            method.start_epoch(1)  # SwAV's queue is full after a step, and is used in the next
            optimizer, views = make_optimizer(method, method.config), first_views(method)
            random.seed(2)
            steps = 2 if name in ("byol", "cmc", "swav") else 1
            logged = [method.training_step(views, optimizer) for _ in range(steps)]
            found.append((map(backend.to_host, views), logged, weights(method)))
    (views, logged, state), (views_there, logged_there, state_there) = found
    for here, there in zip(views, views_there, strict=True):
        np.testing.assert_allclose(there, here, atol=2e-4)
    for here, there in zip(logged, logged_there, strict=True):
        assert there == pytest.approx(here, rel=1e-3)
    for key, array in state.items():
        np.testing.assert_allclose(state_there[key], array, rtol=1e-3, atol=1e-3, err_msg=key)
