"""CPC and CLIP: who is whose positive, and what must not see what."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minissl import evaluation, nn, optim, random
from minissl.data import DataSet
from minissl.data.scenes import COVERS
from minissl.tensor import Tensor
from reference import captions
from reference.contrastive import clip, cpc, negatives
from reference.contrastive.clip import CLIP
from reference.contrastive.negatives import Negatives
from tests.contrastive_chapters import N, batch_of, first_views, make, step, tiny_data, without_pictures


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return without_pictures(monkeypatch)


# -- CPC --------------------------------------------------------------------------------------------------------------


def test_patches_are_cut_in_reading_order_each_half_over_the_next() -> None:
    images = np.arange(2 * 18 * 18, dtype="float32").reshape(2, 18, 18, 1)  # two pixels too many for a grid of 7
    patches = cpc.cut(images, 7)
    assert patches.shape == (2, 7, 7, 4, 4, 1)
    for i in range(7):
        for j in range(7):
            np.testing.assert_array_equal(patches[:, i, j], images[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4])
    with pytest.raises(ValueError, match=r"--grid 7: expected images of at least 8 pixels a side, got \(7, 7\)"):
        cpc.cut(images[:, :7, :7], 7)


def test_a_context_sees_rows_above_and_no_row_below_and_no_other_image() -> None:
    method = make("cpc")
    grid = np.random.default_rng(0).normal(size=(2, 7, 7, 32)).astype("float32")
    for i in range(7):
        z = Tensor(grid, requires_grad=True)
        c = method.context(z)[0, i]  # (7, D)
        (c * np.random.default_rng(1).normal(size=c.shape).astype("float32")).sum().backward()
        assert z.grad is not None
        seen = np.abs(z.grad).max(axis=(2, 3))  # (images, rows)
        assert (seen[0, : i + 1] > 0).all()
        assert (seen[0, i + 1 :] == 0).all()
        assert (seen[1] == 0).all()


def test_a_patch_changes_no_prediction_made_above_it_or_in_another_image() -> None:
    method = make("cpc")
    [patches] = first_views(method)

    def predictions(patches: np.ndarray) -> list[np.ndarray]:
        return [p.data.reshape(N, -1, 7, 32) for p in method.by_step(method.embed((patches,))[1])]

    before = predictions(patches)
    patches = patches.copy()
    patches[3, 4, 2] += 1  # a patch of row 4, of image 3
    for k, old, new in zip(method.steps, before, predictions(patches), strict=True):
        changed = np.abs(new - old).max(axis=(2, 3)) > 0  # (N, contexts' rows)
        assert changed.shape == (N, 7 - k)
        assert changed[3, 4:].all() and not changed[3, :4].any()
        assert not np.delete(changed, 3, axis=0).any()


def test_there_is_no_batch_norm_anywhere() -> None:
    data, method = tiny_data(), make("cpc")
    assert not any(isinstance(module, nn.BatchNorm) for module in method.modules())
    x = Tensor(method.prepare(data["images"]))
    together = method.encoder(x).data
    np.testing.assert_allclose(method.encoder(x[:1]).data, together[:1], rtol=1e-4, atol=1e-5)
    assert (method.encoder.features(x, "stem").data >= 0).all()


def test_each_prediction_is_to_find_the_patch_k_rows_below_in_its_column() -> None:
    method = make("cpc", first=1, last=3)
    method.context = nn.Identity()
    for W in method.W:
        W.weight.data = np.eye(32, dtype="float32")
    found, predicted = method.embed(first_views(method))
    shaped = lambda pairs: [z.data.reshape(N, -1, 7, 32) for z in method.by_step(pairs)]
    z = np.concatenate([shaped(predicted)[0][:, :1], shaped(found)[0]], axis=1)  # row 0, then all below it
    for k, p, below in zip((1, 2, 3), shaped(predicted), shaped(found), strict=True):
        np.testing.assert_array_equal(p, z[:, : 7 - k])
        np.testing.assert_array_equal(below, z[:, k:])

    expected = []  # W and the context are the identity, so that the prediction from a patch is its own vector
    for k in (1, 2, 3):
        candidates = [z[n, i + k, j] for n in range(N) for i in range(7 - k) for j in range(7)]
        queries = [z[n, i, j] for n in range(N) for i in range(7 - k) for j in range(7)]
        logits = np.stack(queries).astype("float64") @ np.stack(candidates).T / 32**0.5
        expected.append(-np.mean(np.diag(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))))
    assert method.compare(found, predicted).item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_patches_are_coloured_by_themselves() -> None:
    """On one plain image all patches are alike, but for what was done to each."""
    method = make("cpc", blur=0.0, grey=0.0)
    [patches] = method.views({"images": np.full((1, 16, 16, 3), 128, np.uint8)}, random.seed(1))
    assert len(np.unique(patches.mean(axis=(3, 4, 5)).round(5))) > 30  # jitter leaves every fifth alone


def test_a_prediction_is_right_where_it_is_nearest_to_its_patch(tmp_path: Path, drawn: list[str]) -> None:
    data, method = tiny_data(), make("cpc")
    found = np.random.default_rng(0).normal(size=(N, 14 * 7, 32))  # 5 + 4 + 3 + 2 rows to predict
    found /= np.linalg.norm(found, axis=2, keepdims=True)
    predicted = found.copy()
    predicted[0] = predicted[1]  # another image's patches are predicted of image 0
    method.embed = lambda _: (Tensor(found.reshape(N, -1)), Tensor(predicted.reshape(N, -1)))
    assert method.measure({"test": data}, tmp_path) == (
        {f"patch {k} rows below, found among {N * (7 - k) * 7}": (N - 1) / N for k in method.steps}
    )
    assert drawn == ["similarities", "neighbours", "maps"]


@pytest.mark.parametrize("wrong", [{"first": 3, "last": 2}, {"last": 7}, {"grid": 4}])
def test_rows_that_are_not_there_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"--first \d, --last \d: expected the first row to predict, then the last"):
        cpc.Config(**wrong)


def test_cpc_learns_what_runs_down_an_image() -> None:
    """Every column of an image has its own shade from top to bottom."""
    shades = np.random.default_rng(0).integers(0, 256, (N, 1, 8, 1), np.uint8)
    striped = DataSet({"images": np.broadcast_to(shades.repeat(2, axis=2), (N, 16, 16, 1)).copy()})
    method = make("cpc", striped, crop=1.0, flip=False, turns=False, jitter=0.0, grey=0.0, blur=0.0)
    optimizer = optim.Adam(method.parameters(), 3e-3)
    logged = [step(method, optimizer, seed, striped) for seed in range(15)]
    assert logged[-1]["loss"] < logged[0]["loss"] - 0.5


# -- CLIP -------------------------------------------------------------------------------------------------------------


def paired(method: CLIP, sign: float) -> None:
    """Make the towers give embeddings that agree (1), or are opposite (-1), whatever they are shown."""
    e = np.random.default_rng(0).normal(size=(N, 8)).astype("float32")
    method.embed = lambda views: (Tensor(e), Tensor(sign * e))  # type: ignore[method-assign]


def test_the_scale_ends_at_100_and_comes_back() -> None:
    method = make("clip")
    optimizer = optim.SGD([method.log_scale], 10.0, momentum=0.0)
    views = first_views(method)
    paired(method, 1)
    scales = []
    for _ in range(60):
        scales.append(method.training_step(views, optimizer)["scale"])
        assert method.log_scale.item() <= math.log(100) + 1e-6
    assert scales[0] == pytest.approx(1 / 0.07, rel=1e-5) and scales[1] > scales[0]
    paired(method, -1)
    method.log_scale.data += 3  # as a step of any size could
    beyond = method.compare(*method.embed(views)).item()
    method.after_step()
    assert math.exp(method.log_scale.item()) == pytest.approx(100, rel=1e-5)
    assert beyond == pytest.approx(method.compare(*method.embed(views)).item(), rel=1e-5)
    method.training_step(views, optim.SGD([method.log_scale], 1e-3, momentum=0.0))
    assert math.exp(method.log_scale.item()) < 100


@pytest.mark.parametrize("other", ["caption", "s1"])
def test_both_towers_and_the_scale_learn(other: Any) -> None:
    method = make("clip", other=other)
    method.gradients(first_views(method))
    learned = dict(method.named_parameters())
    assert "log_scale" in learned
    for name, parameter in learned.items():
        assert parameter.grad is not None and (parameter.grad != 0).any(), name


def test_a_caption_tells_what_the_mask_has_in_order() -> None:
    data = tiny_data()
    words = captions.vocabulary("scenes", data.classes)
    named = evaluation.label_fraction(data["labels"], 0.5, 0)
    for i in range(len(data)):
        caption = captions.decode(data["captions"][i], words)
        area = {name: (data["masks"][i] == k).mean() for k, name in enumerate(COVERS)}
        there = sorted((name for name in COVERS if area[name] >= 0.03), key=lambda name: -area[name])
        subject = " and ".join(there)
        if i in named:
            subject = f"{data.classes[data['labels'][i]]} with {subject}"
        assert caption in [text.format(subject) for text in captions.TEMPLATES]
    assert len({captions.decode(caption, words).split()[0] for caption in data["captions"]}) > 1  # templates
    assert (captions.compose(data, "scenes", 0.5, 0) == data["captions"]).all()
    unnamed = [captions.decode(c, words) for c in captions.compose(data, "scenes", 0.0, 0)]
    assert not any(" with " in caption.removeprefix("a place with ") for caption in unnamed)


def test_class_names_of_folders_become_words() -> None:
    assert [captions.plain(name) for name in ("SeaLake", "sea_lake", "annual crops")] == (
        ["sea lake", "sea lake", "annual crops"]
    )
    words = captions.vocabulary("./folder", ("SeaLake",))
    assert {"sea", "lake", "7"} < set(words) and words[0] == ""
    long = captions.encode(" ".join(["sea"] * 30), words)
    assert long.shape == (captions.LENGTH,) and (long > 0).all()


def test_no_word_is_read_as_nothing() -> None:
    data, method = tiny_data(), make("clip")
    caption = data["captions"][:1]
    before = method.read(caption)
    count = int((caption > 0).sum())
    method.other.words.weight.data[0] += np.arange(8)
    method.other.positions.weight.data[:, count:] += np.arange(8) ** 2
    np.testing.assert_allclose(method.read(caption), before, rtol=1e-5, atol=1e-6)
    method.other.positions.weight.data[:, count - 1] += np.arange(8)
    assert np.abs(method.read(caption) - before).max() > 1e-3


def test_zero_shot_takes_the_class_of_the_nearest_caption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: list[str]
) -> None:
    """Images lie where the captions of their classes are; then, those of the next class."""
    data, method = tiny_data(), make("clip").eval()
    K, place = len(data.classes), np.eye(len(data.classes))
    monkeypatch.setattr(method, "caption", lambda subject: place[data.classes.index(subject)])
    monkeypatch.setattr(method, "draw", lambda *_: None)
    for shift, accuracy in ((0, 1.0), (1, 0.0)):
        monkeypatch.setattr(method, "seen", lambda _, shift=shift: place[(data["labels"] + shift) % K])
        assert method.measure({"test": data}, tmp_path) == {f"zero-shot accuracy (guessing: {1 / K:.3g})": accuracy}


def test_the_table_of_captions_is_drawn(tmp_path: Path, drawn: list[str]) -> None:
    make("clip").eval().measure({"test": tiny_data().select(np.arange(4))}, tmp_path)
    assert (tmp_path / "captions.png").is_file() and drawn == ["neighbours", "maps"]


@pytest.mark.parametrize(("decibels", "value"), [(-40, -2), (-25, -2), (-12.5, 0), (0, 2), (10, 2)])
def test_radar_is_clipped_in_decibels(decibels: float, value: float) -> None:
    method = make("clip", other="s1")
    _, radar = method.views(batch_of() | {"sar": np.full((N, 16, 16, 2), decibels)}, random.seed(1))
    np.testing.assert_allclose(radar, value, atol=1e-5)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny_data()
    plain = DataSet({"images": data["images"], "labels": data["labels"]}, data.classes, "plain")
    opened = {"here": plain}
    monkeypatch.setattr("minissl.data.open_data", lambda *_, **__: opened["here"])
    with pytest.raises(ValueError, match=r"data 'plain' have no array 'masks'.*use scenes"):
        CLIP.open_data(clip.Config())
    with pytest.raises(ValueError, match=r"'sar' \(16, 16, 16, 2\), VV and VH in dB.*it is not there.*use scenes"):
        CLIP.open_data(clip.Config(other="s1"))
    opened["here"] = DataSet(plain.arrays | {"sar": data["sar"][..., :1]})
    with pytest.raises(ValueError, match=r"it has shape \(16, 16, 16, 1\)"):
        CLIP.open_data(clip.Config(other="s1"))
    sar = data["sar"].copy()
    sar[0, :2, 0, 0] = np.nan
    opened["here"] = DataSet(plain.arrays | {"sar": sar})
    with pytest.raises(ValueError, match="2 values of 'sar' in data 'data' are NaN"):
        CLIP.open_data(clip.Config(other="s1"))
    opened["here"] = DataSet({"images": data["images"]}, name="plain")
    with pytest.raises(ValueError, match="--negatives true: data 'plain' have no class labels"):
        Negatives.open_data(negatives.Config(negatives="true"))
