"""MoCo: who moves when (and BYOL's target), against what a loss is taken, and what must not be given away."""

import math
from typing import Any

import numpy as np
import pytest

from minissl import nn, ops, random
from minissl.optim import WeightAverage
from minissl.tensor import Tensor
from reference.contrastive import moco
from reference.trainer import make_optimizer
from tests.contrastive_chapters import N, changed, embeddings, first_views, make, step, weights
from tests.oracles.vectors import cosine, dot, log_sum_exp

# -- the slow copy, BYOL's too ----------------------------------------------------------------------------------------


def slow_and_fast(method: Any) -> tuple[WeightAverage, nn.Module]:
    """A network that follows, and which."""
    return (method.target, method.online) if hasattr(method, "target") else (method.key, method.query)


@pytest.mark.parametrize("name", ["moco 1", "moco 2", "moco 3", "byol"])
def test_it_starts_equal_and_follows_after_the_step_without_gradient(name: str) -> None:
    method = make(name, momentum=0.75)
    slow, fast = slow_and_fast(method)
    start, learned, optimizer = weights(fast), dict(fast.named_parameters()), make_optimizer(method, method.config)
    assert list(start) == list(weights(slow.module)) and not changed(start, weights(slow.module))
    arrays = zip(slow.module.state_dict().values(), fast.state_dict().values(), strict=True)
    assert not any(np.shares_memory(one, other) for one, other in arrays)
    fixed = {key for key in learned if name == "moco 3" and "patch_embed" in key}
    for number in range(2):
        before = weights(slow.module)
        method.gradients(first_views(method, seed=number))
        assert all(p.grad is None and not p.requires_grad for p in slow.parameters())
        still = {
            key for key, p in method.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())
        }
        assert len(still) == len(fixed) and {key for key, p in learned.items() if p.grad is None} == fixed
        optimizer.step()
        optimizer.zero_grad()
        method.after_step()
        now = weights(fast)
        for key, array in weights(slow.module).items():
            if key in learned:
                expected = 0.75 * before[key] + 0.25 * now[key]
                np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-7, err_msg=key)
            else:  # averages of batch norm are the fast network's
                np.testing.assert_array_equal(array, now[key], err_msg=key)
    assert changed(start, now) >= learned.keys() - fixed


@pytest.mark.parametrize("name", ["moco 1", "moco 2", "moco 3", "byol"])
def test_keys_are_made_by_it_and_queries_are_not(name: str) -> None:
    method = make(name)
    made = []
    for _ in range(2):
        random.seed(2)
        made.append([z.data for z in method.embed(first_views(method))])
        for parameter in slow_and_fast(method)[0].parameters():
            parameter.data = parameter.data + 1
    half = len(made[0]) // 2
    same = [np.array_equal(before, after) for before, after in zip(*made, strict=True)]
    assert same == [True] * half + [False] * half


@pytest.mark.parametrize(("name", "count"), [("moco 2", 2), ("moco 3", 4), ("byol", 4)])
def test_the_loss_gives_no_gradient_to_what_it_made_or_to_a_queue(name: str, count: int) -> None:
    method, z = make(name), embeddings(count)
    method.compare(*z).backward()
    assert all(q.grad is not None for q in z[: count // 2]) and all(k.grad is None for k in z[count // 2 :])
    assert all(buffer.grad is None for _, buffer in method.named_tensors() if isinstance(buffer, nn.Buffer))


@pytest.mark.parametrize("name", ["moco 3", "byol"])
def test_momentum_rises_from_its_first_value_to_1(name: str) -> None:
    method = make(name, momentum=0.996, epochs=10)
    found = []
    for epoch in range(11):
        method.start_epoch(epoch)
        found.append(slow_and_fast(method)[0].momentum)
    assert found[0] == 0.996 and found[10] == 1.0 and found[5] == pytest.approx(0.998)
    assert (np.diff(found) > 0).all() and np.argmax(np.diff(found)) in (4, 5)


# -- the queue --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
def test_the_loss_is_against_the_old_queue_and_then_its_keys_enter(version: int) -> None:
    method = make(f"moco {version}")
    optimizer = make_optimizer(method, method.config)
    for number in range(3):  # 8 keys enter 12 places: the second and third time round the end
        old, place = weights(method.queue)["rows"], 8 * number % 12
        views = first_views(method, seed=number)
        state = weights(method)
        random.seed(number, 1)
        q, k = (z.data for z in method.embed(views))
        method.load_state_dict(state)  # batch norm has averaged
        logged = step(method, optimizer, number)

        losses = []
        for own, key in zip(q, k, strict=True):
            logits = [dot(own, row) / method.config.temperature for row in (key, *old)]
            losses.append(log_sum_exp(logits) - logits[0])
        assert logged["loss"] == pytest.approx(np.mean(losses), rel=1e-4)

        expected = old.copy()
        for i in range(N):
            expected[(place + i) % 12] = k[i]
        np.testing.assert_allclose(weights(method.queue)["rows"], expected, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(q, axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(k, axis=1), 1, rtol=1e-5)


def test_the_first_step_of_a_run_shows_why_all_labels_are_0(capsys: pytest.CaptureFixture[str]) -> None:
    method = make("moco 2")
    optimizer, views, queue = make_optimizer(method, method.config), first_views(method), method.queue.rows.data
    random.seed(1, 1)
    q, k = (z.data for z in method.embed(views))
    expected = [[dot(q[i], key) / 0.2 for key in (k[i], *queue[:5])] for i in range(4)]
    step(method, optimizer)
    shown = capsys.readouterr().out
    assert "8 rows, one per query; 13 columns, one per key" in shown and "Why are all labels 0?" in shown
    numbers = np.array([line.split() for line in shown.splitlines()[2:6]], float)
    np.testing.assert_allclose(numbers, expected, atol=0.0051)

    step(method, optimizer, 2)
    resumed = make("moco 2")
    resumed.load_state_dict(weights(method))
    step(resumed, seed=3)
    assert capsys.readouterr().out == ""


# -- shuffled batch norm ----------------------------------------------------------------------------------------------


class OnlyStatistics(nn.Module):
    """Forgets all of an image but a fingerprint of the mean by which batch norm has centred it: unit rows (N, 128)."""

    def __init__(self) -> None:
        self.norm = nn.BatchNorm(3, epsilon=1e4)  # so large that every deviation is the same
        self.directions = 20 * np.random.default_rng(0).standard_normal((3, 64))

    def forward(self, x: Tensor) -> Tensor:
        y = x.mean(axis=(1, 2))  # (N, 3)
        mean = y.data - 1e2 * self.norm(y).data
        angles = mean @ self.directions  # (N, 64)
        return Tensor(np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype("float32") / 8)


@pytest.mark.parametrize("shuffle", [False, True])
def test_batch_statistics_give_the_key_away_unless_shuffled(shuffle: bool) -> None:
    size, G = 64, 8
    method = make("moco 1", batch_size=size, sub_batches=G, shuffle=shuffle, queue=512, embedding=128)
    method.encoder, method.head = OnlyStatistics(), nn.Identity()
    method.key = WeightAverage(method.query, 0.99)
    rng = random.seed(0)
    found, losses = [], []
    for number in range(16):
        x = rng.standard_normal((size, 1, 1, 3), "float32")
        q, k = method.embed((x, x))
        losses.append(method.compare(q, k).item())
        if number >= 8:  # the queue is full of keys
            positive = (q.data * k.data).sum(axis=1, keepdims=True)
            found.append((positive > q.data @ method.queue.rows.data.T).mean(axis=1))
        method.after_step()
    beaten = np.concatenate(found)  # (8·64,), the share of negatives that the positive beats
    if shuffle:
        assert abs(beaten.mean() - 0.5) < 0.1 and (beaten == 1).mean() < 0.03  # 1 of 513 by chance
        assert np.mean(losses[8:]) > math.log(513)
    else:
        assert (beaten == 1).all() and np.mean(losses[8:]) < 0.1


def test_keys_come_back_in_the_order_of_their_queries() -> None:
    method = make("moco 2")
    x = first_views(method)[1]
    method.key.module = nn.GlobalAveragePool()  # sees each image alone
    seen: list[np.ndarray] = []
    method.key.forward = lambda views: seen.append(views.data) or method.key.module(views)
    for seed in range(5):
        random.seed(seed)
        np.testing.assert_array_equal(method.shuffled_keys(x).data, method.key.module(Tensor(x)).data)
    orders = {tuple(views[:, 0, 0, 0]) for views in seen}
    assert len(orders) == 5 and all(sorted(order) == sorted(x[:, 0, 0, 0]) for order in orders)


def test_only_within_a_step_networks_work_on_sub_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    method = make("moco 2", sub_batches=2)
    sizes: set[int] = set()
    normalize = nn.BatchNorm._normalize
    watched = lambda self, x, world: sizes.add(len(x)) or normalize(self, x, world)
    monkeypatch.setattr(nn.BatchNorm, "_normalize", watched)
    step(method)
    assert sizes == {N // 2}
    assert all(norm.sub_batches == 1 for norm in method.modules() if isinstance(norm, nn.BatchNorm))


# -- versions ---------------------------------------------------------------------------------------------------------


def test_version_3_is_symmetric_and_has_the_factor_2_tau() -> None:
    method = make("moco 3")
    x1, x2 = first_views(method)
    z1, z2, k1, k2 = method.embed((x1, x2))
    predicted = method.predictor(ops.concatenate([z1, z2])).data
    total = 0.0
    for q, k in ((predicted[:N], k2.data), (predicted[N:], k1.data)):
        for i in range(N):
            logits = [cosine(q[i], key) / 0.2 for key in k]
            total += 2 * 0.2 * (log_sum_exp(logits) - logits[i]) / N
    loss = method.loss((x1, x2)).item()
    assert loss == pytest.approx(total, rel=1e-4)
    assert method.loss((x2, x1)).item() == pytest.approx(loss, rel=1e-5)
    assert not hasattr(method, "queue")


def test_the_patch_embedding_of_version_3_stays_and_learns_again_elsewhere() -> None:
    method = make("moco 3")
    before, optimizer = weights(method.encoder), make_optimizer(method, method.config)
    for number in range(3):
        step(method, optimizer, number)
    still = before.keys() - changed(before, weights(method.encoder))
    assert still == {"pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}
    assert all(parameter.requires_grad for parameter in method.encoder.parameters())


def test_versions_have_their_recipes_unless_told_otherwise() -> None:
    first, second, third = (moco.Config(version=version) for version in (1, 2, 3))
    assert (first.temperature, first.blur, first.optimizer) == (0.07, 0.0, "sgd")
    assert (second.temperature, second.blur, second.optimizer) == (0.2, 0.5, "sgd")
    assert (third.temperature, third.blur, third.optimizer, third.learning_rate) == (0.2, 0.5, "adamw", 1e-3)
    told = moco.Config(version=3, optimizer="sgd", weight_decay=0.0, temperature=0.5, blur=0.0)
    assert (told.optimizer, told.weight_decay, told.temperature, told.blur) == ("sgd", 0.0, 0.5, 0.0)
    matrices = {v: [p.ndim for p in make(f"moco {v}").head.parameters()].count(2) for v in (1, 2, 3)}
    assert matrices == {1: 1, 2: 2, 3: 2}


def test_the_rate_of_version_1_falls_in_two_steps() -> None:
    rates: dict[int, list[float]] = {1: [], 2: []}
    for version, seen in rates.items():
        method = make(f"moco {version}", epochs=10)
        method.gradients, method.after_step = lambda views: {}, lambda: None
        optimizer = make_optimizer(method, method.config)
        for epoch in range(10):
            method.start_epoch(epoch)
            optimizer.learning_rate = 0.05  # the trainer's
            method.training_step((), optimizer)
            seen.append(optimizer.learning_rate)
    assert rates[2] == [0.05] * 10
    assert rates[1] == pytest.approx([0.05] + [0.1] * 5 + [0.01] * 2 + [0.001] * 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sub_batches": 3}, "--sub-batches 3: expected parts of at least 2 of 8 images"),
        ({"sub_batches": 8}, "--sub-batches 8: expected parts of at least 2 of 8 images"),
        ({"sub_batches": 4, "accumulate": 2}, "--sub-batches 4: expected parts of at least 2 of 4 images"),
        ({"sub_batches": 1}, "--sub-batches 1: there is nothing to shuffle"),
        ({"version": 3, "patch": 5}, "patches of 5 divide, got 16"),
    ],
)
def test_settings_that_do_not_go_together_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make("moco 2", **settings)
