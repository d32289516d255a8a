"""BYOL, SwAV and CMC: what a view has to predict, what is a constant, and what keeps embeddings apart."""

import math
import signal
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minissl import augment, backend, checkpoint, evaluation, losses, nn, random
from minissl.data import DataSet, scenes
from minissl.optim import Optimizer
from minissl.tensor import Tensor
from reference.contrastive import cmc
from reference.contrastive.byol import BYOL
from reference.contrastive.cmc import CMC
from reference.contrastive.swav import SwAV
from reference.method import Inputs, Method
from reference.trainer import Interrupted, make_optimizer, train

N = 16
SMALL: dict[type[Method], dict[str, Any]] = {
    BYOL: {"hidden": 32, "momentum": 0.9},
    SwAV: {"prototypes": 8, "queue": 40, "queue_waits": 1, "small_crops": 2},
    CMC: {},
}


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    return scenes.generate(3 * N, 16)["images"]


@pytest.fixture(scope="module")
def s2() -> np.ndarray:
    return scenes.generate(N, 16, bands="s2")["images"]


def make(chapter: type[Method], images: np.ndarray, seed: int = 0, **settings: Any) -> Any:
    random.seed(seed)
    small = {"width": 4, "embedding": 16, "batch_size": N, "image_size": 16, "workers": 0}
    config = chapter.settings(**small | SMALL[find(chapter)] | settings)
    return chapter(config, Inputs(images.shape[-1], *augment.channel_statistics(images), ()))


def find(chapter: type[Method]) -> type[Method]:
    return next(own for own in SMALL if issubclass(chapter, own))


def first_views(method: Method, images: np.ndarray, seed: int = 1) -> tuple[Any, ...]:
    return method.views({"images": images[:N]}, random.seed(seed))


def copied(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in module.state_dict().items()}


def rows(count: int, size: int = 16, seed: int = 0) -> list[Tensor]:
    """Embeddings (N, size) of `count` views, as leaves of a graph."""
    numbers = np.random.default_rng(seed).normal(size=(count, N, size)).astype("float32")
    return [Tensor(z, requires_grad=True) for z in numbers]


# -- BYOL -------------------------------------------------------------------------------------------------------------


def test_the_target_is_at_first_the_online_network_without_its_predictor(rgb: np.ndarray) -> None:
    method = make(BYOL, rgb)
    online, target = method.online.state_dict(), method.target.module.state_dict()
    assert list(target) == list(online)
    own = {f"encoder.{name}" for name in method.encoder.state_dict()}
    own |= {f"projector.{name}" for name in method.projector.state_dict()}
    assert len(target) == len(own)
    for name, array in online.items():
        np.testing.assert_array_equal(target[name], array)
        assert not np.shares_memory(target[name], array)
    z1, z2, target1, target2 = method.embed(first_views(method, rgb))
    np.testing.assert_array_equal(target1.data, z1.data)
    np.testing.assert_array_equal(target2.data, z2.data)


def test_only_the_online_side_has_a_predictor_and_hidden_units_are_normalised(rgb: np.ndarray) -> None:
    method = make(BYOL, rgb)
    for head, sizes in ((method.projector, (32, 32, 16)), (method.predictor, (16, 32, 16))):
        kinds = [type(layer) for layer in head]
        assert kinds == [nn.Linear, nn.BatchNorm, nn.Linear]
        assert [p.shape for p in head.parameters() if p.ndim == 2] == [sizes[:2], sizes[1:]]
    z1, z2, target1, target2 = rows(4)
    p1, p2 = np.split(method.predictor(Tensor(np.concatenate([z1.data, z2.data]))).data, 2)
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    terms = [((unit(p) - unit(t.data)) ** 2).sum(axis=1) for p, t in ((p1, target2), (p2, target1))]
    assert method.compare(z1, z2, target1, target2).item() == pytest.approx(np.mean(sum(terms)), rel=1e-5)


def test_no_gradient_reaches_the_target(rgb: np.ndarray) -> None:
    method = make(BYOL, rgb)
    method.gradients(first_views(method, rgb))
    learning = [*method.encoder.parameters(), *method.projector.parameters(), *method.predictor.parameters()]
    assert all(np.abs(parameter.grad).max() > 0 for parameter in learning)
    assert all(parameter.grad is None for parameter in method.target.parameters())
    z1, z2, target1, target2 = rows(4)
    method.compare(z1, z2, target1, target2).backward()
    assert z1.grad is not None and z2.grad is not None
    assert target1.grad is None and target2.grad is None


def test_the_target_follows_after_the_step(rgb: np.ndarray) -> None:
    method = make(BYOL, rgb, momentum=0.75)
    optimizer, views = make_optimizer(method, method.config), first_views(method, rgb)
    method.training_step(views, optimizer)
    before = copied(method.target.module)
    method.training_step(views, optimizer)
    online, target = method.online.state_dict(), method.target.module
    learned = {name for name, _ in target.named_parameters()}
    moved = 0.0
    for name, array in target.state_dict().items():
        if name in learned:
            np.testing.assert_allclose(array, 0.75 * before[name] + 0.25 * online[name], atol=1e-6, err_msg=name)
            moved += np.abs(online[name] - before[name]).max()
        else:  # averages of batch norm are the online network's
            np.testing.assert_array_equal(array, online[name], err_msg=name)
    assert moved > 0.01


def test_momentum_rises_from_its_first_value_to_1(rgb: np.ndarray) -> None:
    method = make(BYOL, rgb, momentum=0.996, epochs=10)
    found = []
    for epoch in range(11):
        method.start_epoch(epoch)
        found.append(method.target.momentum)
    assert found[0] == 0.996 and found[10] == 1.0 and found[5] == pytest.approx(0.998)
    assert (np.diff(found) > 0).all() and np.argmax(np.diff(found)) in (4, 5)


def test_without_stop_gradient_the_loss_is_the_same_and_both_sides_learn(rgb: np.ndarray) -> None:
    stopped, free = make(BYOL, rgb), make(BYOL, rgb, stop_gradient=False)
    views = first_views(free, rgb)
    assert free.loss(views).item() == pytest.approx(stopped.loss(views).item(), rel=1e-5)
    z1, z2, target1, target2 = rows(4)
    free.compare(z1, z2, target1, target2).backward()
    assert all(z.grad is not None and np.abs(z.grad).max() > 1e-3 for z in (z1, z2, target1, target2))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_collapses_without_predictor_and_without_stop_gradient(seed: int, rgb: np.ndarray) -> None:
    """15 steps each; 1 is spread evenly, 0 is one point. The loss of what collapsed is the better one."""
    std, loss = {}, {}
    for missing in ("", "predictor", "stop_gradient"):
        method = make(BYOL, rgb[:N], seed, **({missing: False} if missing else {}))
        optimizer = make_optimizer(method, method.config)
        for step in range(15):
            views = method.views({"images": rgb[:N]}, random.seed(seed, step))
            logged = method.training_step(views, optimizer)
        std[missing], loss[missing] = logged["std"], logged["loss"]
    assert std[""] > 0.4 and max(std["predictor"], std["stop_gradient"]) < 0.15, std
    assert max(loss["predictor"], loss["stop_gradient"]) < 0.1 < loss[""], loss


# -- SwAV -------------------------------------------------------------------------------------------------------------


def scores_of(method: SwAV, z: list[Tensor]) -> list[np.ndarray]:
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    return [unit(each.data) @ method.prototypes.rows.data.T for each in z]


def soft_cross_entropy(logits: np.ndarray, q: np.ndarray) -> float:
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return float(-(q * log_p).sum(axis=1).mean())


def fill(queue: nn.Queue, seed: int = 5) -> None:
    queue.enqueue(np.random.default_rng(seed).normal(size=queue.rows.shape).astype("float32"))


def test_two_large_crops_are_the_swapped_prediction(rgb: np.ndarray) -> None:
    method, z = make(SwAV, rgb), rows(2)
    expected = losses.swapped_prediction(*scores_of(method, z))
    assert method.compare(*z).item() == pytest.approx(expected.item(), rel=1e-5)


def test_every_crop_predicts_the_codes_of_the_large_ones_and_none_its_own(rgb: np.ndarray) -> None:
    method, z = make(SwAV, rgb), rows(4)
    s = scores_of(method, z)
    q = [losses.sinkhorn(large).data for large in s[:2]]
    pairs = [(i, v) for i in (0, 1) for v in range(4) if v != i]
    expected = np.mean([soft_cross_entropy(s[v] / 0.1, q[i]) for i, v in pairs])
    assert len(pairs) == 6 and method.compare(*z).item() == pytest.approx(expected, rel=1e-5)


def test_no_gradient_goes_through_codes(rgb: np.ndarray) -> None:
    """The gradient is that of the cross entropy with the codes as given numbers."""
    method, z, again = make(SwAV, rgb), rows(3), rows(3)
    method.compare(*z).backward()
    found = method.prototypes.rows.grad
    method.zero_grad()
    q = [losses.sinkhorn(s).data for s in scores_of(method, z)]
    scores = [method.prototypes(each) / 0.1 for each in again]
    terms = [losses.cross_entropy(scores[v], q[i]) for i, v in ((0, 1), (0, 2), (1, 0), (1, 2))]
    (sum(terms[1:], terms[0]) / 4).backward()
    np.testing.assert_allclose(found, method.prototypes.rows.grad, atol=1e-6)
    for mine, expected in zip(z, again, strict=True):
        np.testing.assert_allclose(mine.grad, expected.grad, atol=1e-6)  # type: ignore[arg-type]


def test_codes_are_shares_and_the_queue_counts_only_when_full(rgb: np.ndarray) -> None:
    method = make(SwAV, rgb, queue=3 * N, queue_waits=5)
    method.start_epoch(5)
    queue, s = method.queues[0], Tensor(scores_of(method, rows(1, seed=9))[0])
    alone = losses.sinkhorn(s).data
    for filled in range(3):
        assert not queue.full
        np.testing.assert_array_equal(method.codes(s, queue).data, alone)
        queue.enqueue(rows(1, seed=filled)[0])
    assert queue.full
    q = method.codes(s, queue)
    earlier = scores_of(method, [queue.rows])[0]
    np.testing.assert_allclose(q.data, losses.sinkhorn(np.concatenate([earlier, s.data])).data[3 * N :], atol=1e-6)
    assert q.shape == (N, 8) and np.abs(q.data - alone).max() > 0.01
    for codes in (alone, q.data):
        np.testing.assert_allclose(codes.sum(axis=1), 1, atol=1e-5)
    method.start_epoch(4)
    np.testing.assert_array_equal(method.codes(s, queue).data, alone)


def test_each_large_crop_joins_its_own_queue_after_the_step(rgb: np.ndarray) -> None:
    method = make(SwAV, rgb, queue=2 * N)
    method.start_epoch(1)
    views = first_views(method, rgb)
    z = [each.data.copy() for each in method.embed(views)[:2]]
    method.loss(views)
    assert all(int(queue.written.data) == 0 for queue in method.queues)
    fill(method.queues[0])
    old = method.queues[0].rows.data.copy()
    with_old = method.loss(views).item()
    logged = method.training_step(views, make_optimizer(method, method.config))
    assert logged["loss"] == pytest.approx(with_old, rel=1e-5)  # codes of a step know the steps before it only
    for queue, own in zip(method.queues, z, strict=True):
        np.testing.assert_allclose(queue.rows.data[:N], own, atol=1e-5)
    np.testing.assert_array_equal(method.queues[0].rows.data[N:], old[N:])
    assert [queue.full for queue in method.queues] == [True, False]


def test_a_full_queue_changes_only_codes(rgb: np.ndarray) -> None:
    """What is in a queue receives no gradient, and the queue of a crop none of the other's codes."""
    method, z = make(SwAV, rgb), rows(2)
    method.start_epoch(1)
    fill(method.queues[1])
    s = scores_of(method, z)
    q = [losses.sinkhorn(s[0]).data, method.codes(Tensor(s[1]), method.queues[1]).data]
    loss = method.compare(*z)
    expected = (soft_cross_entropy(s[1] / 0.1, q[0]) + soft_cross_entropy(s[0] / 0.1, q[1])) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert all(queue.rows.grad is None for queue in method.queues)


def test_prototypes_stand_still_in_the_first_epochs_and_are_unit_after_every_step(rgb: np.ndarray) -> None:
    method = make(SwAV, rgb, frozen_epochs=2)
    optimizer, views = make_optimizer(method, method.config), first_views(method, rgb)
    head = method.head[0].weight
    for epoch in range(4):
        method.start_epoch(epoch)
        before, learned = method.prototypes.rows.data.copy(), head.data.copy()
        method.training_step(views, optimizer)
        moved = np.abs(method.prototypes.rows.data - before).max()
        assert moved < 1e-6 if epoch < 2 else moved > 1e-3, epoch
        assert np.abs(head.data - learned).max() > 1e-4
        np.testing.assert_allclose(np.linalg.norm(method.prototypes.rows.data, axis=1), 1, atol=1e-6)


def test_crops(rgb: np.ndarray) -> None:
    shapes = [view.shape for view in first_views(make(SwAV, rgb), rgb)]
    assert shapes == [(N, 16, 16, 3)] * 2 + [(N, 8, 8, 3)] * 2
    assert [view.shape for view in first_views(make(SwAV, rgb, multi_crop=False), rgb)] == shapes[:2]


def test_crops_are_cut_once() -> None:
    """Of images whose pixels say where they lie."""
    line = np.linspace(0, 255, 64, dtype=np.uint8)
    images = np.broadcast_to(np.stack(np.meshgrid(line, line), axis=-1), (N, 64, 64, 2))
    off = {"turns": False, "flip": False, "grey": 0.0, "blur": 0.0, "jitter": 0.0}
    method = make(SwAV, images, crop=0.5, small_scale=(0.2, 0.3), **off)
    mean, deviation = method.inputs.mean, method.inputs.deviation
    views = [augment.unstandardize(view, mean, deviation) for view in first_views(method, images)]
    extent = lambda view: np.ptp(view, axis=(1, 2)).prod(axis=-1)  # (N,), part of the area
    assert all((extent(view) > 0.45).all() for view in views[:2])
    assert all((extent(view) > 0.16).all() and (extent(view) < 0.35).all() for view in views[2:])


# -- CMC --------------------------------------------------------------------------------------------------------------

CHANNELS = {
    "lab": [slice(0, 1), slice(1, 3)],
    "spectral": [slice(0, 4), slice(4, 10), slice(10, 13)],  # 443-665, 705-945 and 1375-2190 nm
}


@pytest.mark.parametrize("views", CHANNELS)
@pytest.mark.parametrize("training", [True, False])
def test_no_encoder_sees_another_view(views: str, training: bool, rgb: np.ndarray, s2: np.ndarray) -> None:
    method = make(CMC, rgb if views == "lab" else s2, views=views).train(training)
    method.encoder.space = nn.Identity()
    x = np.random.default_rng(0).normal(size=(4, 16, 16, method.inputs.channels)).astype("float32")
    V = len(CHANNELS[views])
    assert method.encoder.out_features == V * 8 * (4 // V)
    for v, own in enumerate(CHANNELS[views]):
        s = Tensor(x, requires_grad=True)
        (method.encoder(s).reshape(4, V, -1)[:, v] ** 2).sum().backward()
        seen = np.abs(s.grad).max(axis=(0, 1, 2)) > 0  # type: ignore[arg-type]
        assert seen.nonzero()[0].tolist() == list(range(own.start, own.stop))
        other = x.copy()
        other[..., own] += 1
        pairs = zip(method.embed((x,)), method.embed((other,)), strict=True)
        changed = [np.abs(z.data - moved.data).max() > 1e-3 for z, moved in pairs]
        assert changed == [u == v for u in range(V)]


def test_the_encoder_gives_the_features_of_all_views_side_by_side(rgb: np.ndarray) -> None:
    method = make(CMC, rgb).eval()
    x = Tensor(method.prepare(rgb[:N]))
    s = method.encoder.space(x)
    each = [encoder(s[..., c]).data for encoder, c in zip(method.encoder.backbones, CHANNELS["lab"], strict=True)]
    np.testing.assert_allclose(method.encoder(x).data, np.concatenate(each, axis=1), atol=1e-6)
    for z, h, head in zip(method.embed((x.data,)), each, method.heads, strict=True):
        np.testing.assert_allclose(z.data, head(Tensor(h)).data, atol=1e-5)


def two_way(u: np.ndarray, v: np.ndarray) -> float:
    """Both directions of the choice among the batch, one row at a time."""
    total = 0.0
    for a, b in ((u, v), (v, u)):
        for i in range(N):
            cosines = [a[i] @ b[j] / np.linalg.norm(a[i]) / np.linalg.norm(b[j]) for j in range(N)]
            total += math.log(sum(math.exp(c / 0.07) for c in cosines)) - cosines[i] / 0.07
    return total / N


@pytest.mark.parametrize("graph", ["full", "core"])
def test_the_graph_says_which_views_are_compared(graph: str, s2: np.ndarray) -> None:
    method, z = make(CMC, s2, views="spectral", graph=graph), rows(3)
    pairs = [(u, v) for u, v in combinations(range(3), 2) if graph == "full" or u == 0]
    expected = sum(two_way(z[u].data, z[v].data) for u, v in pairs)
    assert len(pairs) == {"full": 3, "core": 2}[graph]
    assert method.compare(*z).item() == pytest.approx(expected, rel=1e-4)
    collapsed = method.compare(*[Tensor(np.ones((N, 16), "float32"))] * 3).item()
    assert [collapsed] == pytest.approx(list(method.references.values()), rel=1e-5)


def test_all_views_are_of_one_crop(rgb: np.ndarray, s2: np.ndarray) -> None:
    for views, images in (("lab", rgb), ("spectral", s2)):
        method = make(CMC, images, views=views)
        assert [view.shape for view in first_views(method, images)] == [images[:N].shape]
    method = make(CMC, rgb, crop=1.0, flip=False, turns=False)
    lightness, colour = method.shown(first_views(method, rgb)).values()
    lab = augment.rgb_to_lab(augment.to_float(rgb[:N]))
    np.testing.assert_allclose(augment.rgb_to_lab(lightness)[..., 0], lab[..., 0], atol=0.1)
    np.testing.assert_allclose(augment.rgb_to_lab(lightness)[..., 1:], 0, atol=0.1)
    np.testing.assert_allclose(augment.rgb_to_lab(colour)[..., 1:], lab[..., 1:], atol=0.1)


def test_spectral_scenes_are_opened_and_shown(s2: np.ndarray) -> None:
    config = cmc.Config(views="spectral", scenes=10, image_size=16)
    np.testing.assert_array_equal(CMC.open_data(config)["images"], s2[:10])
    method = make(CMC, s2, views="spectral")
    shown = method.shown(first_views(method, s2))
    assert [title.split(" (")[0] for title in shown] == ["visible", "near infrared", "short-wave infrared"]
    for picture in (*shown.values(), method.picture(s2)):
        assert picture.shape == (N, 16, 16, 3) and 0 <= picture.min() < picture.max() <= 1


@pytest.mark.parametrize(
    ("views", "channels", "width", "message"),
    [
        ("lab", 13, 4, "cmc --views lab: expected RGB images, of 3 channels, got 13 channels; .*--views spectral 13"),
        ("spectral", 3, 4, "cmc --views spectral: expected Sentinel-2's 13 bands, B1 to B12, got 3 .*--views lab"),
        ("lab", 1, 4, "cmc --views lab: expected RGB images, of 3 channels, got 1 channels"),
        ("spectral", 13, 2, "cmc: expected --width of at least 3, a channel for each view, got 2"),
    ],
)
def test_what_has_no_such_views_is_refused_with_a_remedy(views: str, channels: int, width: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(CMC, np.zeros((2, 16, 16, channels), np.uint8), views=views, width=width)


# -- all three --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chapter", SMALL)
def test_an_interrupted_run_ends_with_the_same_bits(chapter: type[Method], rgb: np.ndarray, tmp_path: Path) -> None:
    """Stopped in the middle of the second epoch of three steps each: weights, momentum weights, queues, prototypes."""
    data = DataSet({"images": rgb})
    (tmp_path / "whole").mkdir()
    whole = make(chapter, rgb, epochs=2)
    train(whole, data, whole.config, tmp_path / "whole")

    class Stopped(chapter):  # type: ignore[misc, valid-type]
        def training_step(self, views: tuple[Any, ...], optimizer: Optimizer) -> dict[str, float]:
            if max(optimizer.steps) == 4:
                signal.raise_signal(signal.SIGINT)
            return super().training_step(views, optimizer)

    with pytest.raises(Interrupted):
        train(make(Stopped, rgb, epochs=2), data, whole.config, tmp_path)
    assert checkpoint.load(tmp_path / "checkpoint.safetensors")[1]["progress"]["batch"] == 2
    train(make(chapter, rgb, epochs=2), data, whole.config, tmp_path)
    expected = checkpoint.load(tmp_path / "whole" / "checkpoint.safetensors")[0]
    found = checkpoint.load(tmp_path / "checkpoint.safetensors")[0]
    state = {BYOL: "target.module.1.0.weight", SwAV: "queues.1.rows", CMC: "heads.1.weight"}[chapter]
    assert f"method.{state}" in expected and expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("chapter", SMALL)
def test_a_batch_in_parts_has_the_gradient_of_the_whole(chapter: type[Method], rgb: np.ndarray) -> None:
    """In evaluation mode, where batch norm sees no batch."""
    found = []
    for parts in (1, 4):
        method = make(chapter, rgb, accumulate=parts).eval()
        logged = method.gradients(first_views(method, rgb))
        found.append([np.array(logged["loss"]), *(p.grad for p in method.parameters() if p.grad is not None)])
    assert len(found[0]) == len(found[1]) > 20
    for whole, summed in zip(*found, strict=True):
        np.testing.assert_allclose(summed, whole, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 13])
@pytest.mark.parametrize("chapter", [BYOL, SwAV])
def test_a_step_on_any_number_of_channels(chapter: type[Method], channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (N, 16, 16, channels), np.uint8)
    method = make(chapter, images)
    views = first_views(method, images)
    logged = method.training_step(views, make_optimizer(method, method.config))
    assert 0 < logged["loss"] < 10 and {"std", "cosine"} < logged.keys()
    assert all(shown.shape[-1] == (1 if channels < 3 else 3) for shown in method.shown(views).values())
    assert evaluation.extract(method.encoder, images, method.prepare).shape == (N, 32)


@pytest.mark.parametrize("chapter", [SwAV, CMC])
def test_it_learns(chapter: type[Method], rgb: np.ndarray) -> None:
    """One batch by heart: the loss falls well below what it is when all embeddings are equal."""
    method = make(chapter, rgb, learning_rate=0.02, **({"multi_crop": False} if chapter is SwAV else {}))
    optimizer, views = make_optimizer(method, method.config), first_views(method, rgb)
    for _ in range(25):
        logged = method.training_step(views, optimizer)
    [reference] = method.references.values()
    assert logged["loss"] < 0.8 * reference, (logged, reference)


@pytest.mark.parametrize("chapter", SMALL)
def test_a_step_on_cupy_equals_numpy(chapter: type[Method], cupy: backend.Backend, rgb: np.ndarray) -> None:
    found = []
    for place in ("numpy", "cupy"):
        with backend.use(place):
            method = make(chapter, rgb, learning_rate=1e-3, **({"queue": N} if chapter is SwAV else {}))
            method.start_epoch(1)
            optimizer, views = make_optimizer(method, method.config), first_views(method, rgb)
            found.append([method.training_step(views, optimizer)["loss"] for _ in range(2)])
    assert found[1] == pytest.approx(found[0], rel=1e-3)
