"""SupCon, SimCLR v2 and the negatives: what labels are for, and where they must not reach."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minissl import evaluation, losses, optim, random
from minissl.tensor import Tensor
from reference import transfer
from reference.contrastive import negatives
from reference.contrastive.simclr_v2 import SimCLRv2, Student
from reference.contrastive.supcon import SupCon
from reference.supervised import Supervised
from reference.trainer import make_optimizer
from tests.contrastive_chapters import (
    N,
    batch_of,
    changed,
    embeddings,
    first_views,
    make,
    tiny_data,
    weights,
    without_pictures,
)
from tests.oracles.softmax import sup_con


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return without_pictures(monkeypatch)


# -- SupCon -----------------------------------------------------------------------------------------------------------


LABELS = np.array([0, 1, 1, 2, 0, 3, 3, 3])  # class 2 occurs once


def test_two_views_give_a_class_that_occurs_once_its_own_twin() -> None:
    method = make("supcon")
    views = method.views(batch_of() | {"labels": LABELS}, random.seed(1))
    z1, z2, labels = method.embed(views)
    loss = method.compare(z1, z2, labels)
    z, y = np.concatenate([z1.data, z2.data]).astype("float64"), np.concatenate([LABELS, LABELS])
    assert loss.item() == pytest.approx(sup_con(z.tolist(), y.tolist(), 0.1, "out"), rel=1e-4)
    without = sup_con(np.delete(z, [3, 11], axis=0).tolist(), np.delete(y, [3, 11]).tolist(), 0.1, "out")
    assert abs(loss.item() - without) > 1e-3  # the twins count
    loss.backward()
    assert all(np.isfinite(parameter.grad).all() for parameter in method.parameters())


def test_with_one_view_a_class_that_occurs_once_is_left_out() -> None:
    [z] = embeddings(1, dtype="float64")
    loss = losses.sup_con(z, LABELS).item()
    assert loss == pytest.approx(sup_con(z.data.tolist(), LABELS.tolist(), 0.1, "out"), rel=1e-9)


def test_a_class_for_every_image_is_simclr() -> None:
    method = make("supcon", temperature=0.3)
    z1, z2 = embeddings(2, dtype="float64")
    found = method.compare(z1, z2, Tensor(np.arange(N, dtype="float32")[:, None])).item()
    assert found == pytest.approx(losses.nt_xent(z1, z2, 0.3).item(), rel=1e-6)


def test_the_chapter_learns_from_labels() -> None:
    assert SupCon.learns_from_labels and not negatives.Negatives.learns_from_labels
    for method in (make("supcon", labels=(0.1,)), make("negatives", labels=(0.1,))):
        with pytest.raises(ValueError, match="--labels: this chapter learns from all labels itself"):
            transfer.check(method, method.config)
    method = make("negatives", negatives="debiased", labels=(0.1,))
    transfer.check(method, method.config)


# -- SimCLR v2 --------------------------------------------------------------------------------------------------------


def test_depth_and_selective_kernels_are_settings() -> None:
    assert make("simclr_v2", depth=50).encoder.out_features == 128
    plain, selective = (make("simclr_v2", selective_kernels=flag) for flag in (False, True))
    assert selective.encoder.parameter_count() > plain.encoder.parameter_count()
    assert not any("SelectiveKernel" in type(module).__name__ for module in plain.modules())


@pytest.mark.parametrize("from_head", [True, False])
def test_fine_tuning_starts_from_the_first_layer_of_the_head(
    from_head: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, method = tiny_data(), make("simclr_v2", labels=(1.0,), from_head=from_head)
    rng = np.random.default_rng(1)
    for parameter in method.parameters():
        parameter.data = parameter.data + 0.1 * rng.standard_normal(parameter.shape, "float32")
    h = evaluation.extract(method.encoder, data["images"], method.prepare)
    y = h @ method.head[0].weight.data / math.sqrt(1 + 1e-5) * method.head[1].weight.data + method.head[1].bias.data
    expected = np.maximum(y, 0) if from_head else h

    started, before = {}, weights(method)

    def untrained(classifier: Supervised, *rest: Any) -> None:
        started[rest[3].split("_")[2]] = evaluation.extract(classifier.encoder, data["images"], method.prepare)

    monkeypatch.setattr(transfer, "train", untrained)
    parts = dict.fromkeys(("train", "validation", "test"), data)
    transfer.fine_tune(SimCLRv2, method, parts, method.config, tmp_path)
    np.testing.assert_allclose(started["pretrained"], expected, rtol=1e-4, atol=1e-5)
    assert np.abs(started["random"] - expected).max() > 0.1
    assert not changed(before, weights(method))


def test_fine_tuning_moves_the_layer_and_can_freeze_what_is_below(tmp_path: Path) -> None:
    data, method = tiny_data(), make("simclr_v2", labels=(1.0,), freeze="layer4")
    parts = dict.fromkeys(("train", "validation", "test"), data)
    _, tuned = next(transfer.fine_tuned(SimCLRv2, method, parts, method.config, tmp_path, 1.0))
    before = weights(method.foundation)
    moved = changed(before, weights(tuned.encoder))
    assert moved == {name for name in before if not name.startswith("encoder.")}
    assert "linear.weight" in moved


def teacher_and_student() -> tuple[Supervised, Student]:
    method = make("simclr_v2")
    teacher = Supervised(method.config, method.inputs, method.foundation, 32)
    encoder = make("supcon", width=8).encoder
    return teacher, Student(method.config, method.inputs, encoder, teacher, 1.0)


def test_the_teacher_learns_nothing_from_its_student() -> None:
    teacher, student = teacher_and_student()
    before = weights(teacher)
    optimizer = make_optimizer(student, student.config)
    student.train()
    views = student.views(batch_of(), random.seed(1))
    student.gradients(views)
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.grad is not None for parameter in student.parameters())
    optimizer.step()
    assert not changed(before, weights(teacher))  # and its batch norm has averaged nothing
    assert not {id(p) for p in teacher.parameters()} & {id(p) for p in student.parameters()}


def test_the_student_learns_the_teachers_answers_and_no_labels() -> None:
    data = tiny_data()
    teacher, student = teacher_and_student()
    images = batch_of()
    [x] = student.views(images, random.seed(1))
    [same] = student.views(images | {"labels": images["labels"][::-1].copy()}, random.seed(1))
    np.testing.assert_array_equal(same, x)
    answers = teacher.eval().classifier(teacher.encoder(Tensor(x)))
    own = student.eval().classifier(student.encoder(Tensor(x)))
    assert student.loss((x,)).item() == pytest.approx(losses.distillation(own, answers).item(), rel=1e-6)
    for parameter in teacher.classifier.parameters():
        parameter.data = parameter.data + 1 + np.arange(10, dtype="float32")
    before = np.mean(student.predict(data["images"]) == 9)
    optimizer = optim.AdamW(student.train().parameters(), 0.01)
    for s in range(6):
        student.training_step(student.views(images, random.seed(s)), optimizer)
    assert np.mean(student.predict(data["images"]) == 9) > before + 0.3


def test_teacher_and_student_are_measured_by_part_of_the_labels(tmp_path: Path, drawn: list[str]) -> None:
    data, method = tiny_data(), make("simclr_v2", labels=(0.5, 1.0), baselines=False, epochs=1).eval()
    parts = dict.fromkeys(("train", "validation", "test"), data)
    tuned = transfer.fine_tune(SimCLRv2, method, parts, method.config, tmp_path)
    written = {file.name: file.stat().st_mtime_ns for file in tmp_path.glob("labels*checkpoint.safetensors")}
    found = method.measure(parts, tmp_path)
    assert list(found) == [f"{who}, {part} of labels" for part in ("50%", "100%") for who in ("teacher", "student")]
    assert [found[f"teacher, {part} of labels"] for part in tuned] == [tuned[part]["pretrained"] for part in tuned]
    for name, time in written.items():  # teachers were read, not trained again
        assert (tmp_path / name).stat().st_mtime_ns == time


# -- negatives --------------------------------------------------------------------------------------------------------


def slow_true(z1: np.ndarray, z2: np.ndarray, y: np.ndarray, tau: float) -> float:
    z, y = np.concatenate([z1, z2]), np.concatenate([y, y])
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    terms = []
    for i in range(len(z)):
        positive = math.exp(z[i] @ z[(i + len(z1)) % len(z)] / tau)
        below = positive + sum(math.exp(z[i] @ z[k] / tau) for k in range(len(z)) if y[k] != y[i])
        terms.append(-math.log(positive / below))
    return float(np.mean(terms))


def test_each_kind_is_its_loss() -> None:
    (z1, z2), tau = embeddings(2, dtype="float64"), 0.3
    labels = Tensor(LABELS.astype("float32")[:, None])
    expected = {
        "biased": losses.nt_xent(z1, z2, tau).item(),
        "debiased": losses.debiased(z1, z2, tau, 0.2).item(),
        "hard": losses.hard_negative(z1, z2, tau, 0.2, 1.5).item(),
        "true": slow_true(z1.data, z2.data, LABELS, tau),
    }
    assert len({round(value, 6) for value in expected.values()}) == 4
    for kind, value in expected.items():
        method = make("negatives", negatives=kind, temperature=tau, tau_plus=0.2, beta=1.5)
        more = (labels,) if kind == "true" else ()
        assert method.compare(z1, z2, *more).item() == pytest.approx(value, rel=1e-6)
        views = first_views(method)
        assert len(views) == 2 + len(more)


def test_true_negatives_of_all_different_classes_are_simclrs() -> None:
    z1, z2 = embeddings(2, dtype="float64")
    found = negatives.true_negatives(z1, z2, np.arange(N), 0.3).item()
    assert found == pytest.approx(losses.nt_xent(z1, z2, 0.3).item(), rel=1e-9)


def test_a_batch_of_one_class_has_no_true_negative() -> None:
    with pytest.raises(ValueError, match=r"all 8 images of a batch have one class.*larger --batch-size"):
        negatives.true_negatives(*embeddings(2), np.zeros(N, int), 0.3)


def test_false_negatives_are_counted_among_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    data, method = tiny_data(), make("negatives", negatives="debiased")
    z = np.random.default_rng(0).normal(size=(len(data), 3))
    monkeypatch.setattr(evaluation, "extract", lambda *_: z)
    monkeypatch.setattr(negatives, "NEAREST", 3)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    right = []
    for i in range(len(data)):
        order = sorted((k for k in range(len(data)) if k != i), key=lambda k: -(unit[i] @ unit[k]))[:3]
        right += [data["labels"][k] == data["labels"][i] for k in order]
    assert negatives.false_share(method, data) == pytest.approx(np.mean(right))


def test_false_negatives_are_measured_before_and_after(tmp_path: Path, drawn: list[str]) -> None:
    data, method = tiny_data(), make("negatives", negatives="debiased").eval()
    found = method.measure({"test": data}, tmp_path)
    y = data["labels"]
    same = [y[i] == y[k] for i in range(len(y)) for k in range(len(y)) if i != k]
    assert found["false negatives among all"] == pytest.approx(np.mean(same))
    untrained, trained = list(found.values())[1:]
    assert untrained == trained  # nothing was trained, and the seed alone decides how a method starts
    for parameter in method.head.parameters():
        parameter.data = parameter.data[::-1].copy()
    moved = list(method.measure({"test": data}, tmp_path).values())[1:]
    assert moved[0] == untrained and moved[1] != trained
