"""`python -m reference.embed`: features of images under a run, made in parts, and the nearest images to one."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from minissl import augment, backend, checkpoint, evaluation, viz
from minissl.data import DataSet, open_data
from reference import embed, trainer
from reference.chapters import find
from reference.method import Inputs, Method, build
from reference.settings import save_form

ROOT = Path(__file__).parents[2]
TINY = {"scenes": 60, "image_size": 16, "epochs": 1, "batch_size": 16, "width": 4, "embedding": 16, "workers": 0}
B = 8  # images in a batch: 60 scenes are eight batches, the last one of four
OUT = f"--out features.npz --batch-size {B}"


def started(folder: Path, values: dict[str, Any], chapter: str = "simclr", channels: int = 3) -> Method:
    """What a run leaves in `folder` that was interrupted before its first step, and its method."""
    config = find(chapter).settings(**values)
    inputs = Inputs(channels, [0.4] * channels, [0.2] * channels, ("town", "wood"), 60)
    method = build(find(chapter), config, inputs)
    checkpoint.write_json(folder / "config.json", {"chapter": chapter} | save_form(config))
    optimizer = trainer.make_optimizer(method, config)
    trainer.save(folder / "checkpoint.safetensors", method, optimizer, trainer.Progress(), config)
    return method


@pytest.fixture(scope="module")
def scenes() -> DataSet:
    return open_data("scenes", 16, 0, 60)


@pytest.fixture(scope="module")
def run(scenes: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of SimCLR on the scenes."""
    folder = tmp_path_factory.mktemp("embed") / "run"
    method = started(folder, TINY)
    trainer.train(method, scenes, method.config, folder)
    return folder


@pytest.fixture(scope="module")
def places(scenes: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve of the scenes as files, in the class folders "even" and "odd"."""
    root = tmp_path_factory.mktemp("embed") / "places"
    for i in range(12):
        file = root / ("even", "odd")[i % 2] / f"{i:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scenes["images"][i]).save(file)
    return root


@pytest.fixture(scope="module")
def stack(scenes: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them in one file, and nothing else."""
    file = tmp_path_factory.mktemp("embed") / "stack.npz"
    np.savez(file, images=scenes["images"])
    return file


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def command(line: str) -> None:
    embed.main(line.split())


def result(out: str = "features.npz") -> dict[str, np.ndarray]:
    with np.load(out) as found:
        return dict(found)


def extracted(run: Path, images: np.ndarray, batch: int = B) -> np.ndarray:
    """What `evaluation.extract` gives under the weights of a run."""
    method = trainer.load_run(run)[1]
    return evaluation.extract(method.encoder, images, method.prepare, batch)


def refused(line: str, message: str) -> None:
    """The command ends with one error that has this in it."""
    with pytest.raises(SystemExit) as stop:
        command(line)
    assert str(stop.value.code).startswith("error: ")
    assert re.search(message, str(stop.value.code)), stop.value.code


# What is written


def test_features_are_those_of_extract_beside_all_that_is_known_of_the_images(
    run: Path, scenes: DataSet, capsys: pytest.CaptureFixture[str]
) -> None:
    command(f"--checkpoint {run} --data scenes --out new/features.npz --batch-size {B}")
    assert "simclr: 60 images of 16x16x3\n" in capsys.readouterr().out
    found = result("new/features.npz")
    assert found["features"].dtype == np.float32
    assert found["features"].tobytes() == extracted(run, scenes["images"]).tobytes()
    for key in ("labels", "location", "part"):
        np.testing.assert_array_equal(found[key], scenes[key])
    assert tuple(found["classes"]) == scenes.classes
    assert found["row"].tolist() == list(range(60)) and "path" not in found
    about = json.loads(str(found["about"]))
    assert (about["chapter"], about["data"], about["epoch"]) == ("simclr", "scenes", 1)
    assert about["checkpoint"] == str(run / "checkpoint.safetensors")
    assert {"chapter": "simclr"} | about["config"] == json.loads((run / "config.json").read_text())
    assert os.listdir("new") == ["features.npz"]


def test_files_are_known_by_their_path_and_a_run_by_its_checkpoint(run: Path, places: Path) -> None:
    command(f"--checkpoint {run}/checkpoint.safetensors --data {places} {OUT}")
    images, found = open_data(places, 16), result()
    np.testing.assert_array_equal(found["path"], images["path"])
    assert "row" not in found and found["features"].tobytes() == extracted(run, images["images"]).tobytes()


# Chapters that open more than images to learn, other sizes, or none but their own sequences; and other encoders
CHAPTERS: dict[str, dict[str, Any]] = {
    "autoencoder": {},
    "denoising": {"epochs": 3},
    "mlp": {},
    "lstm": {},
    "vae": {},
    "split_brain": {},
    "mae": {"patch": 8},
    "positives": {"positives": "season"},
    "negatives": {"negatives": "true"},
    "clip": {},
    "seco": {},
}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_chapter_embeds_bare_images(chapter: str, scenes: DataSet, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i in range(3):
        Image.fromarray(scenes["images"][i]).save(tmp_path / "images" / f"{i}.png")
    started(tmp_path / "run", {"data": "images", "image_size": 16} | CHAPTERS[chapter], chapter)
    command("--checkpoint run --data images --out f.npz --search images/1.png")
    features = result("f.npz")["features"]
    assert len(features) == 3 and np.isfinite(features).all() and features.std(axis=0).max() > 1e-4
    assert Path("f_nearest_images_1.png").is_file()


def test_a_stack_is_brought_to_the_size_that_the_run_learned_from(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 24, 30, 3), np.uint8)
    np.savez("stack.npz", images=images)
    command(f"--checkpoint {run} --data stack.npz {OUT}")
    assert "20 images of 24x30x3, resized to 16" in capsys.readouterr().out
    small = augment.resize(augment.to_float(images[:, :, 3:27]), 16).clip(0, 1)
    np.testing.assert_allclose(result()["features"], extracted(run, small), rtol=1e-4, atol=1e-5)


def test_a_run_on_a_stack_takes_stacks_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    images = np.random.default_rng(0).random((20, 24, 30, 2), np.float32)
    np.savez("stack.npz", images=images)
    started(Path("run"), TINY | {"data": "stack.npz"}, channels=2)
    command(f"--checkpoint run --data stack.npz {OUT}")
    assert "20 images of 24x30x2\n" in capsys.readouterr().out
    np.testing.assert_array_equal(result()["features"], extracted(Path("run"), images))


def test_the_runs_own_data_are_read_with_its_options_and_other_data_with_theirs() -> None:
    numbers = np.random.default_rng(0).integers(0, 10_000, (20, 16, 16, 2))
    np.savez("stack.npz", s2=numbers)
    np.savez("other.npz", optical=numbers)
    read = {"names": {"images": "s2"}, "scale": 10_000}
    started(Path("run"), TINY | {"data": "stack.npz", "options": json.dumps(read)}, channels=2)
    command(f"--checkpoint run --data stack.npz {OUT}")
    expected = extracted(Path("run"), (numbers / 10_000).astype(np.float32))
    np.testing.assert_allclose(result()["features"], expected, rtol=1e-4, atol=1e-5)
    options = json.dumps({"names": {"images": "optical"}, "scale": 10_000}).replace(" ", "")
    command(f"--checkpoint run --data other.npz --options {options} --out other_features.npz")
    np.testing.assert_array_equal(result("other_features.npz")["features"], result()["features"])


def test_two_sensors_are_joined_as_in_training(run: Path) -> None:
    rng = np.random.default_rng(0)
    images, sar = rng.random((20, 16, 16, 3), np.float32), rng.uniform(-30, 0, (20, 16, 16, 2)).astype(np.float32)
    np.savez("stack.npz", images=images, sar=sar)
    started(Path("run"), {"data": "stack.npz", "width": 4, "image_size": 16}, "sar_optical", channels=5)
    command(f"--checkpoint run --data stack.npz {OUT}")
    both = np.concatenate([images, (sar.clip(-25, 0) + 25) / 25], axis=3)
    np.testing.assert_array_equal(result()["features"], extracted(Path("run"), both))
    sole = {"data": "stack.npz", "width": 4, "image_size": 16, "sees": "s2"}
    started(Path("sole"), sole, "sar_optical", channels=5)
    np.savez("s2.npz", images=images)  # Sentinel-2 without its partner is enough for its encoder
    command("--checkpoint sole --data stack.npz --out both.npz")
    command("--checkpoint sole --data s2.npz --out sole.npz")
    np.testing.assert_array_equal(result("sole.npz")["features"], result("both.npz")["features"])
    started(Path("radar"), sole | {"sees": "s1"}, "sar_optical", channels=5)
    np.savez("s1.npz", images=sar, bands=["VV", "VH"])
    command("--checkpoint radar --data stack.npz --out both_radar.npz")
    command("--checkpoint radar --data s1.npz --out sole_radar.npz")
    np.testing.assert_array_equal(result("sole_radar.npz")["features"], result("both_radar.npz")["features"])
    command(f"--checkpoint {run} --data stack.npz --out optical.npz")  # and a run on images alone sees them alone
    np.testing.assert_allclose(result("optical.npz")["features"], extracted(run, images), rtol=1e-4, atol=1e-5)


def test_bad_files_are_named_or_left_out(run: Path, places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(places, "places")
    Path("places", "odd", "03.png").write_bytes(b"no image")
    line = f"--checkpoint {run} --data places {OUT}"
    refused(line, r"odd/03.png: not a readable image[^\0]*--skip-bad-files")
    command(f"{line} --skip-bad-files")
    paths = result()["path"].tolist()
    assert len(paths) == 11 and "odd/03.png" not in paths


def test_an_unfinished_run_is_told(capsys: pytest.CaptureFixture[str], places: Path) -> None:
    started(Path("run"), TINY)
    command(f"--checkpoint run --data {places} {OUT}")
    assert "run is not finished: its features are those after epoch 0 of 1." in capsys.readouterr().out


def test_on_a_gpu_features_are_the_same_but_for_rounding(run: Path, places: Path, cupy: backend.Backend) -> None:
    line = f"--checkpoint {run} --data {places} --search odd/03.png"
    command(f"{line} --out features.npz")
    with backend.use("numpy"):  # which puts the backend back afterwards
        command(f"{line} --out gpu.npz --backend cupy")
    np.testing.assert_allclose(result("gpu.npz")["features"], result()["features"], rtol=1e-3, atol=1e-4)


# Interruptions

# Runs the command, and sends itself a signal before a chosen call of a chosen function.
DRIVER = """
import os, shutil, signal, sys
from reference import embed

owner, name, number, sent = sys.argv[1].split()
owner = eval(owner)
original, calls = getattr(owner, name), 0

def counted(*args, **options):
    global calls
    calls += 1
    if calls == int(number):
        os.kill(os.getpid(), getattr(signal, sent))
    return original(*args, **options)

setattr(owner, name, counted)
embed.main(sys.argv[2:])
"""


def interrupt(where: str, line: str) -> subprocess.CompletedProcess[str]:
    """The command, hit by a signal before a call: "owner function call-number SIGNAL"."""
    command = [sys.executable, "-c", DRIVER, where, *line.split()]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)


# Where it is hit, and how many of the 60 images are done then (None: no manifest is there).
KILLS = {
    "before the first batch": ("embed extract 1 SIGKILL", None),
    "in a batch": ("embed extract 4 SIGKILL", 24),
    "between the rows of a batch and the manifest": ("os fsync 11 SIGKILL", 24),
    "before the file is in its place": ("os replace 9 SIGKILL", 60),
    "before the parts are removed": ("shutil rmtree 1 SIGKILL", 60),
    "by Ctrl-C": ("embed extract 6 SIGINT", 40),
}


@pytest.mark.parametrize(("where", "done"), KILLS.values(), ids=KILLS.keys())
def test_an_interrupted_command_goes_on_to_the_same_bits(
    where: str, done: int | None, run: Path, stack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = f"--checkpoint {run} --data {stack} --batch-size {B} --out"
    stopped = interrupt(where, f"{line} features.npz")
    if "SIGINT" in where:
        assert stopped.returncode == 130 and "Traceback" not in stopped.stderr
        assert stopped.stdout.endswith("Interrupted. The same command goes on where it stood.\n")
    else:
        assert stopped.returncode == -signal.SIGKILL, stopped.stderr
    manifest = Path("features.npz.part", "manifest.json")
    assert (json.loads(manifest.read_text())["done"] if manifest.exists() else None) == done

    batches, original = [], evaluation.extract

    def counted(encoder: Any, images: np.ndarray, *more: Any) -> np.ndarray:
        batches.append(len(images))
        return original(encoder, images, *more)

    monkeypatch.setattr(embed, "extract", counted)
    command(f"{line} features.npz")
    assert sum(batches) == 60 - (done or 0)
    command(f"{line} whole.npz")
    found, whole = result(), result("whole.npz")
    assert list(found) == list(whole)
    assert all(found[key].tobytes() == whole[key].tobytes() for key in whole)
    assert sorted(os.listdir()) == ["features.npz", "whole.npz"]


CHANGES = ["another checkpoint", "other images", "other paths or labels", "another --batch-size"]


@pytest.mark.parametrize("change", CHANGES)
def test_parts_of_something_else_are_refused_with_a_remedy(
    change: str, run: Path, stack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run, "run")
    images, labels, size = np.load(stack)["images"], np.arange(60) % 2, B
    np.savez("stack.npz", images=images, labels=labels)
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", lambda *args, **arrays: Path("none", "there").read_text())
        refused(f"--checkpoint run --data stack.npz {OUT}", "No such file")
    if change == "another checkpoint":
        started(Path("run"), TINY)
    elif change == "another --batch-size":
        size = B + 1
    else:
        images, labels = (255 - images, labels) if change == "other images" else (images, labels[::-1])
        np.savez("stack.npz", images=images, labels=labels)
    line = f"--checkpoint run --data stack.npz --out features.npz --batch-size {size}"
    refused(line, rf"features.npz.part was made of {change}; remove it, or name another --out")
    shutil.rmtree("features.npz.part")
    command(line)
    assert result()["features"].tobytes() == extracted(Path("run"), images, size).tobytes()


# What is there already


def test_features_that_fit_are_not_made_again_and_others_are_not_overwritten(
    run: Path, stack: Path, places: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command(f"--checkpoint {run} --data {stack} {OUT}")
    before = Path("features.npz").read_bytes()
    monkeypatch.setattr(embed, "encode", None)
    command(f"--checkpoint {run} --data {stack} --out features.npz")  # another batch size does not matter
    assert "features.npz is there already, and fits.\n" in capsys.readouterr().out
    other = "features.npz was made of other images and other paths or labels; remove"
    refused(f"--checkpoint {run} --data {places} {OUT}", other)
    started(Path("run"), TINY)
    refused(f"--checkpoint run --data {stack} {OUT}", "features.npz was made of another checkpoint; remove")
    assert Path("features.npz").read_bytes() == before


# Search


@pytest.fixture(scope="module")
def embedded(run: Path, places: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the features of the places."""
    out = tmp_path_factory.mktemp("embed") / "features.npz"
    command(f"--checkpoint {run} --data {places} --out {out}")
    return out


def hits(text: str) -> list[tuple[float, str]]:
    """Cosine and name of each image that is printed, and ranks counted."""
    found = re.findall(r"^ +(\d+) +(-?\d\.\d{3})  (\S+)", text, re.MULTILINE)
    assert [int(rank) for rank, _, _ in found] == [1 + i for i in range(len(found))]
    return [(float(cosine), name) for _, cosine, name in found]


@pytest.mark.parametrize("query", ["{places}/odd/07.png", "odd/07.png"], ids=["a file", "a path in the data"])
def test_search_finds_the_image_itself_and_then_what_has_like_features(
    query: str,
    embedded: Path,
    places: Path,
    scenes: DataSet,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(embed, "encode", None)  # nothing is embedded anew
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(viz, "image_grid", lambda rows, path, **titles: drawn.update(rows=rows, path=path, **titles))
    shutil.copy(embedded, "features.npz")
    command(f"--out features.npz --nearest 4 --search {query.format(places=places)}")

    f = result()["features"].astype(np.float64)
    x = (f - f.mean(axis=0)) / np.where(f.std(axis=0) == 0, 1, f.std(axis=0))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    cosine = x @ x[result()["path"].tolist().index("odd/07.png")]
    order = np.argsort(-cosine)[:4]
    screen = capsys.readouterr().out
    printed = hits(screen)
    assert printed[0] == (1.0, "odd/07.png")
    assert [name for _, name in printed] == result()["path"][order].tolist()
    np.testing.assert_allclose([c for c, _ in printed], cosine[order], atol=1e-3)
    assert "1   1.000  odd/07.png  (odd)\n" in screen and "Picture: features_nearest_odd_07.png\n" in screen

    assert drawn["path"] == Path("features_nearest_odd_07.png") and "12 images of places" in drawn["title"]
    numbers = [7, *(int(name[-6:-4]) for _, name in printed)]
    [row] = drawn["rows"]
    for image, number in zip(row, numbers, strict=True):
        np.testing.assert_allclose(image, scenes["images"][number] / 255, atol=1e-6)
    assert drawn["column_titles"][:2] == [
        "query\n" + "odd\n" * (query == "odd/07.png") + "07.png",
        "cosine 1.000\nodd\n07.png",
    ]


def test_a_stack_is_searched_by_row_and_by_several_queries_at_once(
    run: Path, stack: Path, places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(f"--checkpoint {run} --data {stack} {OUT} --nearest 99 --search 17 {places}/even/04.png")
    first, second = capsys.readouterr().out.split("\n\n")[1:]
    assert hits(first)[0] == (1.0, "17") and hits(second)[0] == (1.0, "4")
    assert len(hits(first)) == 60
    command("--out features.npz --search 17")
    assert hits(capsys.readouterr().out) == hits(first)[:6]
    with Image.open("features_nearest_17.png") as image:
        assert image.width > 7 * 96


# Errors

ERRORS = {
    "nothing to do": ("--out f.npz", "expected --checkpoint and --data, to embed, or --search"),
    "data without a run": ("--out f.npz --data scenes", "--checkpoint and --data go together"),
    "no .npz": ("--out f.csv --data scenes --checkpoint {run}", "a name that ends in .npz, got 'f.csv'"),
    "no nearest": ("--out f.npz --search 0 --nearest 0", "--nearest and --batch-size of at least 1"),
}


@pytest.mark.parametrize(("line", "message"), ERRORS.values(), ids=ERRORS.keys())
def test_impossible_requests_are_refused_before_anything(
    line: str, message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        command(line.format(run=run))
    assert stop.value.code == 2
    assert message in re.sub(r"[\s│]+", " ", capsys.readouterr().err)


def test_what_is_no_run_is_refused(run: Path) -> None:
    expected = "expected the folder of a run, with config.json, or its checkpoint.safetensors, got 'none'"
    refused(f"--checkpoint none --data scenes {OUT}", expected)
    Path("bare").mkdir()
    shutil.copy(run / "config.json", "bare")
    line = f"--checkpoint bare --data scenes {OUT}"
    refused(line, "not one epoch is done; continue it with .* simclr --resume bare")
    Path("bare", "checkpoint.safetensors").write_bytes(b"{}")
    refused(line, "truncated or damaged")


def test_images_that_do_not_fit_are_refused(run: Path) -> None:
    line = f"--checkpoint {run} {OUT} --data"
    noise = np.random.default_rng(0).random((8, 16, 16, 3), np.float32)
    np.save("bands.npy", noise[..., :2])
    refused(f"{line} bands.npy", "'bands.npy': the run learned from images with 3 channels, these have 2; give")
    np.save("decibels.npy", -20 * noise)
    refused(f"{line} decibels.npy", r"must lie in \[0, 1\], got -")
    np.save("none.npy", noise[:0])
    refused(f"{line} none.npy", "'none.npy' has no images")
    Path("empty").mkdir()
    refused(f"{line} empty", "empty holds no images")
    started(Path("seasons"), {"data": "pixels.npy", "sequence": "seasons"}, "lstm")
    np.save("images.npy", noise)
    refused(
        f"--checkpoint seasons {OUT} --data images.npy", r"lstm cannot take images of \(32, 32, 3\), as these are: "
    )
    assert not Path("features.npz").exists()


def test_queries_that_cannot_be_read_are_refused(embedded: Path) -> None:
    Path("broken.png").write_bytes(b"no image")
    refused(f"--out {embedded} --search broken.png", "^error: broken.png: not a readable image")
    Image.fromarray(np.zeros((16, 16), np.uint8)).save("grey.png")
    refused(f"--out {embedded} --search grey.png", "'grey.png': the run learned from .* 3 channels, these have 1")
    Path("query.txt").write_text("")
    refused(f"--out {embedded} --search query.txt", "query.txt holds no images")
    unknown = "'gone.png' is neither a file nor an image of .*, such as 'even/00.png'"
    refused(f"--out {embedded} --search gone.png", unknown)


def test_only_features_of_this_command_are_searched_and_of_what_is_still_there(run: Path, stack: Path) -> None:
    line = "--out features.npz --search 3"
    refused(line, "there is no features.npz; make it first, with --checkpoint and --data")
    np.savez("features.npz", features=np.zeros((4, 2)))
    refused(line, "features.npz is not a file that this command wrote")
    Path("features.npz").write_bytes(b"else")
    refused(line, "features.npz is not a file that this command wrote")
    os.remove("features.npz")

    shutil.copytree(run, "run")
    shutil.copy(stack, "stack.npz")
    command(f"--checkpoint run --data stack.npz {OUT}")
    np.savez("stack.npz", images=255 - np.load(stack)["images"])
    refused(line, "stack.npz' have changed since features.npz was made")
    started(Path("run"), TINY)
    refused(line, "checkpoint.safetensors has changed since features.npz was made")
