"""The league: every chapter of a part on the same data, with one backbone and one budget, under the same probes.

    python -m reference league                             the pretext tasks on scenes, three seeds each
    python -m reference league --part contrastive          the contrastive frameworks
    python -m reference league --part positives            ways of making positives, under one loss
    python -m reference league --part seasons              SeCo and what it builds on
    python -m reference league --part sensors              Sentinel-1 and Sentinel-2, and what few labels can do
    python -m reference league --data PATH                 the same on a folder of images
    python -m reference league --only rotation --seeds 0   some of it

A cell of the league is one chapter under one seed: a run like any other, in a folder of its own, with all its pictures.
What is done is not done again, what was interrupted goes on where it stood, and the table is made of what is there.

All encoders are ResNet-18s and see as many pixels: 20 passes over the training images at budget 1. (That of
colorization sees lightness alone, that of split-brain is two of half the width.) Only the masked autoencoder and MoCo
v3 have to have a transformer; they stand beside their own kind, untrained and supervised. All learn from the same
images: rotation, too, has the sun where a satellite has it, and not fixed as in its own chapter.
"""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro
from tqdm import tqdm

from reference import standings
from reference.chapters import find
from reference.settings import DEFAULT_BACKEND

TEN = {"epochs": 10}  # of two views: as many images as 20 of one
# What grows with the images, and its length in those of 64 pixels
LENGTHS = {
    "autoencoder": ("side", 64),
    "inpainting": ("hole", 32),
    "relative_patch": ("patch", 24),
    "jigsaw": ("tile", 18),
}
AUTOENCODER = {"kind": "resnet", "width": 16, "epochs": 20}


@dataclass(frozen=True)
class Entry:
    """A chapter that takes part, with settings other than its own."""

    title: str
    chapter: str
    settings: dict[str, Any] = field(default_factory=dict)
    # Titles of the untrained and the supervised encoder, if its runs give them
    baselines: tuple[str, str] | None = None
    # It learns from all labels, so that none are left to fine-tune on
    knows_labels: bool = False


PARTS: dict[str, tuple[Entry, ...]] = {
    "pretext": (
        Entry("rotation", "rotation", baselines=("random", "supervised")),
        Entry("autoencoder", "autoencoder", AUTOENCODER),
        Entry("denoising", "autoencoder", AUTOENCODER | {"masking": 0.5}),
        Entry("relative patch", "relative_patch", {"epochs": 36}),  # of four patches, 9/16 of the image
        Entry("jigsaw", "jigsaw", {"epochs": 28}),  # of nine tiles, 0.71 of it
        Entry("inpainting", "inpainting"),
        Entry("colorization", "colorization"),
        Entry("split-brain", "split_brain"),
        Entry("masked autoencoder", "mae", baselines=("random transformer", "supervised transformer")),
    ),
    "contrastive": (
        Entry("SimCLR", "simclr", TEN, baselines=("random", "supervised")),
        Entry("SimCLR v2", "simclr_v2", TEN),
        Entry("instance discrimination", "instance_discrimination"),
        Entry("MoCo v1", "moco", TEN | {"version": 1}),
        Entry("MoCo v2", "moco", TEN | {"version": 2}),
        Entry("MoCo v3", "moco", TEN | {"version": 3}, baselines=("random transformer", "supervised transformer")),
        Entry("CPC", "cpc"),
        Entry("BYOL", "byol", TEN),
        Entry("SwAV", "swav", TEN),
        Entry("CMC", "cmc", TEN),
        Entry("CLIP, captions", "clip"),
        Entry("debiased", "negatives", TEN | {"negatives": "debiased"}),
        Entry("hard negatives", "negatives", TEN | {"negatives": "hard"}),
        Entry("true negatives (labels)", "negatives", TEN | {"negatives": "true"}, knows_labels=True),
        Entry("SupCon (labels)", "supcon", TEN, knows_labels=True),
    ),
    "positives": (
        Entry("augmentation", "positives", TEN, baselines=("random", "supervised")),
        *(
            Entry(kind, "positives", TEN | {"positives": kind})
            for kind in ("overlap", "season", "mixup", "cutmix", "policy", "selfaugment", "generated")
        ),
    ),
    "seasons": (
        Entry("MoCo v2", "seco", TEN | {"keys": "augmented"}, baselines=("random", "supervised")),
        Entry("MoCo v2 + TP", "seco", TEN | {"keys": "temporal"}),
        Entry("SeCo", "seco", TEN),
    ),
    "sensors": tuple(
        Entry(title, "sar_optical", TEN | {"sees": sees}, baselines=(f"{title}, random", f"{title}, supervised"))
        for title, sees in (("S1", "s1"), ("S2", "s2"), ("early fusion", "early"), ("late fusion", "late"))
    ),
}
# What is asked in a part where nothing else is said: parts of labels and of masks, and scores
ASKED: dict[str, dict[str, tuple[Any, ...]]] = {
    "pretext": {"labels": (0.1,), "segment": (1.0,), "scores": ("accuracy",)},
    "contrastive": {"labels": (0.1,), "segment": (1.0,), "scores": ("accuracy",)},
    "positives": {"labels": (0.1,), "segment": (), "scores": ("accuracy",)},
    "seasons": {"labels": (0.1, 1.0), "segment": (), "scores": ("accuracy", "mAP")},
    "sensors": {"labels": (0.01, 0.05, 0.1, 0.2, 0.5, 1.0), "segment": (0.1, 1.0), "scores": ("accuracy", "mAP")},
}


@dataclass(kw_only=True)
class League:
    """Who plays, on what, and for how long."""

    # Which chapters
    part: Literal["pretext", "contrastive", "positives", "seasons", "sensors"] = "pretext"
    # Only these of them
    only: tuple[str, ...] = ()
    # Each chapter runs once under each of these
    seeds: tuple[int, ...] = (0, 1, 2)
    # Images to learn from: "scenes" (generated), "eurosat" (downloaded), or a path to class folders or a stack
    data: str = "scenes"
    # How many scenes to generate; other data come as they are
    scenes: int = 2000
    # Side of an image in pixels; folders are resized to it, scenes generated at it
    image_size: int = 64
    # What --data holds, where its names do not tell: images, stack, series, eurosat, bigearthnet, sen12ms or seco
    layout: str | None = None
    # Options of its reader, as JSON
    options: str = "{}"
    # Leave out files that cannot be used, and list them, instead of stopping
    skip_bad_files: bool = False
    # Times the default epochs of every chapter
    budget: float = 1.0
    # Parts of the labels on which encoder and classifier are fine-tuned, and if several also linear probes; by default
    # 0.1, of seasons 0.1 1.0, of sensors six
    labels: tuple[float, ...] | None = None
    # Parts of the masks from which segmentation is learned, where the data have masks; by default 1.0, in the parts
    # positives and seasons none
    segment: tuple[float, ...] | None = None
    # Accuracy of an image's class, mean average precision of several labels; by default accuracy, of seasons both
    scores: tuple[Literal["accuracy", "mAP"], ...] | None = None
    # What of the encoder stands still in fine-tuning and segmentation: none, all, or all up to a stage
    freeze: str = "none"
    # Epochs of both
    fine_tune_epochs: int = 5
    # Runs side by side, which share the cores; one on a GPU
    jobs: int = 2
    # Where arrays live: NumPy on the CPU or CuPy on a GPU; MINISSL_BACKEND sets the default
    backend: Literal["numpy", "cupy"] = DEFAULT_BACKEND
    # Folder of the cells and of table.md; by default runs/league/<part>/<name of the data>
    out: Path | None = None

    def __post_init__(self) -> None:
        for key, value in ASKED[self.part].items():
            if getattr(self, key) is None:
                setattr(self, key, value)
        known = {entry.chapter for entry in PARTS[self.part]}
        if strangers := set(self.only) - known:
            raise ValueError(f"--only: expected chapters among {', '.join(sorted(known))}, got {', '.join(strangers)}")
        if not self.seeds or self.budget <= 0 or self.jobs < 1:
            raise ValueError("league: expected at least one seed, a budget above 0 and at least one job")

    @property
    def entries(self) -> list[Entry]:
        return [entry for entry in PARTS[self.part] if not self.only or entry.chapter in self.only]

    @property
    def folder(self) -> Path:
        return self.out or Path("runs", "league", self.part, Path(self.data).name)

    def cell(self, entry: Entry, seed: int) -> Path:
        """Where the run of a chapter under a seed lives."""
        return self.folder / (re.sub(r"[^\w-]+", "_", entry.title).strip("_") + f"_{seed}")


def main(arguments: list[str]) -> None:
    """Play what has not been played, then write and print the table."""
    league = tyro.cli(League, prog="python -m reference league", description=__doc__, args=arguments)
    failed = play_what_is_left(league)
    standings.publish(league, played(league), league.folder)
    complain(failed)


def complain(failed: list[Path]) -> None:
    """Raise ValueError if there are logs of runs that failed."""
    if failed:
        raise ValueError("these runs failed; the end of their logs says why: " + ", ".join(map(str, failed)))


def play_what_is_left(league: League) -> list[Path]:
    """Every run that is not done; returns the logs of those that failed."""
    cells = [(entry, seed) for seed in league.seeds for entry in league.entries]
    left = [cell for cell in cells if not (league.cell(*cell) / "results.json").is_file()]
    print(f"{len(cells) - len(left)} of {len(cells)} runs are done; {league.jobs} at a time, in {league.folder}")
    for cell in cells:
        check_settings(league, *cell)
    failed = []
    with ThreadPoolExecutor(league.jobs) as pool, tqdm(total=len(left), unit=" runs") as bar:
        waiting = {pool.submit(play, league, *cell): cell for cell in left}
        try:
            for done in as_completed(waiting):
                entry, seed = waiting[done]
                if done.result():
                    failed.append(league.cell(entry, seed) / "log.txt")
                bar.update()
        except KeyboardInterrupt:  # the runs have heard it too, and save where they stand
            pool.shutdown(cancel_futures=True)
            print("\nInterrupted. The same command goes on where it stood.")
    return failed


def played(league: League) -> list[tuple[Entry, dict[str, Any]]]:
    """What is there of the league: each run's entry and its results.json."""
    files = [(entry, league.cell(entry, seed) / "results.json") for entry in league.entries for seed in league.seeds]
    return [(entry, json.loads(file.read_text())) for entry, file in files if file.is_file()]


def play(league: League, entry: Entry, seed: int) -> int:
    """One run, or the rest of it, in a process of its own; returns its exit status. What it prints goes to log.txt."""
    cell = league.cell(entry, seed)
    cell.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "reference", entry.chapter]
    command += ["--resume", str(cell)] if (cell / "config.json").is_file() else flags(settings(league, entry, seed))
    threads = max(1, (os.cpu_count() or 1) // league.jobs)
    with (cell / "log.txt").open("a") as log:
        return subprocess.run(
            command, stdout=log, stderr=log, env={"MINISSL_THREADS": str(threads), **os.environ}, check=False
        ).returncode


def check_settings(league: League, entry: Entry, seed: int) -> None:
    """Raise ValueError where a cell was played, or begun, with other settings: its figures belong to another table."""
    cell = league.cell(entry, seed)
    if not (cell / "config.json").is_file():
        return
    saved = json.loads((cell / "config.json").read_text())
    for key, value in settings(league, entry, seed).items():
        if isinstance(value, tuple) and set(value) <= set(saved.get(key, value)):
            continue  # it was asked this, and perhaps more
        if key in saved and saved[key] != value:
            raise ValueError(
                f"{cell} was played with {key} = {saved[key]!r}, not {value!r}; name another folder with --out, or "
                "remove this one to play it anew"
            )


def settings(league: League, entry: Entry, seed: int) -> dict[str, Any]:
    """The settings of a run, by name, where they are not the chapter's own."""
    epochs = entry.settings.get("epochs", find(entry.chapter).settings().epochs)
    forced: dict[str, Any] = {}
    if entry.chapter in LENGTHS:
        name, length = LENGTHS[entry.chapter]
        forced = {name: length * league.image_size // 64}
    if entry.chapter == "rotation" and league.data == "scenes":
        forced = {"sun": "orbit"}  # all play on the same scenes
    return (
        entry.settings
        | forced
        | {
            "data": league.data,
            "scenes": league.scenes,
            "image_size": league.image_size,
            "layout": league.layout,
            "options": league.options,
            "skip_bad_files": league.skip_bad_files,
            "seed": seed,
            "epochs": max(1, round(league.budget * epochs)),
            "baselines": entry.baselines is not None,
            "layer_probes": league.part in ("pretext", "contrastive"),
            "labels": () if entry.knows_labels else league.labels,
            "segment": league.segment,
            "scores": league.scores,
            "freeze": league.freeze,
            "fine_tune_epochs": league.fine_tune_epochs,
            "backend": league.backend,
            "out": league.cell(entry, seed),
        }
    )


def flags(values: dict[str, Any]) -> list[str]:
    """Settings as a command line has them."""
    line = []
    for key, value in values.items():
        flag = key.replace("_", "-")
        if isinstance(value, bool):
            line.append(f"--{flag}" if value else f"--no-{flag}")
        elif value not in ((), None):
            line += [f"--{flag}", *map(str, value if isinstance(value, tuple) else (value,))]
    return line
