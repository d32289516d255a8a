"""BYOL and SwAV: what a view has to predict, what is a constant, and what keeps embeddings apart."""

import numpy as np
import pytest

from minissl import augment, losses, nn
from minissl.data import DataSet
from minissl.tensor import Tensor
from reference.contrastive.swav import SwAV
from reference.trainer import make_optimizer
from tests.contrastive_chapters import D, N, embeddings, first_views, make, step
from tests.oracles.non_contrastive import byol

# -- BYOL -------------------------------------------------------------------------------------------------------------


def test_only_the_online_side_has_a_predictor_and_hidden_units_are_normalised() -> None:
    method = make("byol")
    for head, sizes in ((method.projector, (32, 32, D)), (method.predictor, (D, 32, D))):
        kinds = [type(layer) for layer in head]
        assert kinds == [nn.Linear, nn.BatchNorm, nn.Linear]
        assert [p.shape for p in head.parameters() if p.ndim == 2] == [sizes[:2], sizes[1:]]
    z1, z2, target1, target2 = (z.data for z in method.embed(first_views(method)))
    np.testing.assert_array_equal(target1, z1)  # equal networks, and no predictor in either
    np.testing.assert_array_equal(target2, z2)
    z1, z2, target1, target2 = embeddings(4)
    p1, p2 = np.split(method.predictor(Tensor(np.concatenate([z1.data, z2.data]))).data, 2)
    expected = byol(p1.tolist(), target2.data.tolist(), p2.tolist(), target1.data.tolist())
    assert method.compare(z1, z2, target1, target2).item() == pytest.approx(expected, rel=1e-5)


def test_without_stop_gradient_the_loss_is_the_same_and_both_sides_learn() -> None:
    stopped, free = make("byol"), make("byol", stop_gradient=False)
    views = first_views(free)
    assert free.loss(views).item() == pytest.approx(stopped.loss(views).item(), rel=1e-5)
    z1, z2, target1, target2 = embeddings(4)
    free.compare(z1, z2, target1, target2).backward()
    assert all(z.grad is not None and np.abs(z.grad).max() > 1e-3 for z in (z1, z2, target1, target2))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_collapses_without_predictor_and_without_stop_gradient(seed: int) -> None:
    """15 steps each; 1 is spread evenly, 0 is one point. The loss of what collapsed is the better one."""
    std, loss = {}, {}
    for missing in ("", "predictor", "stop_gradient"):
        method = make("byol", seed=seed, **({missing: False} if missing else {}))
        optimizer = make_optimizer(method, method.config)
        for number in range(15):
            logged = step(method, optimizer, 100 * seed + number)
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


def test_two_large_crops_are_the_swapped_prediction() -> None:
    method, z = make("swav"), embeddings(2)
    expected = losses.swapped_prediction(*scores_of(method, z))
    assert method.compare(*z).item() == pytest.approx(expected.item(), rel=1e-5)


def test_every_crop_predicts_the_codes_of_the_large_ones_and_none_its_own() -> None:
    method, z = make("swav"), embeddings(4)
    s = scores_of(method, z)
    q = [losses.sinkhorn(large).data for large in s[:2]]
    pairs = [(i, v) for i in (0, 1) for v in range(4) if v != i]
    expected = np.mean([soft_cross_entropy(s[v] / 0.1, q[i]) for i, v in pairs])
    assert len(pairs) == 6 and method.compare(*z).item() == pytest.approx(expected, rel=1e-5)


def test_no_gradient_goes_through_codes() -> None:
    """The gradient is that of the cross entropy with the codes as given numbers."""
    method, z, again = make("swav"), embeddings(3), embeddings(3)
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


def test_codes_are_shares_and_the_queue_counts_only_when_full() -> None:
    method = make("swav", queue=3 * N, queue_waits=5)
    method.start_epoch(5)
    queue, s = method.queues[0], Tensor(scores_of(method, embeddings(1, seed=9))[0])
    alone = losses.sinkhorn(s).data
    for filled in range(3):
        assert not queue.full
        np.testing.assert_array_equal(method.codes(s, queue).data, alone)
        queue.enqueue(embeddings(1, seed=filled)[0])
    assert queue.full
    q = method.codes(s, queue)
    earlier = scores_of(method, [queue.rows])[0]
    np.testing.assert_allclose(q.data, losses.sinkhorn(np.concatenate([earlier, s.data])).data[3 * N :], atol=1e-6)
    assert q.shape == (N, 8) and np.abs(q.data - alone).max() > 0.01
    for codes in (alone, q.data):
        np.testing.assert_allclose(codes.sum(axis=1), 1, atol=1e-5)
    method.start_epoch(4)
    np.testing.assert_array_equal(method.codes(s, queue).data, alone)


def test_each_large_crop_joins_its_own_queue_after_the_step() -> None:
    method = make("swav", queue=2 * N)
    method.start_epoch(1)
    views = first_views(method)
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


def test_a_full_queue_changes_only_codes() -> None:
    """What is in a queue receives no gradient, and the queue of a crop none of the other's codes."""
    method, z = make("swav"), embeddings(2)
    method.start_epoch(1)
    fill(method.queues[1])
    s = scores_of(method, z)
    q = [losses.sinkhorn(s[0]).data, method.codes(Tensor(s[1]), method.queues[1]).data]
    loss = method.compare(*z)
    expected = (soft_cross_entropy(s[1] / 0.1, q[0]) + soft_cross_entropy(s[0] / 0.1, q[1])) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert all(queue.rows.grad is None for queue in method.queues)


def test_prototypes_stand_still_in_the_first_epochs_and_are_unit_after_every_step() -> None:
    method = make("swav", frozen_epochs=2)
    optimizer, views = make_optimizer(method, method.config), first_views(method)
    head = method.head[0].weight
    for epoch in range(4):
        method.start_epoch(epoch)
        before, learned = method.prototypes.rows.data.copy(), head.data.copy()
        method.training_step(views, optimizer)
        moved = np.abs(method.prototypes.rows.data - before).max()
        assert moved < 1e-6 if epoch < 2 else moved > 1e-3, epoch
        assert np.abs(head.data - learned).max() > 1e-4
        np.testing.assert_allclose(np.linalg.norm(method.prototypes.rows.data, axis=1), 1, atol=1e-6)


def test_crops() -> None:
    shapes = [view.shape for view in first_views(make("swav"))]
    assert shapes == [(N, 16, 16, 3)] * 2 + [(N, 8, 8, 3)] * 2
    assert [view.shape for view in first_views(make("swav", multi_crop=False))] == shapes[:2]


def test_crops_are_cut_once() -> None:
    """Of images whose pixels say where they lie."""
    line = np.linspace(0, 255, 64, dtype=np.uint8)
    images = np.broadcast_to(np.stack(np.meshgrid(line, line), axis=-1), (N, 64, 64, 2))
    off = {"turns": False, "flip": False, "grey": 0.0, "blur": 0.0, "jitter": 0.0}
    data = DataSet({"images": images})
    method = make("swav", data, crop=0.5, small_scale=(0.2, 0.3), **off)
    mean, deviation = method.inputs.mean, method.inputs.deviation
    views = [augment.unstandardize(view, mean, deviation) for view in first_views(method, data)]
    extent = lambda view: np.ptp(view, axis=(1, 2)).prod(axis=-1)  # (N,), part of the area
    assert all((extent(view) > 0.45).all() for view in views[:2])
    assert all((extent(view) > 0.16).all() and (extent(view) < 0.35).all() for view in views[2:])
