"""The league: what is done stays done, what failed is named, and the table is the mean over seeds."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reference import league, standings
from reference.chapters import find
from reference.league import PARTS, League
from reference.method import Inputs, build

TINY = ["--only", "autoencoder", "--seeds", "0", "--scenes", "140", "--image-size", "16", "--budget", "0.05"]
TINY += ["--labels", "1.0", "--segment", "1.0", "--fine-tune-epochs", "1", "--jobs", "1"]


def table(asked: League) -> str:
    return standings.table(asked, league.played(asked))


def test_every_entry_is_a_chapter_that_knows_its_settings() -> None:
    for part, entries in PARTS.items():
        for entry in entries:
            settings = league.settings(League(part=part), entry, seed=1)  # type: ignore[arg-type]
            assert find(entry.chapter).settings(**settings).seed == 1
    assert {entry.chapter for entry in PARTS["pretext"]} >= {"rotation", "jigsaw", "mae", "split_brain"}
    assert {entry.chapter for entry in PARTS["contrastive"]} >= {"simclr", "moco", "byol", "swav", "cpc", "clip"}


def test_a_chapter_that_knows_the_labels_is_not_fine_tuned_and_has_its_row(tmp_path: Path) -> None:
    for each in PARTS["contrastive"]:
        chosen = find(each.chapter)
        config = chosen.settings(**league.settings(League(part="contrastive"), each, seed=0))
        knows = build(chosen, config, Inputs(3, [0.5] * 3, [0.5] * 3, ("a", "b"), 10)).learns_from_labels
        assert (config.labels == ()) == knows == each.knows_labels, each.title
    [entry] = [entry for entry in PARTS["contrastive"] if entry.chapter == "supcon"]
    contrastive = League(part="contrastive", only=("supcon",), seeds=(0,), out=tmp_path)
    values = league.settings(contrastive, entry, seed=0)
    assert values["labels"] == () and "--labels" not in league.flags(values)
    cell = contrastive.cell(entry, 0)
    assert cell.name == "SupCon_labels_0"
    cell.mkdir()
    linear = {"trained": 0.5, "pixels": 0.1}
    (cell / "results.json").write_text(json.dumps({"probes": {"linear": linear, "knn": linear}}))
    assert table(contrastive).splitlines()[-1] == "| SupCon (labels) | 1 | 50.0 | 50.0 |"


def test_a_league_is_played_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Real runs, in processes of their own; the second call finds them done and prints the same table."""
    league.main([*TINY, "--out", str(tmp_path)])
    first = capfd.readouterr().out
    assert "0 of 2 runs are done" in first and "| autoencoder | 1 |" in first and "| denoising | 1 |" in first
    assert "segmentation mIoU, 100% of masks" in first and "random" not in first
    written = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("results.json")}
    assert len(written) == 2

    league.main([*TINY, "--out", str(tmp_path)])
    second = capfd.readouterr().out
    assert "2 of 2 runs are done" in second
    assert first[first.index("| encoder") :] == second[second.index("| encoder") :]
    assert all(file.stat().st_mtime_ns == when for file, when in written.items())
    assert (tmp_path / "table.md").read_text() in second


def test_a_cell_that_was_played_with_other_settings_is_named(tmp_path: Path) -> None:
    entry, cell = PARTS["pretext"][1], tmp_path / "autoencoder_0"
    cell.mkdir()
    (cell / "config.json").write_text(json.dumps({"chapter": "autoencoder", "epochs": 1, "labels": [1.0]}))
    with pytest.raises(ValueError, match=r"autoencoder_0 was played with epochs = 1, not 20; name another folder"):
        league.main([*TINY, "--budget", "1", "--out", str(tmp_path)])
    assert entry.title == "autoencoder" and list(tmp_path.rglob("log.txt")) == []


@pytest.mark.parametrize("side", [32, 64, 96])
def test_tiles_and_holes_grow_with_the_images(side: int) -> None:
    for entry in PARTS["pretext"]:
        chosen = find(entry.chapter)
        config = chosen.settings(**league.settings(League(image_size=side, scenes=20), entry, seed=0))
        images = chosen.open_data(config)["images"]
        method = build(chosen, config, Inputs(3, [0.5] * 3, [0.5] * 3, ("a", "b"), 10))
        assert method.loss(method.views({"images": images[:4]}, np.random.default_rng(0))).item() > 0


def test_a_run_without_labels_has_no_row_that_is_made_up(tmp_path: Path) -> None:
    cell = tmp_path / "jigsaw_0"
    cell.mkdir()
    (cell / "results.json").write_text(json.dumps({"probes": {}, "measured": {}}))
    assert "| jigsaw | 1 |" in table(League(only=("jigsaw",), out=tmp_path))


def test_a_run_that_fails_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"autoencoder_0/log\.txt"):
        league.main([*TINY, "--out", str(tmp_path), "--data", str(tmp_path / "nowhere")])
    assert "neither a name nor a path" in (tmp_path / "autoencoder_0" / "log.txt").read_text()


def test_the_table_has_means_and_deviations_and_the_baselines(tmp_path: Path) -> None:
    for seed, accuracy in ((0, 0.5), (1, 0.6), (2, 0.7)):
        cell = tmp_path / f"rotation_{seed}"
        cell.mkdir()
        linear = {"pretrained": accuracy, "random": accuracy - 0.2, "pixels": 0.1, "supervised": 0.9}
        results = {"probes": {"linear": linear, "knn": {"pretrained": 0.4, "random": 0.3, "pixels": 0.1}}}
        (cell / "results.json").write_text(json.dumps(results))
    lines = table(League(only=("rotation",), out=tmp_path)).splitlines()
    assert lines[0] == "| encoder | seeds | linear probe | kNN |"
    assert lines[2:] == [
        "| raw pixels, 16x16 | 3 | 10.0 ± 0.0 | 10.0 ± 0.0 |",
        "| random | 3 | 40.0 ± 10.0 | 30.0 ± 0.0 |",
        "| rotation | 3 | 60.0 ± 10.0 | 40.0 ± 0.0 |",
        "| supervised | 3 | 90.0 ± 0.0 |  |",
    ]


def test_the_table_of_few_labels_has_a_column_for_each_part_and_score(tmp_path: Path) -> None:
    cell = tmp_path / "SeCo_0"
    cell.mkdir()
    names = ["linear", "linear, 10%", "linear, mAP", "linear, 10%, mAP", "knn"]
    probes = {name: {"pretrained": (i + 1) / 10} for i, name in enumerate(names)}
    tuned = {"10%": 0.6, "100%": 0.7, "10%, mAP": 0.8, "100%, mAP": 0.9}
    results = {"probes": probes, "fine_tuning": {key: {"pretrained": value} for key, value in tuned.items()}}
    (cell / "results.json").write_text(json.dumps(results))
    head, _, row = table(League(part="seasons", seeds=(0,), out=tmp_path)).splitlines()
    columns = ["linear probe, 10%", "linear probe, 100%", "linear probe, 10%, mAP", "linear probe, 100%, mAP"]
    columns += [f"fine-tuned, {part} of labels{score}" for score in ("", ", mAP") for part in ("10%", "100%")]
    assert head == "| encoder | seeds | " + " | ".join(columns) + " |"
    assert row == "| SeCo | 1 | 20.0 | 10.0 | 40.0 | 30.0 | 60.0 | 70.0 | 80.0 | 90.0 |"


def test_few_labels_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = League(part="sensors", seeds=(0, 1), labels=(0.01, 0.1, 1.0), out=tmp_path)
    rng = np.random.default_rng(0)
    for entry in study.entries[:2]:
        for seed in study.seeds:
            parts = ("1%", "10%", "100%")
            tuned = {part: {"pretrained": rng.random(), "random": rng.random()} for part in parts}
            probes = {name: {"pretrained": rng.random()} for name in ("linear, 1%", "linear, 10%", "linear")}
            study.cell(entry, seed).mkdir()
            results = json.dumps({"probes": probes, "fine_tuning": tuned})
            (study.cell(entry, seed) / "results.json").write_text(results)
    found = standings.rows(study, league.played(study))
    assert [len(found[title]) for title in ("S1, random", "S1", "S2")] == [2, 2, 2] and "early fusion" not in found
    standings.publish(study, league.played(study), tmp_path)
    assert capsys.readouterr().out.strip() == (tmp_path / "table.md").read_text().strip()
    with Image.open(tmp_path / "labels.png") as picture:
        assert np.asarray(picture).std() > 10


def test_settings_become_flags() -> None:
    values = {"seed": 1, "layer_probes": True, "baselines": False, "labels": (0.1, 1.0)}
    assert league.flags(values) == ["--seed", "1", "--layer-probes", "--no-baselines", "--labels", "0.1", "1.0"]


def test_who_is_not_in_the_part_cannot_play() -> None:
    with pytest.raises(ValueError, match=r"expected chapters among .*rotation.*, got simclr"):
        League(only=("simclr",))
