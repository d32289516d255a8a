"""Fine-tuning and segmentation: where they start, what stands still, and that they resume to the same bits."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from minissl import augment, backend, checkpoint, data, evaluation, random
from minissl.data import DataSet, scenes
from minissl.tensor import Tensor
from reference import report, segmentation, transfer
from reference.__main__ import main
from reference.contrastive.simclr import Config, SimCLR
from reference.foundations import cnn, denoising
from reference.method import Inputs, Method, build
from reference.segmentation import Segmentation
from reference.supervised import Downstream
from reference.trainer import make_optimizer

CONFIG = Config(
    batch_size=16, epochs=1, width=4, embedding=16, workers=0, labels=(0.1, 1.0), segment=(0.5,), fine_tune_epochs=2
)
Parts = dict[str, DataSet]


@pytest.fixture(scope="module")
def parts() -> Parts:
    made = scenes.generate(80, 16)
    return {part: made.part(part) for part in data.PARTS}


def make(parts: Parts, chapter: Any = SimCLR, config: Any = CONFIG) -> Any:
    """A method whose weights are other than those with which it starts."""
    train = parts["train"]
    inputs = Inputs(train.channels, *augment.channel_statistics(train["images"]), train.classes)
    method = build(chapter, config, inputs)
    rng = np.random.default_rng(1)
    for parameter in method.encoder.parameters():
        parameter.data = parameter.data + 0.1 * rng.standard_normal(parameter.shape, "float32")
    return method


def state(module: Any) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in module.state_dict().items()}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, Any, dict[str, bytes], DataSet]]]:
    """What is trained inside an evaluation: checkpoint's name, method, its state before, and data."""
    seen: list[tuple[str, Any, dict[str, bytes], DataSet]] = []
    train = transfer.train

    def recorded(method: Method, some: DataSet, config: Any, out: Path, name: str) -> Any:
        seen.append((name, method, state(method), some))
        return train(method, some, config, out, name)

    monkeypatch.setattr(transfer, "train", recorded)
    monkeypatch.setattr(segmentation, "train", recorded)
    yield seen


# -- fine-tuning ------------------------------------------------------------------------------------------------------


def test_fine_tuning_starts_from_trained_and_from_random_weights_under_one_classifier(
    parts: Parts, tmp_path: Path, trained: Any
) -> None:
    method = make(parts)
    before = state(method)
    found = transfer.fine_tune(SimCLR, method, parts, CONFIG, tmp_path)
    assert state(method) == before  # it works on copies
    assert {part: list(accuracies) for part, accuracies in found.items()} == (
        {"10%": ["pretrained", "random"], "100%": ["pretrained", "random"]}
    )
    assert all(0 <= value <= 1 for accuracies in found.values() for value in accuracies.values())
    json.dumps(found)

    names, classifiers, starts, some = zip(*trained, strict=True)
    assert names == ("labels_10_pretrained_", "labels_10_random_", "labels_100_pretrained_", "labels_100_random_")
    encoders = {"pretrained": before, "random": state(build(SimCLR, CONFIG, method.inputs))}
    for name, start in zip(names, starts, strict=True):
        expected = encoders[name.split("_")[2]]
        assert all(expected[key] == value for key, value in start.items() if key.startswith("encoder."))
    heads = [{key: value for key, value in start.items() if key.startswith("classifier.")} for start in starts]
    assert heads[0] and heads == [heads[0]] * 4
    test = parts["test"]
    assert found["100%"]["random"] == (classifiers[3].predict(test["images"]) == test["labels"]).mean()
    assert [len(few) for few in some] == [len(parts["train"])] * 4


def test_few_labels_are_repeated_until_an_epoch_is_as_long_as_with_all(parts: Parts) -> None:
    train = parts["train"]
    few = transfer.repeated_fraction(train, 0.1, seed=0)
    rows = evaluation.label_fraction(train["labels"], 0.1, seed=0)
    assert len(few) == len(train) and len(rows) == 10  # one of each class
    assert {image.tobytes() for image in few["images"]} == {image.tobytes() for image in train["images"][rows]}
    counts = np.unique(few["location"], axis=0, return_counts=True)[1]
    assert counts.max() - counts.min() <= 1
    unlabelled = DataSet({"images": train["images"]})
    assert len(np.unique(transfer.repeated_fraction(unlabelled, 0.5, 0)["images"], axis=0)) == round(len(train) / 2)


def expected_frozen(encoder: Any, stage: str) -> set[str]:
    order = ("stem", "layer1", "layer2", "layer3", "layer4")
    lower = order if stage == "all" else order[: order.index(stage) + 1] if stage != "none" else ()
    return {key for key in encoder.state_dict() if (key.split(".")[0] if key.startswith("layer") else "stem") in lower}


@pytest.mark.parametrize("stage", ["none", "stem", "layer2", "all"])
def test_frozen_weights_and_averages_come_out_of_training_as_they_went_in(
    stage: str, parts: Parts, tmp_path: Path, trained: Any
) -> None:
    config = replace(CONFIG, freeze=stage, labels=(1.0,), fine_tune_epochs=1)
    transfer.fine_tune(SimCLR, make(parts), parts, config, tmp_path)
    segmentation.segment(SimCLR, make(parts), parts, config, tmp_path)
    assert len(trained) == 4
    for name, method, before, _ in trained:
        prefix = "encoder." if name.startswith("labels") else "network.backbone."
        still = {prefix + key for key in expected_frozen(make(parts).encoder, stage)}
        changed = {key for key, value in state(method).items() if value != before[key]}
        assert changed == set(before) - still
        assert name.endswith("_" if stage == "none" else f"_frozen_{stage}_")


def test_without_baselines_only_the_trained_encoder_is_fine_tuned(parts: Parts, tmp_path: Path) -> None:
    config = replace(CONFIG, labels=(1.0,), fine_tune_epochs=1, baselines=False)
    assert list(transfer.fine_tune(SimCLR, make(parts), parts, config, tmp_path)["100%"]) == ["pretrained"]
    assert list(segmentation.segment(SimCLR, make(parts), parts, config, tmp_path)["50%"]["mean IoU"]) == ["pretrained"]


def test_an_unknown_stage_and_labels_for_a_supervised_chapter_are_refused_before_training(tmp_path: Path) -> None:
    tiny = ["--scenes", "60", "--image-size", "16", "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit, match=r"--freeze: expected one of none, stem, layer1, .*, all .* got 'layer7'"):
        main(["simclr", *tiny, "--freeze", "layer7"])
    with pytest.raises(SystemExit, match="--labels: this chapter learns from all labels itself"):
        main(["cnn", *tiny, "--labels", "0.1"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flags", ["--labels 0", "--labels 0.5 1.5", "--segment -1"])
def test_parts_outside_0_to_1_name_their_flag(flags: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["simclr", *flags.split()])
    shown = re.sub(r"[\s│]+", " ", capsys.readouterr().err)
    assert f"{flags.split()[0]}: expected parts above 0 and at most 1, got (" in shown


class Stopped(Exception):
    pass


def evaluate(parts: Parts, out: Path) -> dict[str, Any]:
    """Four trainings of two steps each; what they find, and the arrays of their checkpoints."""
    method, config = make(parts), replace(CONFIG, labels=(0.5,))
    found: dict[str, Any] = {
        "fine_tuning": transfer.fine_tune(SimCLR, method, parts, config, out),
        "segmentation": segmentation.segment(SimCLR, method, parts, config, out),
    }
    for file in out.glob("*.safetensors"):
        found[file.name] = {name: array.tobytes() for name, array in checkpoint.load(file)[0].items()}
    return found


@pytest.fixture(scope="module")
def whole(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return evaluate(parts, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("step", [2, 5])
def test_stopped_anywhere_evaluation_goes_on_to_the_same_bits(
    step: int, whole: dict[str, Any], parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [0]
    original = Downstream.training_step

    def dying(self: Any, *arguments: Any) -> Any:
        steps[0] += 1
        if steps[0] == step:
            raise Stopped
        return original(self, *arguments)

    monkeypatch.setattr(Downstream, "training_step", dying)
    with pytest.raises(Stopped):
        evaluate(parts, tmp_path)
    assert evaluate(parts, tmp_path) == whole
    assert len(whole) == 2 + 4
    assert steps[0] == 8 + 1  # what was finished was not done again


# -- segmentation -----------------------------------------------------------------------------------------------------


def test_a_mask_turns_with_its_image(parts: Parts) -> None:
    method = make(parts)
    network = Segmentation(CONFIG, method.inputs, method.encoder, 256, (16, 16, 3))
    masks = np.random.default_rng(0).integers(256, size=(64, 16, 16), dtype=np.uint8)
    images, turned = network.views({"images": masks[..., None].repeat(3, axis=3), "masks": masks}, random.seed(0))
    inputs = method.inputs
    seen = np.rint(255 * augment.unstandardize(images, inputs.mean, inputs.deviation)[..., 0]).astype(int)
    np.testing.assert_array_equal(seen, turned)
    ways = {tuple(a.ravel()) for a in turned[:1]} | {tuple(masks[0].ravel())}
    kept = sum((turned[i] == masks[i]).all() for i in range(64))
    assert 2 <= kept <= 20 and len(ways) <= 2  # one of eight ways each
    np.testing.assert_array_equal(np.sort(turned.reshape(64, -1)), np.sort(masks.reshape(64, -1)))


def test_segmentation_learns_from_both_starts_and_draws_what_it_found(
    parts: Parts, tmp_path: Path, trained: Any
) -> None:
    config = replace(CONFIG, segment=(0.2, 1.0), freeze="layer1")
    found = segmentation.segment(SimCLR, make(parts), parts, config, tmp_path)
    json.dumps(found)
    assert {part: list(figures) for part, figures in found.items()} == (
        {"20%": ["mean IoU", "pixel accuracy"], "100%": ["mean IoU", "pixel accuracy"]}
    )
    test = parts["test"]
    name, network, _, _ = trained[-1]
    predicted = network.predict(test["images"])
    assert name == "masks_100_random_frozen_layer1_" and predicted.shape == test["masks"].shape
    confusion = evaluation.confusion_matrix(test["masks"], predicted, len(scenes.COVERS))
    assert found["100%"]["mean IoU"]["random"] == evaluation.mean_iou(confusion)
    assert found["100%"]["pixel accuracy"]["random"] == (predicted == test["masks"]).mean()
    for part in (20, 100):
        with Image.open(tmp_path / f"segmentation_{part}.png") as picture:
            assert np.asarray(picture).std() > 1


def learn(parts: Parts, steps: int) -> tuple[list[float], np.ndarray]:
    """The losses of some steps on one batch with a frozen stem, and what is then predicted, on the current backend."""
    train, test = parts["train"], parts["test"]
    inputs = Inputs(train.channels, *augment.channel_statistics(train["images"]), train.classes)
    method = build(SimCLR, CONFIG, inputs)
    evaluation.freeze(method.encoder, "stem", method.prepare(backend.to_device(test["images"][:1])))
    config = transfer.recipe(replace(CONFIG, fine_tune_rate=0.01), 32)
    network = Segmentation(config, inputs, method.encoder, len(scenes.COVERS), (16, 16, 3)).train()
    optimizer = make_optimizer(network, config)
    views = network.views({key: array[:16] for key, array in train.arrays.items()}, random.seed(0))
    losses = [network.training_step(views, optimizer)["loss"] for _ in range(steps)]
    return losses, network.predict(test["images"][:8])


def test_its_loss_falls(parts: Parts) -> None:
    losses, _ = learn(parts, 15)
    assert losses[-1] < 0.8 * losses[0]


def test_on_cupy_it_learns_the_same(parts: Parts, cupy: backend.Backend) -> None:
    losses, predicted = learn(parts, 2)
    with backend.use("cupy"):
        losses_there, predicted_there = learn(parts, 2)
    np.testing.assert_allclose(losses_there, losses, rtol=1e-4)
    assert (predicted_there == predicted).mean() > 0.99


def test_without_masks_or_maps_it_says_why_not(parts: Parts, capsys: pytest.CaptureFixture[str]) -> None:
    method = make(parts)
    assert segmentation.cannot_segment(method, parts) is None
    arrays = dict(parts["train"].arrays)
    del arrays["masks"]
    plain = dict.fromkeys(parts, DataSet(arrays, name="plain"))
    assert segmentation.cannot_segment(method, plain) == "data 'plain' have no masks"
    small = dict.fromkeys(parts, DataSet(arrays | {"masks": parts["train"]["masks"][:, ::2, ::2]}))
    assert segmentation.cannot_segment(method, small) == "masks (8, 8) do not fit images (16, 16)"
    rows = make(parts, denoising.Denoising, denoising.Config(side=16, width=8))
    assert "StackedDenoisingAutoencoder, gives no maps" in str(segmentation.cannot_segment(rows, parts))
    with pytest.raises(ValueError, match="segment: data 'plain' have no masks"):
        segmentation.segment(SimCLR, method, plain, CONFIG, Path())


def test_classes_of_pixels_without_names_are_numbers(parts: Parts) -> None:
    assert segmentation.covers(parts) == scenes.COVERS
    other = {
        name: DataSet({"images": part["images"], "masks": part["masks"] % 3 + (name == "test")})
        for name, part in parts.items()
    }
    assert segmentation.covers(other) == ("0", "1", "2", "3")
    for part in other.values():
        part.tags = part.classes = ("forest", "water", "city", "field")
    assert segmentation.covers(other) == ("forest", "water", "city", "field")


# -- in a run ---------------------------------------------------------------------------------------------------------


def test_a_finished_run_is_asked_for_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    tiny = "--scenes 60 --image-size 16 --epochs 1 --batch-size 16 --width 4 --embedding 16 --workers 0"
    main(["simclr", *tiny.split(), "--fine-tune-epochs", "1", "--no-baselines", "--out", str(run)])
    results = json.loads((run / "results.json").read_text())
    assert {name: list(row) for name, row in results["probes"].items()} == (
        {"linear": ["pretrained", "pixels"], "knn": ["pretrained", "pixels"]}
    )
    assert not {"layers", "fine_tuning", "segmentation"} & results.keys()
    weights = (run / "checkpoint.safetensors").stat().st_mtime_ns

    capsys.readouterr()
    more = "--baselines --layer-probes --labels 0.5 --segment 1 --freeze stem"
    main(["simclr", "--resume", str(run), *more.split()])
    assert (run / "checkpoint.safetensors").stat().st_mtime_ns == weights
    results = json.loads((run / "results.json").read_text())
    assert list(results["layers"]) == ["stem", "layer1", "layer2", "layer3", "layer4", "best"]
    assert all(list(row) == ["pretrained", "random", "supervised"] for row in results["layers"].values())
    assert results["fine_tuning"].keys() == {"50%"} and results["segmentation"].keys() == {"100%"}
    assert {"layers.png", "segmentation_100.png"} <= {file.name for file in run.iterdir()}
    screen = capsys.readouterr().out
    for row, values in {
        **results["layers"],
        "50% of labels": results["fine_tuning"]["50%"],
        "100% of masks, mean IoU": results["segmentation"]["100%"]["mean IoU"],
    }.items():
        [line] = [line for line in screen.splitlines() if line.startswith(f"{row} ")]
        assert line.removeprefix(row).split() == [f"{100 * value:.1f}" for value in values.values()]
    config = json.loads((run / "config.json").read_text())  # from which the next --resume goes on
    assert (config["layer_probes"], config["labels"], config["segment"], config["freeze"]) == (
        True,
        [0.5],
        [1.0],
        "stem",
    )
    with pytest.raises(SystemExit, match="as it was, with fine_tune_epochs = 1, not 3"):
        main(["simclr", "--resume", str(run), "--fine-tune-epochs", "3"])


def test_masks_without_labels_are_segmented(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = scenes.generate(60, 16)
    np.savez(tmp_path / "set.npz", images=made["images"], masks=made["masks"] % 3)
    tiny = "--epochs 1 --batch-size 16 --width 4 --embedding 16 --workers 0 --fine-tune-epochs 1 --segment 1"
    main(["simclr", *tiny.split(), "--data", str(tmp_path / "set.npz"), "--out", str(tmp_path / "run")])
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["probes"] == {} and results["segmentation"]["100%"]["mean IoU"].keys() == {"pretrained", "random"}
    assert "No labels, so no probes and no fine-tuning." in capsys.readouterr().out


def test_pixels_without_a_class_are_neither_learned_from_nor_counted(tmp_path: Path, trained: Any) -> None:
    made = scenes.generate(60, 16)
    holes = np.random.default_rng(0).random(made["masks"].shape) < 0.3
    holed = DataSet(made.arrays | {"masks": np.where(holes, 255, made["masks"] % 3).astype(np.uint8)}, name="holes")
    parts = {part: holed.part(part) for part in data.PARTS}
    assert segmentation.covers(parts) == ("0", "1", "2")
    found = segmentation.segment(SimCLR, make(parts), parts, replace(CONFIG, segment=(1.0,)), tmp_path)
    test, network = parts["test"], trained[-1][1]
    right, known = network.predict(test["images"]) == test["masks"], test["masks"] != 255
    assert found["100%"]["pixel accuracy"]["random"] == right[known].mean() > right.mean()

    images, masks = network.views(test.arrays, np.random.default_rng(0))
    known = masks != 255
    logits = network.network(Tensor(images)).data.astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=3, keepdims=True))
    own = np.take_along_axis(log_p, np.where(known, masks, 0)[..., None], axis=3)[..., 0]
    assert network.loss((images, masks)).item() == pytest.approx(-own[known].mean(), rel=1e-4)


def test_a_supervised_chapters_encoder_is_called_trained(parts: Parts, tmp_path: Path) -> None:
    config = cnn.Config(width=4, depth=2, batch_size=16, workers=0, segment=(1.0,), fine_tune_epochs=1)
    found = report.evaluate(cnn.CNN, make(parts, cnn.CNN, config), parts, config, tmp_path)
    assert list(found) == ["probes", "segmentation"]
    assert list(found["segmentation"]["100%"]["mean IoU"]) == ["trained", "random"]
