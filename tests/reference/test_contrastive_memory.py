"""MoCo and instance discrimination: who moves when, against what a loss is taken, and what must not be given away."""

import contextlib
import io
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from minissl import augment, backend, checkpoint, nn, ops, random
from minissl.data import DataSet, scenes
from minissl.optim import WeightAverage
from minissl.tensor import Tensor
from reference import memory_table
from reference.contrastive import instance_discrimination, moco
from reference.contrastive.instance_discrimination import InstanceDiscrimination
from reference.contrastive.moco import MoCo
from reference.method import Inputs
from reference.trainer import make_optimizer, train
from tests.oracles.memory import instance_softmax, nce
from tests.oracles.vectors import cosine, dot, log_sum_exp

N, IMAGES, D = 16, 40, 8
SMALL: dict[str, Any] = {"width": 4, "embedding": D, "batch_size": N, "image_size": 16, "epochs": 2, "workers": 0}
TRANSFORMER: dict[str, Any] = {"features": 16, "depth": 2, "heads": 2, "hidden": 16, "patch": 4}
KINDS: dict[str, dict[str, Any]] = {  # of every chapter and version
    "moco 1": {"version": 1, "queue": 24},
    "moco 2": {"version": 2, "queue": 24},
    "moco 3": {"version": 3, **TRANSFORMER},
    "nce": {"noise": 5},
    "exact": {"exact": True},
}
ROWS = np.random.default_rng(3).permutation(IMAGES)[:N]  # of the data set, in the batch


@pytest.fixture(scope="module")
def data() -> DataSet:
    return scenes.generate(IMAGES, 16)


def noise_images(channels: int) -> DataSet:
    return DataSet({"images": np.random.default_rng(0).integers(0, 256, (IMAGES, 16, 16, channels), np.uint8)})


def make(kind: str, data: DataSet, **settings: Any) -> Any:
    random.seed(0)
    chapter = MoCo if kind.startswith("moco") else InstanceDiscrimination
    inputs = Inputs(data.channels, *augment.channel_statistics(data["images"]), data.classes, len(data))
    return chapter(chapter.settings(**SMALL | KINDS[kind] | settings), inputs)


def views_of(method: Any, data: DataSet, seed: int = 1) -> tuple[Any, ...]:
    return method.views({"images": data["images"][ROWS], "index": ROWS}, random.seed(seed))


def step(method: Any, data: DataSet, optimizer: Any, seed: int = 1) -> dict[str, float]:
    views = views_of(method, data, seed)
    random.seed(seed, 1)  # of what the step itself draws
    return method.training_step(views, optimizer)


def weights(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: backend.to_host(array).copy() for name, array in module.state_dict().items()}


def learned(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: parameter.data.copy() for name, parameter in module.named_parameters()}


# -- MoCo: the key encoder and the queue ------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2, 3])
def test_the_key_encoder_starts_equal_and_follows_without_gradient(version: int, data: DataSet) -> None:
    method = make(f"moco {version}", data)
    before, query = learned(method.key.module), learned(method.query)
    assert before.keys() == query.keys()
    for name in query:
        np.testing.assert_array_equal(before[name], query[name], err_msg=name)

    optimizer, views = make_optimizer(method, method.config), views_of(method, data)
    method.gradients(views)
    assert all(p.grad is None and not p.requires_grad for p in method.key.parameters())
    fixed = {f"0.patch_embed.proj.{name}" for name in ("weight", "bias")} if version == 3 else set()
    assert {name for name, p in method.query.named_parameters() if p.grad is None} == fixed

    optimizer.step()
    method.after_step()
    for name, moved in learned(method.query).items():
        assert (moved != query[name]).any() == (name not in fixed), name
        np.testing.assert_allclose(
            method.key.module.state_dict()[name], 0.99 * before[name] + 0.01 * moved, rtol=1e-5, atol=1e-7
        )


@pytest.mark.parametrize("version", [1, 2])
def test_the_loss_is_against_the_old_queue_and_then_its_keys_enter(version: int, data: DataSet) -> None:
    method = make(f"moco {version}", data)
    optimizer = make_optimizer(method, method.config)
    for number in range(3):  # 16 keys enter 24 places: the second and third time round the end
        old, place = weights(method.queue)["rows"], 16 * number % 24
        views = views_of(method, data, number)
        state = weights(method)
        random.seed(number, 1)
        q, k = (backend.to_host(z.data) for z in method.embed(views))
        method.load_state_dict(state)  # batch norm has averaged
        logged = step(method, data, optimizer, number)

        losses = []
        for own, key in zip(q, k, strict=True):
            logits = [dot(own, row) / method.config.temperature for row in (key, *old)]
            losses.append(log_sum_exp(logits) - logits[0])
        assert logged["loss"] == pytest.approx(np.mean(losses), rel=1e-4)

        expected = old.copy()
        for i in range(N):
            expected[(place + i) % 24] = k[i]
        np.testing.assert_allclose(weights(method.queue)["rows"], expected, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(q, axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(k, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("version", [2, 3])
def test_the_loss_gives_keys_and_queue_no_gradient(version: int, data: DataSet) -> None:
    method = make(f"moco {version}", data)
    rng = np.random.default_rng(0)
    z = [Tensor(rng.normal(size=(N, D)).astype("float32"), requires_grad=True) for _ in range(2 if version == 2 else 4)]
    method.compare(*z).backward()
    queries, keys = z[: len(z) // 2], z[len(z) // 2 :]
    assert all(q.grad is not None for q in queries) and all(k.grad is None for k in keys)
    assert all(buffer.grad is None for _, buffer in method.named_tensors() if isinstance(buffer, nn.Buffer))


def test_the_first_step_of_a_run_shows_why_all_labels_are_0(data: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
    method = make("moco 2", data)
    optimizer, views, queue = make_optimizer(method, method.config), views_of(method, data), method.queue.rows.data
    random.seed(1, 1)
    q, k = (z.data for z in method.embed(views))
    expected = [[dot(q[i], key) / 0.2 for key in (k[i], *queue[:5])] for i in range(4)]
    step(method, data, optimizer)
    shown = capsys.readouterr().out
    assert "16 rows, one per query; 25 columns, one per key" in shown and "Why are all labels 0?" in shown
    numbers = np.array([line.split() for line in shown.splitlines()[2:6]], float)
    np.testing.assert_allclose(numbers, expected, atol=0.0051)

    step(method, data, optimizer, 2)
    resumed = make("moco 2", data)
    resumed.load_state_dict(weights(method))
    step(resumed, data, make_optimizer(resumed, resumed.config), 3)
    assert capsys.readouterr().out == ""


# -- MoCo: shuffled batch norm ----------------------------------------------------------------------------------------


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
    pictures = noise_images(3)
    method = make("moco 1", pictures, batch_size=size, sub_batches=G, shuffle=shuffle, queue=512, embedding=128)
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


def test_keys_come_back_in_the_order_of_their_queries(data: DataSet) -> None:
    method = make("moco 2", data)
    x = views_of(method, data)[1]
    method.key.module = nn.GlobalAveragePool()  # sees each image alone
    seen: list[np.ndarray] = []
    method.key.forward = lambda views: seen.append(views.data) or method.key.module(views)
    for seed in range(5):
        random.seed(seed)
        np.testing.assert_array_equal(method.shuffled_keys(x).data, method.key.module(Tensor(x)).data)
    orders = {tuple(views[:, 0, 0, 0]) for views in seen}
    assert len(orders) == 5 and all(sorted(order) == sorted(x[:, 0, 0, 0]) for order in orders)


def test_only_within_a_step_networks_work_on_sub_batches(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    method = make("moco 2", data, sub_batches=4)
    sizes: set[int] = set()
    normalize = nn.BatchNorm._normalize
    monkeypatch.setattr(nn.BatchNorm, "_normalize", lambda self, x: sizes.add(len(x)) or normalize(self, x))
    step(method, data, make_optimizer(method, method.config))
    assert sizes == {N // 4}
    assert all(norm.sub_batches == 1 for norm in method.modules() if isinstance(norm, nn.BatchNorm))


# -- MoCo: versions ---------------------------------------------------------------------------------------------------


def test_version_3_is_symmetric_and_has_the_factor_2_tau(data: DataSet) -> None:
    method = make("moco 3", data)
    x1, x2 = views_of(method, data)
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


def test_the_patch_embedding_of_version_3_stays_and_learns_again_elsewhere(data: DataSet) -> None:
    method = make("moco 3", data)
    before, optimizer = learned(method), make_optimizer(method, method.config)
    for number in range(3):
        step(method, data, optimizer, number)
    after = learned(method)
    still = {name for name in before if (before[name] == after[name]).all() and name.startswith("encoder")}
    assert still == {"encoder.patch_embed.proj.weight", "encoder.patch_embed.proj.bias"}
    assert all(parameter.requires_grad for parameter in method.encoder.parameters())


def test_the_momentum_of_version_3_rises_to_1(data: DataSet) -> None:
    method = make("moco 3", data, epochs=10)
    momenta = []
    for epoch in (0, 5, 10):
        method.start_epoch(epoch)
        momenta.append(method.key.momentum)
    assert momenta == pytest.approx([0.99, 0.995, 1.0])


def test_versions_have_their_recipes_unless_told_otherwise(data: DataSet) -> None:
    first, second, third = (moco.Config(version=version) for version in (1, 2, 3))
    assert (first.temperature, first.blur, first.optimizer) == (0.07, 0.0, "sgd")
    assert (second.temperature, second.blur, second.optimizer) == (0.2, 0.5, "sgd")
    assert (third.temperature, third.blur, third.optimizer, third.learning_rate) == (0.2, 0.5, "adamw", 1e-3)
    told = moco.Config(version=3, optimizer="sgd", weight_decay=0.0, temperature=0.5, blur=0.0)
    assert (told.optimizer, told.weight_decay, told.temperature, told.blur) == ("sgd", 0.0, 0.5, 0.0)
    matrices = {v: [p.ndim for p in make(f"moco {v}", data).head.parameters()].count(2) for v in (1, 2, 3)}
    assert matrices == {1: 1, 2: 2, 3: 2}


def test_the_rate_of_version_1_falls_in_two_steps(data: DataSet) -> None:
    rates: dict[int, list[float]] = {1: [], 2: []}
    for version, seen in rates.items():
        method = make(f"moco {version}", data, epochs=10)
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
        ({"sub_batches": 3}, "--sub-batches 3: expected parts of at least 2 of 16 images"),
        ({"sub_batches": 16}, "--sub-batches 16: expected parts of at least 2 of 16 images"),
        ({"sub_batches": 8, "accumulate": 4}, "--sub-batches 8: expected parts of at least 2 of 4 images"),
        ({"sub_batches": 1}, "--sub-batches 1: there is nothing to shuffle"),
        ({"version": 3, "patch": 5}, "patches of 5 divide, got 16"),
    ],
)
def test_settings_that_do_not_go_together_are_named(settings: dict[str, Any], message: str, data: DataSet) -> None:
    with pytest.raises(ValueError, match=message):
        make("moco 2", data, **settings)


# -- instance discrimination ------------------------------------------------------------------------------------------


def test_after_a_step_the_rows_of_the_batch_have_moved_halfway_and_no_others(data: DataSet) -> None:
    method = make("nce", data)
    old, views = weights(method.bank)["rows"], views_of(method, data)
    v, b, _ = (z.data for z in method.embed(views))
    np.testing.assert_array_equal(b, old[ROWS])
    step(method, data, make_optimizer(method, method.config))
    new = old.copy()
    new[ROWS] = (old[ROWS] + v) / np.linalg.norm(old[ROWS] + v, axis=1, keepdims=True)
    np.testing.assert_allclose(weights(method.bank)["rows"], new, atol=1e-5)
    assert len(new) == IMAGES and not {p.shape for p in method.parameters()} & {(IMAGES, D)}


def test_nce_draws_its_noise_from_the_whole_bank(data: DataSet) -> None:
    method = make("nce", data)
    v, b, rows = method.embed(views_of(method, data))
    drawn = random.seed(5).integers(IMAGES, size=(N, 5))
    random.seed(5)
    loss = method.compare(v, b, rows).item()
    bank = method.bank.rows.data
    noise = [[dot(v.data[i], bank[j]) for j in drawn[i]] for i in range(N)]
    z = IMAGES * np.mean(np.exp(np.array(noise) / 0.07))
    positive = [dot(v.data[i], bank[ROWS[i]]) for i in range(N)]
    assert float(method.log_z.data) == pytest.approx(math.log(z), rel=1e-5)
    assert loss == pytest.approx(nce(positive, noise, IMAGES, math.log(z), 0.07), rel=1e-4)


def test_exact_is_the_softmax_over_the_bank(data: DataSet) -> None:
    method = make("exact", data)
    v, b, rows = method.embed(views_of(method, data))
    expected = instance_softmax(v.data.tolist(), method.bank.rows.data.tolist(), ROWS.tolist(), 0.07)
    assert method.compare(v, b, rows).item() == pytest.approx(expected, rel=1e-4)


def test_z_is_the_mean_of_the_first_batches_and_then_follows(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_discrimination, "AVERAGED", 3)
    method, rng = make("nce", data), np.random.default_rng(0)
    batches = [rng.normal(size=(N, 5)).astype("float32") for _ in range(6)]
    estimates = [IMAGES * np.exp(s.astype("float64")).mean() for s in batches]
    z = 0.0
    for t, (s, now) in enumerate(zip(batches, estimates, strict=True), 1):
        method.estimate_z(s)
        z = np.mean(estimates[:t]) if t <= 3 else z * 2 / 3 + now / 3
        assert float(method.log_z.data) == pytest.approx(math.log(z), rel=1e-5)
    assert method.log_z.dtype == np.float32 and method.log_z.shape == ()
    method.estimate_z(np.full((N, 5), 100.0, np.float32))  # τ = 0.01
    assert float(method.log_z.data) == pytest.approx(100 + math.log(IMAGES / 3), rel=1e-5)


@pytest.mark.parametrize("kind", ["nce", "exact"])
def test_when_all_vectors_are_alike_the_loss_is_the_reference(kind: str, data: DataSet) -> None:
    method = make(kind, data)
    method.bank.rows.data[:] = D**-0.5
    weight, bias = method.head.parameters()
    weight.data, bias.data = weight.data * 0, bias.data * 0 + 3
    loss = method.loss(views_of(method, data)).item()
    assert list(method.references.values()) == pytest.approx([loss], rel=1e-4)


def test_for_pictures_there_are_two_views_as_test_images_have_no_row(data: DataSet) -> None:
    method = make("nce", data)
    assert [view.shape for view in views_of(method, data)] == [(N, 16, 16, 3), (N,)]
    assert list(method.shown(method.views({"images": data["images"][:4]}, random.seed(1)))) == ["view 1"]
    views = views_of(method.eval(), data)
    z1, z2 = method.embed(views)
    assert list(method.shown(views)) == ["view 1", "view 2"]
    assert z1.shape == z2.shape == (N, D) and (z1.data != z2.data).any()


def test_the_bank_needs_to_know_how_many_images_there_are() -> None:
    with pytest.raises(ValueError, match=r"expected how many training images there are, Inputs\(images=n\)"):
        InstanceDiscrimination(instance_discrimination.Config(), Inputs(3, [0.0] * 3, [1.0] * 3, ()))


# -- all --------------------------------------------------------------------------------------------------------------


class Stopped(Exception):
    """The run ends here."""


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_ends_with_the_same_bits(kind: str, data: DataSet, tmp_path: Path) -> None:
    ends = []
    for folder in (tmp_path / "whole", tmp_path / "cut"):
        folder.mkdir()
        method = make(kind, data)
        if folder.name == "cut":

            def stop(epoch: int, out: Path) -> None:
                raise Stopped

            method.end_epoch = stop
            with pytest.raises(Stopped):
                train(method, data, method.config, folder)
            half = checkpoint.load(folder / "checkpoint.safetensors")
            assert half[1]["progress"]["epoch"] == 1
            method = make(kind, data)
            for parameter in method.parameters():
                parameter.data = parameter.data + 1  # all that counts is in the checkpoint
        train(method, data, method.config, folder)
        ends.append(checkpoint.load(folder / "checkpoint.safetensors")[0])
    whole, cut = ends
    assert list(whole) == list(cut)
    assert {name for name in whole if whole[name].tobytes() != cut[name].tobytes()} == set()
    kept = {
        "moco 1": ["key.module.0.conv1.weight", "queue.rows", "queue.written"],
        "moco 3": ["key.module.0.patch_embed.proj.weight", "predictor.0.weight"],
        "nce": ["bank.rows", "log_z", "batches"],
    }
    assert {f"method.{name}" for name in kept.get(kind, [])} <= whole.keys()


@pytest.mark.parametrize(("channels", "accumulate"), [(1, 1), (2, 2), (13, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_on_any_number_of_channels_whole_or_in_parts(kind: str, channels: int, accumulate: int) -> None:
    data = noise_images(channels)
    method = make(kind, data, accumulate=accumulate)
    logged = step(method, data, make_optimizer(method, method.config))
    assert set(logged) == {"loss", "std", "cosine", "alignment", "uniformity"}
    assert all(math.isfinite(value) for value in logged.values())
    if kind in ("moco 1", "moco 2"):
        assert int(method.queue.written.data) == N
    if kind in ("nce", "exact"):
        np.testing.assert_array_equal(method.seen[0], ROWS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_step_lowers_the_loss_of_its_batch(kind: str, data: DataSet) -> None:
    method = make(kind, data, optimizer="sgd", learning_rate=1e-5)
    optimizer, views = make_optimizer(method, method.config), views_of(method, data)
    buffers = [(tensor, tensor.data.copy()) for _, tensor in method.named_tensors() if isinstance(tensor, nn.Buffer)]

    def loss() -> float:
        random.seed(1, 1)
        for tensor, before in buffers:
            tensor.data = before.copy()
        return method.gradients(views)["loss"]

    before = loss()
    optimizer.step()
    assert loss() < before


@pytest.mark.parametrize("kind", ["moco 2", "moco 3", "nce"])
def test_the_same_step_on_both_backends(kind: str, cupy: backend.Backend, data: DataSet) -> None:
    found = []
    for place in ("numpy", "cupy"):
        with backend.use(place):
            method = make(kind, data, learning_rate=1e-5, sub_batches=2) if "moco" in kind else make(kind, data)
            logged = step(method, data, make_optimizer(method, method.config))
            found.append((logged, weights(method)))
    (here, state), (there, state_there) = found
    assert there == pytest.approx(here, rel=1e-3)
    for name, array in state.items():
        np.testing.assert_allclose(state_there[name], array, rtol=1e-3, atol=1e-3, err_msg=name)


# -- the table of memory and time -------------------------------------------------------------------------------------


def test_the_table_has_a_row_for_every_mechanism_and_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def here(line: list[str], **_: Any) -> SimpleNamespace:
        """What a process of its own would print."""
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            memory_table.main(line[line.index("reference.memory_table") + 1 :])
        return SimpleNamespace(stdout=printed.getvalue())

    monkeypatch.setattr(memory_table.subprocess, "run", here)
    sizes = "--negatives 7 15 --width 2 --image-size 16 --batch-size 8 --embedding 4 --images 50 --steps 1"
    memory_table.main(sizes.split())
    rows = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows if row.startswith("| ")]
    assert cells[0] == ["mechanism", "negatives", "batch", "memory, MB", "seconds a step", "seconds per 1,000 images"]
    assert [row[:3] for row in cells[1:]] == [
        *(["end-to-end", "7", "8"], ["memory bank", "7", "8"], ["MoCo's queue", "7", "8"]),
        *(["end-to-end", "15", "16"], ["memory bank", "15", "8"], ["MoCo's queue", "15", "8"]),
    ]
    assert all(float(row[4]) > 0 for row in cells[1:])


@pytest.mark.parametrize("mechanism", memory_table.TITLES)
def test_every_mechanism_has_as_many_negatives_as_asked_for(mechanism: memory_table.Mechanism) -> None:
    table = memory_table.Table(batch_size=8, images=50, width=2, embedding=4)
    method: Any = memory_table.made(table, mechanism, 9)
    if mechanism == "end-to-end":
        same = Tensor(np.ones((method.config.batch_size, 4), np.float32))
        assert method.compare(same, same).item() == pytest.approx(math.log(10))
    else:
        assert {"bank": lambda: method.config.noise, "queue": lambda: len(method.queue.rows)}[mechanism]() == 9
