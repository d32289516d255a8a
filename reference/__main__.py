"""python -m reference                    lists the chapters
python -m reference simclr             runs one, on generated scenes
python -m reference simclr --help      shows its settings
python -m reference league             runs all chapters of a part, and compares them in a table
python -m reference places --data PATH leaves one place of a few out, and asks what was learned in the others
python -m reference losses             draws the losses: forces, temperature, and which loss is which
mpiexec -n 4 python -m reference simclr   shares every batch out to four processes, with the same result
"""

import sys
import time
from pathlib import Path

import numpy as np
import tyro

from minissl import augment, backend, checkpoint, data, parallel
from minissl.backend import BackendUnavailable
from reference import league, losses, places, ranks, report, transfer
from reference.chapters import PARTS, chapters, find
from reference.method import Inputs, Method, build
from reference.settings import Settings, resumed, save_form
from reference.trainer import Interrupted, Progress, train

ERRORS = (ValueError, TypeError, FloatingPointError, OSError, BackendUnavailable, data.DownloadFailed)  # of a user
MORE = {
    "league": "All chapters of a part with one backbone and budget, under the same probes, as a table.",
    "places": "Sentinel-1 and Sentinel-2 of a few large places, each left out in turn.",
    "losses": "Pictures of the losses: forces on a plane, what temperature does, and which loss is which.",
}


def overview() -> str:
    lines = ["usage: python -m reference CHAPTER [--help] [settings]"]
    for part, entries in chapters().items():
        lines += ["", PARTS[part], *(f"  {name:24}{line}" for name, line in entries)]
    lines += ["", "Side by side", *(f"  {name:24}{line}" for name, line in MORE.items())]
    return "\n".join(lines)


def parse(chapter: type[Method], name: str, arguments: list[str]) -> Settings:
    """Settings from the command line; with --resume those of the earlier run."""
    description = sys.modules[chapter.__module__].__doc__
    config = tyro.cli(chapter.settings, prog=f"python -m reference {name}", description=description, args=arguments)
    if config.resume is None:
        return config
    given = {
        flag[2:].split("=")[0].replace("-", "_").removeprefix("no_") for flag in arguments if flag.startswith("--")
    }
    return resumed(config, given, name)


def run(chapter: type[Method], name: str, config: Settings) -> None:
    """Data, training, probes and pictures of one chapter."""
    backend.use(config.backend)
    if config.backend == "cupy":
        parallel.start(device=True)
    out = config.out or Path("runs") / name / time.strftime("%Y-%m-%d_%H-%M-%S")
    if config.resume is None and (out / "checkpoint.safetensors").exists():
        raise ValueError(
            f"--out: {str(out)!r} holds a run already; continue it with --resume {out}, or name another folder"
        )
    images = chapter.open_data(config)
    counts = dict(zip(data.PARTS, np.bincount(images["part"], minlength=3), strict=True))
    if not all(counts.values()):
        raise ValueError(f"data {config.data!r}: train, validation and test must not be empty, got {counts}")
    transfer.targets(images, config)  # raises for what is asked of labels that are not there
    if chapter.learns_from_labels and not transfer.has_classes(images):
        raise ValueError(f"data {config.data!r} has no class labels, and {name} learns from them; use class folders")
    side, (H, W) = config.image_size, images["images"].shape[1:3]
    if chapter.needs_image_size and not side == H == W:
        remedy = f"use --image-size {H}" if H == W else "cut the images to squares"
        raise ValueError(f"{name} is made for squares of --image-size {side}, got {H}x{W} pixels; {remedy}")
    parts = {part: images.part(part) for part in data.PARTS}
    training = parts["train"]
    data.check_range(training)
    mean, deviation = augment.channel_statistics(training["images"])
    method = build(
        chapter, config, Inputs(images.channels, mean, deviation, images.classes, len(training), images.tags)
    )
    transfer.check(method, config)
    ranks.check_alike(save_form(config), images)
    shape = training["images"].shape[1:]
    print(
        f"{name}: {len(training)} images of {shape} to train on"
        f", {counts['validation']} for validation, {counts['test']} to test on; results in {out}"
    )
    try:
        with ranks.folder(out) as own:
            own.mkdir(parents=True, exist_ok=True)
            checkpoint.write_json(own / "config.json", {"chapter": name} | save_form(config))
            report.examples(method, training, own)
            progress = train(method, training, config, own)
            report.curve(own, name, method.references)
            found = report.evaluate(chapter, method, parts, config, own)
            measured = method.eval().measure(parts, own)
            summarise(name, config, len(training), progress, found, measured, own)
    except (Interrupted, KeyboardInterrupt):
        print(f"\nInterrupted. Continue with: python -m reference {name} --resume {out}")
        raise SystemExit(130) from None


def summarise(
    name: str, config: Settings, count: int, progress: Progress, found: dict, measured: dict[str, float], out: Path
) -> None:
    """results.json, and the same on the screen."""
    images_per_second = config.epochs * (count // config.batch_size) * config.batch_size / progress.seconds
    loading_share = progress.loading_seconds / progress.seconds
    results = {
        "chapter": name,
        "data": config.data,
        "backend": config.backend,
        "seed": config.seed,
        "epochs": config.epochs,
        "seconds": progress.seconds,
        "images_per_second": images_per_second,
        "probes": {},
        **found,
        "measured": measured,
    }
    checkpoint.write_json(out / "results.json", results)
    print(
        f"\nTrained for {progress.seconds:.0f} s, {images_per_second:.0f} images/s; "
        f"loading and augmenting took {100 * loading_share:.0f}% of it."
    )
    if found:
        print(report.tables(found))
    for figure, value in measured.items():
        print(f"{figure}: {value:.4g}")
    print(f"Pictures in {out}: " + ", ".join(sorted(file.name for file in out.glob("*.png"))))


def command(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return
    name, *rest = arguments
    if name not in MORE:
        chapter = find(name)
        run(chapter, name, parse(chapter, name, rest))
    elif parallel.world().size == 1:
        {"league": league, "losses": losses, "places": places}[name].main(rest)
    else:
        raise ValueError(f"{name} is no chapter, and nothing to share out to several processes; run it without mpiexec")


def main(arguments: list[str]) -> None:
    try:
        with ranks.joined(ERRORS):
            command(arguments)
    except ERRORS as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main(sys.argv[1:])
