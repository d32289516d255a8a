"""Leave one place out: whether what was learned in some places is true of another.

    python -m reference places --data scenes.npz --options '{"names": {"images": "s2", "sar": "s1", "masks": "lulc"}}'

A few large pictures of places, each with Sentinel-1 and a land-cover mask, are cut into tiles. Tiles of one place are
alike, and neighbours share a field: were they split at random, a probe would be asked what it has seen. So all tiles of
one place are the test images, those of the next choose the probe's penalty, and both sensors are pre-trained on the
tiles of the others; then the next place is left out. What is asked of a tile: which covers take at least a twentieth of
it (mean average precision), and the cover of each pixel (mean IoU).

A place can be asked only for covers that some of its tiles have and some do not, and that are there in training; one
that has none such is always trained on. Runs are those of the league's part "sensors", one league a place, and the
table has their mean ± deviation over places. With a handful of places it is a demonstration, not a measurement.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from minissl import data
from minissl.data import DataSet
from reference import league, radar, standings
from reference.league import League
from reference.segmentation import NO_CLASS
from reference.settings import DEFAULT_BACKEND, options_of

NEEDED = ("images", "sar", "masks")
SHARE = 0.05  # of a tile that a cover has to take to be one of its labels


@dataclass(kw_only=True)
class Study:
    """Which places, and how long each encoder learns."""

    # A stack or folder of places, as minissl.data.open_data takes it, with images, sar and masks
    data: str
    # Of the reader, as JSON: {"names": {"images": "s2"}, "scale": 10000}
    options: str = "{}"
    # Side of a tile in pixels
    tile: int = 32
    # Times the default epochs of pre-training: tiles are few
    budget: float = 5.0
    # Epochs of fine-tuning and of segmentation
    fine_tune_epochs: int = 25
    # Decides initial weights, order and augmentations
    seed: int = 0
    # Runs side by side, which share the cores; one on a GPU
    jobs: int = 2
    # Where arrays live: NumPy on the CPU or CuPy on a GPU; MINISSL_BACKEND sets the default
    backend: Literal["numpy", "cupy"] = DEFAULT_BACKEND
    # Folder of a league for each place, and of table.md
    out: Path = Path("runs", "places")


def main(arguments: list[str]) -> None:
    """Cut, then play a league for every place that is left out, as far as it has not been played."""
    study = tyro.cli(Study, prog="python -m reference places", description=__doc__, args=arguments)
    whole = tiles(data.open_data(study.data, options=options_of(study.options)), study.tile)
    askable = [place for place in np.unique(whole["scene"]).tolist() if asked(whole, place).any()]
    if len(askable) < 2:
        raise ValueError(f"places: expected at least 2 places with covers that others have, got {len(askable)}")
    played: list[Any] = []
    failed: list[Path] = []
    for i, place in enumerate(askable):
        folder = study.out / f"without_{place}"
        fold = left_out(whole, place, askable[(i + 1) % len(askable)])
        if not (folder / "data").is_dir():
            data.write_stack(fold, folder / "data")
        elif not np.array_equal(data.read_stack(folder / "data")["images"], fold["images"]):
            raise ValueError(f"{folder} holds tiles of other data, or cut otherwise; name another folder with --out")
        one = study_of(study, folder)
        test = fold.part("test")
        print(
            f"Place {place} is left out; its {len(test)} tiles are asked for covers {', '.join(fold.tags)}. "
            f"A blind ranking has an expected mAP of {100 * test['multi_labels'].mean():.0f}."
        )
        failed += league.play_what_is_left(one)
        played += league.played(one)
    standings.publish(one, played, study.out, repeats="places")
    league.complain(failed)


def study_of(study: Study, folder: Path) -> League:
    """The league in `folder`."""
    return League(
        part="sensors",
        seeds=(study.seed,),
        data=str(folder / "data"),
        image_size=study.tile,
        budget=study.budget,
        labels=(1.0,),
        segment=(1.0,),
        scores=("mAP",),
        fine_tune_epochs=study.fine_tune_epochs,
        jobs=study.jobs,
        backend=study.backend,
        out=folder,
    )


def tiles(places: DataSet, side: int) -> DataSet:
    """Places (n, H, W, ...) as tiles (N, side, side, ...), row by row, with "scene", the place, and "multi_labels"."""
    radar.check(places, "places")
    n, H, W, _ = places["images"].shape
    if "masks" not in places or places["masks"].shape != (n, H, W):
        raise ValueError(f"places: expected an array 'masks' {(n, H, W)}, in data {places.name!r}")
    rows, columns = H // side, W // side
    if not 0 < side <= min(H, W):
        raise ValueError(f"--tile: expected 1 to {min(H, W)} pixels, got {side}")

    def cut(array: np.ndarray) -> np.ndarray:
        inside = array[:, : rows * side, : columns * side]
        split = inside.reshape(n, rows, side, columns, side, *array.shape[3:]).swapaxes(2, 3)
        return split.reshape(n * rows * columns, side, side, *array.shape[3:])

    arrays = {key: cut(places[key]) for key in NEEDED}
    arrays["scene"] = np.repeat(np.arange(n), rows * columns)
    covers = np.unique(arrays["masks"])
    covers = covers[covers != NO_CLASS]
    shares = [(arrays["masks"] == cover).mean(axis=(1, 2)) for cover in covers]
    arrays["multi_labels"] = (np.stack(shares, axis=1) >= SHARE).astype(np.uint8)  # (N, covers)
    return DataSet(arrays, name=places.name, tags=tuple(map(str, covers)), bands=places.bands)


def asked(whole: DataSet, place: int) -> np.ndarray:
    """Which covers, (K,) bool, some tiles of this place have and others lack, and some of other places have."""
    here = whole["scene"] == place
    share = whole["multi_labels"][here].mean(axis=0)
    return (share > 0) & (share < 1) & whole["multi_labels"][~here].any(axis=0)


def left_out(whole: DataSet, place: int, validation: int) -> DataSet:
    """All tiles with "part": this place tests, that one validates, the rest trains; only covers that can be asked."""
    chosen = asked(whole, place)
    part = np.select([whole["scene"] == place, whole["scene"] == validation], [2, 1], 0).astype(np.uint8)
    arrays = whole.arrays | {"part": part, "multi_labels": whole["multi_labels"][:, chosen]}
    tags = tuple(tag for tag, there in zip(whole.tags, chosen, strict=True) if there)
    return DataSet(arrays, name=whole.name, tags=tags, bands=whole.bands)
