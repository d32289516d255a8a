"""`python -m reference`: its lists, its help, its errors, and what a run leaves."""

import dataclasses
import inspect
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from minissl import backend
from reference import chapters
from reference.__main__ import main
from reference.settings import FREE_ON_RESUME, Settings

ROOT = Path(__file__).parents[2]
TINY = shlex.split("--scenes 60 --image-size 16 --epochs 1 --batch-size 16 --width 4 --embedding 16 --workers 0")
CHAPTERS = [(part, name, line) for part, entries in chapters.chapters().items() for name, line in entries]


def command(*arguments: Any) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "reference", *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A finished run: its folder, and what stood on the screen."""
    folder = tmp_path_factory.mktemp("command") / "run"
    done = command("simclr", *TINY, "--out", folder)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(folder=folder, screen=done.stdout, errors=done.stderr)


# Lists and help


def test_every_chapter_is_listed_under_its_part_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    lines = capsys.readouterr().out.splitlines()
    assert ("contrastive", "simclr") in [(part, name) for part, name, _ in CHAPTERS]
    for part, name, summary in CHAPTERS:
        [place] = [i for i, line in enumerate(lines) if line.split()[:1] == [name]]
        assert lines[place] == f"  {name:24}{summary}" and summary.endswith(".")
        above = [line for line in lines[:place] if line in chapters.PARTS.values()]
        assert above[-1] == chapters.PARTS[part]
    main(["--help"])
    assert capsys.readouterr().out.splitlines() == lines


def meanings(config: type[Settings]) -> dict[str, str]:
    """The comment above each field of a configuration, as its source has it."""
    found = {}
    for owner in reversed(config.__mro__[:-1]):
        found |= {name: text for text, name in re.findall(r"# (.*)\n    (\w+):", inspect.getsource(owner))}
    return found


@pytest.mark.parametrize("chapter", [name for _, name, _ in CHAPTERS])
def test_help_shows_every_setting_with_its_meaning(
    chapter: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as stop:
        main([chapter, "--help"])
    assert stop.value.code == 0
    shown = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    config = chapters.find(chapter).settings
    for field in dataclasses.fields(config):
        meaning = meanings(config).get(field.name, "")
        assert len(meaning) > 10, f"{field.name} has no line that says what it means"
        # Its own flag, perhaps with choices, several values or the opposite flag, and at once its meaning.
        flag = re.escape("--" + field.name.replace("_", "-"))
        assert re.search(rf"{flag}\b[^ ]*( [^ ]+){{0,3}} {re.escape(meaning)}", shown), field.name


def test_data_are_read_as_the_layout_and_its_options_say(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).integers(0, 10_000, (20, 16, 16, 4))
    np.savez(tmp_path / "places.npz", s2=numbers)
    options = json.dumps({"names": {"images": "s2"}, "scale": 10_000})
    config = chapters.find("simclr").settings(data=str(tmp_path / "places.npz"), layout="stack", options=options)
    images = chapters.find("simclr").open_data(config)["images"]
    np.testing.assert_allclose(images, numbers / 10_000, rtol=1e-6)


# Errors

ERRORS = {
    "no such chapter": ("simklr", "there is no chapter 'simklr'; choose one of: .*simclr"),
    "no such name of data": ("simclr --data eurosatt", "'eurosatt' is neither a name nor a path.*'scenes', 'eurosat'"),
    "no such path": ("simclr --data ./no/where", "'no/where' is neither a name nor a path.*a folder of images"),
    "no GPU": ("simclr --backend cupy", "backend 'cupy' cannot run here: .*; install CuPy"),
    "a batch too large": ("simclr {tiny} --batch-size 500 --out {new}", "a batch of 500 .* at most 4."),
    "a temperature of 0": ("simclr {tiny} --temperature 0 --out {new}", "temperature above 0, got 0.0"),
    "an unknown layout": ("simclr --data {new} --layout eurosatt", "layout 'eurosatt' is not known; choose one of"),
    "a run is there": ("simclr {tiny} --out {run}", "--out: .* holds a run already; continue it with --resume"),
    "a contradiction": ("simclr --resume {run} --epochs 9", "as it was, with epochs = 1, not 9; leave the flag out"),
    "a contradicting switch": ("simclr --resume {run} --no-turns", "with turns = True, not False; leave the flag out"),
    "resumed elsewhere": ("simclr --resume {run} --out {new}", "continues in '.*run' itself; leave --out out"),
    "nothing to resume": ("simclr --resume {new}", "expected the folder of an earlier run, with config.json"),
}


@pytest.mark.parametrize(("line", "message"), ERRORS.values(), ids=ERRORS.keys())
def test_mistakes_are_answered_in_one_line_with_the_remedy(
    line: str, message: str, run: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.delitem(backend._made, "cupy", raising=False)
    arguments = line.format(tiny=" ".join(TINY), run=run.folder, new=tmp_path / "new").split()
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert isinstance(stop.value.code, str)  # which Python prints, and exits with 1
    assert re.fullmatch(rf"error: .*{message}.*", stop.value.code), stop.value.code


def test_an_error_exits_with_1_and_without_a_traceback() -> None:
    done = command("simklr")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"error: there is no chapter 'simklr'; .*\n", done.stderr)


OUT_OF_RANGE = ["--image-size 0", "--epochs 0", "--batch-size 0", "--width 0", "--seed -1", "--learning-rate nan"]


@pytest.mark.parametrize("flags", OUT_OF_RANGE)
def test_a_setting_out_of_range_names_its_flag(flags: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["simclr", *flags.split()])
    assert stop.value.code == 2
    assert re.search(rf"{flags.split()[0]}: expected at least [01], got ", capsys.readouterr().err)


@pytest.mark.parametrize(("options", "message"), [("scale=2", "expected JSON"), ("[1]", "expected names and values")])
def test_options_that_are_none_are_refused(options: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["simclr", "--options", options])
    assert stop.value.code == 2
    assert f"--options: {message}, such as" in " ".join(capsys.readouterr().err.split())


def test_a_failed_start_does_not_occupy_its_folder(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="temperature above 0"):
        main(["simclr", *TINY, "--temperature", "0", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="random_resized_crop: scale"):  # and not that it holds a run
        main(["simclr", *TINY, "--crop", "0", "--out", str(tmp_path)])


def test_a_run_of_another_chapter_is_not_resumed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"chapter": "moco", "data": "./no/where"}))
    with pytest.raises(SystemExit, match="holds a run of 'moco', not of 'simclr'"):
        main(["simclr", "--resume", str(tmp_path)])


# What a run leaves


def test_results_have_these_keys(run: SimpleNamespace) -> None:
    results = json.loads((run.folder / "results.json").read_text())
    assert list(results) == (
        ["chapter", "data", "backend", "seed", "epochs", "seconds", "images_per_second", "probes", "measured"]
    )
    assert [results[key] for key in ("chapter", "data", "backend", "seed", "epochs")] == (
        ["simclr", "scenes", "numpy", 0, 1]
    )
    origins = {probe: list(found) for probe, found in results["probes"].items()}
    assert origins == {"linear": ["pretrained", "random", "pixels", "supervised"], "knn": origins["linear"][:3]}
    accuracies = [accuracy for found in results["probes"].values() for accuracy in found.values()]
    assert all(isinstance(accuracy, float) and 0 <= accuracy <= 1 for accuracy in accuracies)
    assert results["seconds"] > 0
    assert 0 < int(re.search(r"augmenting took (\d+)%", run.screen)[1]) < 100  # type: ignore[index]
    assert results["images_per_second"] == pytest.approx(32 / results["seconds"])  # two full batches of 16


def test_the_screen_shows_the_same_numbers(run: SimpleNamespace) -> None:
    for probe, found in json.loads((run.folder / "results.json").read_text())["probes"].items():
        [line] = [line for line in run.screen.splitlines() if line.startswith(probe)]
        assert line.split()[1:] == [f"{100 * accuracy:.1f}" for accuracy in found.values()]


@pytest.mark.parametrize("name", ["curve.png", "examples.png", "embedding.png"])
def test_pictures_open(name: str, run: SimpleNamespace) -> None:
    with Image.open(run.folder / name) as image:
        assert min(np.asarray(image).shape[:2]) > 50
        assert np.asarray(image).std() > 1  # not blank


def test_config_holds_every_setting_that_matters(run: SimpleNamespace) -> None:
    config = json.loads((run.folder / "config.json").read_text())
    fields = {field.name for field in dataclasses.fields(chapters.find("simclr").settings)}
    assert config.keys() == {"chapter"} | (fields - FREE_ON_RESUME)
    default = chapters.find("simclr").settings.temperature
    assert (config["scenes"], config["width"], config["temperature"]) == (60, 4, default)


def test_a_log_gets_one_plain_line_per_epoch(run: SimpleNamespace) -> None:
    [line, supervised] = [line for line in run.screen.splitlines() if line.startswith("epoch ")]
    assert re.fullmatch(r"epoch 1/1  loss \d\.\d{3}  std .*  uniformity \S+  \d+ images/s  00:00 left", line)
    assert f"loss {json.loads((run.folder / 'metrics.jsonl').read_text())['loss']:.3f} " in line
    assert re.fullmatch(r"epoch 1/1  loss .*", supervised)
    assert run.errors == ""


# Data of several kinds


def save_images(folder: Path, count: int) -> None:
    """Noisy images of 16 pixels in two classes of different brightness."""
    rng = np.random.default_rng(0)
    for i in range(count):
        values = rng.integers(0, 128, (16, 16, 3), np.uint8) + np.uint8(127 * (i % 2))
        path = folder / ("dark", "light")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)


def test_a_folder_with_bad_files_and_no_validation_part(tmp_path: Path) -> None:
    save_images(tmp_path / "set" / "train", 80)
    save_images(tmp_path / "set" / "test", 20)
    (tmp_path / "set" / "train" / "dark" / "broken.png").write_bytes(b"no image")
    arguments = ["simclr", *TINY, "--data", tmp_path / "set", "--out", tmp_path / "run"]

    refused = command(*arguments)
    assert refused.returncode == 1
    assert "broken.png" in refused.stderr and "--skip-bad-files" in refused.stderr

    done = command(*arguments, "--skip-bad-files")
    assert done.returncode == 0, done.stderr
    assert "skipped 1 bad files" in done.stderr and "broken.png" in done.stderr
    taken = int(re.search(r"no validation part; took (\d+) of the training images", done.stderr)[1])  # type: ignore[index]
    assert 1 <= taken <= 20
    assert f"{80 - taken} images of (16, 16, 3) to train on, {taken} for validation, 20 to test on" in done.stdout
    assert json.loads((tmp_path / "run" / "results.json").read_text())["probes"]["linear"]["pixels"] == 1


def save_stack(path: Path, **arrays: Any) -> Path:
    """60 noisy images that are not square, with two channels."""
    images = np.random.default_rng(0).integers(0, 256, (60, 16, 20, 2), np.uint8)
    np.savez(path, images=images, **arrays)
    return path


def test_data_without_labels_pretrain_without_probes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = save_stack(tmp_path / "unlabelled.npz")
    main(["simclr", *TINY, "--no-turns", "--data", str(data), "--out", str(tmp_path / "run")])
    screen = capsys.readouterr().out
    assert "No labels, so no probes" in screen and "simclr: 60 images" not in screen  # those of the test part are kept
    assert json.loads((tmp_path / "run" / "results.json").read_text())["probes"] == {}
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1
    assert (tmp_path / "run" / "curve.png").exists() and not (tmp_path / "run" / "embedding.png").exists()


def test_probes_need_no_class_names_no_squares_and_few_images(tmp_path: Path) -> None:
    part = np.repeat([0, 1, 2], [16, 20, 24])
    data = save_stack(tmp_path / "labelled.npz", labels=np.arange(60) % 3, part=part)
    main(["simclr", *TINY, "--no-turns", "--data", str(data), "--out", str(tmp_path / "run")])
    assert "linear" in json.loads((tmp_path / "run" / "results.json").read_text())["probes"]


def test_a_part_that_the_probes_lack_is_named_before_training(tmp_path: Path) -> None:
    data = save_stack(tmp_path / "set.npz", labels=np.arange(60) % 3, part=np.repeat([1, 2], 30))
    with pytest.raises(SystemExit, match="train, validation and test must not be empty"):
        main(["simclr", *TINY, "--data", str(data), "--out", str(tmp_path / "run")])


@pytest.mark.parametrize(
    ("side", "remedy"), [((32, 32), "use --image-size 32"), ((32, 64), "cut the images to squares")]
)
@pytest.mark.parametrize("chapter", ["inpainting", "mae", "attention"])
def test_a_network_of_another_size_is_named_before_training(
    chapter: str, side: tuple[int, int], remedy: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "set.npz", images=np.zeros((60, *side, 3), np.uint8), labels=np.arange(60) % 3)
    with pytest.raises(SystemExit, match=f"squares of --image-size 64, got {side[0]}x{side[1]} pixels; {remedy}"):
        main([chapter, "--data", str(tmp_path / "set.npz"), "--out", str(tmp_path / "run")])


def test_numbers_of_unknown_range_are_refused_with_a_remedy(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=np.ones((60, 16, 16, 1), np.uint16) * np.arange(16, dtype=np.uint16)[:, None])
    with pytest.raises(SystemExit, match=r"^error: .*divide by the largest value"):
        main(["simclr", *TINY, "--data", str(tmp_path / "set.npz"), "--out", str(tmp_path / "run")])


def test_seasons_are_looked_at_as_images_are(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((60, 16, 16, 3), np.float32)
    np.savez(tmp_path / "set.npz", images=images, seasons=10_000 * images[:, None].repeat(3, axis=1))
    with pytest.raises(SystemExit, match=r"^error: floating-point seasons must lie in \[0, 1\], got .* to 1e\+04"):
        main(["seco", *TINY, "--data", str(tmp_path / "set.npz"), "--out", str(tmp_path / "run")])


def test_floats_outside_0_to_1_are_refused_before_they_would_be_clipped(tmp_path: Path) -> None:
    images = np.random.default_rng(0).uniform(-25, 0, (60, 16, 16, 2)).astype("float32")  # decibels, say
    np.savez(tmp_path / "set.npz", images=images)
    with pytest.raises(SystemExit, match=r"^error: floating-point images must lie in \[0, 1\], got -2[45]"):
        main(["simclr", *TINY, "--data", str(tmp_path / "set.npz"), "--out", str(tmp_path / "run")])


def test_a_run_is_not_resumed_on_other_data(tmp_path: Path) -> None:
    data = save_stack(tmp_path / "set.npz")
    main(["simclr", *TINY, "--no-turns", "--data", str(data), "--out", str(tmp_path / "run")])
    np.savez(data, images=np.load(data)["images"] // 2)
    with pytest.raises(SystemExit, match="was trained on other data"):
        main(["simclr", "--resume", str(tmp_path / "run")])
