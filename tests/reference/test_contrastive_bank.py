"""Instance discrimination: a bank of all images, and how much memory it and others need."""

import contextlib
import io
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from minissl import random
from minissl.tensor import Tensor
from reference import memory_table
from reference.contrastive import instance_discrimination
from reference.contrastive.instance_discrimination import InstanceDiscrimination
from reference.method import Inputs
from reference.trainer import make_optimizer
from tests.contrastive_chapters import D, N, make, tiny_data, weights
from tests.oracles.memory import instance_softmax, nce
from tests.oracles.vectors import dot

IMAGES = 2 * N
ROWS = np.random.default_rng(3).permutation(IMAGES)[:N]  # of the data set, in the batch
NCE, EXACT = "instance_discrimination", "instance_discrimination exact"


def views_of(method: Any) -> tuple[Any, ...]:
    return method.views({"images": tiny_data()["images"][ROWS], "index": ROWS}, random.seed(1))


def test_after_a_step_the_rows_of_the_batch_have_moved_halfway_and_no_others() -> None:
    method = make(NCE)
    old, views = weights(method.bank)["rows"], views_of(method)
    v, b, _ = (z.data for z in method.embed(views))
    np.testing.assert_array_equal(b, old[ROWS])
    method.training_step(views, make_optimizer(method, method.config))
    new = old.copy()
    new[ROWS] = (old[ROWS] + v) / np.linalg.norm(old[ROWS] + v, axis=1, keepdims=True)
    np.testing.assert_allclose(weights(method.bank)["rows"], new, atol=1e-5)
    assert len(new) == IMAGES and not {p.shape for p in method.parameters()} & {(IMAGES, D)}


def test_nce_draws_its_noise_from_the_whole_bank() -> None:
    method = make(NCE)
    v, b, rows = method.embed(views_of(method))
    drawn = random.seed(5).integers(IMAGES, size=(N, 5))
    random.seed(5)
    loss = method.compare(v, b, rows).item()
    bank = method.bank.rows.data
    noise = [[dot(v.data[i], bank[j]) for j in drawn[i]] for i in range(N)]
    z = IMAGES * np.mean(np.exp(np.array(noise) / 0.07))
    positive = [dot(v.data[i], bank[ROWS[i]]) for i in range(N)]
    assert float(method.log_z.data) == pytest.approx(math.log(z), rel=1e-5)
    assert loss == pytest.approx(nce(positive, noise, IMAGES, math.log(z), 0.07), rel=1e-4)


def test_exact_is_the_softmax_over_the_bank() -> None:
    method = make(EXACT)
    v, b, rows = method.embed(views_of(method))
    expected = instance_softmax(v.data.tolist(), method.bank.rows.data.tolist(), ROWS.tolist(), 0.07)
    assert method.compare(v, b, rows).item() == pytest.approx(expected, rel=1e-4)


def test_z_is_the_mean_of_the_first_batches_and_then_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_discrimination, "AVERAGED", 3)
    method, rng = make(NCE), np.random.default_rng(0)
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


def test_for_pictures_there_are_two_views_as_test_images_have_no_row() -> None:
    method = make(NCE)
    assert [view.shape for view in views_of(method)] == [(N, 16, 16, 3), (N,)]
    assert list(method.shown(method.views({"images": tiny_data()["images"][:4]}, random.seed(1)))) == ["view 1"]
    views = views_of(method.eval())
    z1, z2 = method.embed(views)
    assert list(method.shown(views)) == ["view 1", "view 2"]
    assert z1.shape == z2.shape == (N, D) and (z1.data != z2.data).any()


def test_the_bank_needs_to_know_how_many_images_there_are() -> None:
    with pytest.raises(ValueError, match=r"expected how many training images there are, Inputs\(images=n\)"):
        InstanceDiscrimination(instance_discrimination.Config(), Inputs(3, [0.0] * 3, [1.0] * 3, ()))


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
