"""Leave one place out: whether what was learned in some places is true of another.

    python -m reference places --data scenes.npz --options '{"names": {"images": "s2", "sar": "s1", "masks": "lulc"}}'

A few large pictures of places, each with Sentinel-1 and a land-cover mask, are cut into tiles. Tiles of one place are
alike, and neighbours share a field: were they split at random, a probe would be asked what it has seen. So all tiles of
one place are the test images, those of another choose the probe's penalty, and both sensors are pre-trained on the
tiles of the rest; then the next place is left out. What is asked of a tile: which covers take at least a twentieth of
it (mean average precision), and the cover of each pixel (mean IoU).

A place can be asked only for covers that some of its tiles have and some do not, and that are there in training and
validation; one that has none such is never left out. Runs are those of the league's part "sensors", one league a place,
and the table has their mean ± deviation over places. With a handful of places it demonstrates, and measures little.
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
    folds = {place: left_out(whole, place) for place in np.unique(whole["scene"]).tolist()}
    folds = {place: fold for place, fold in folds.items() if fold.tags}
    if len(folds) < 2:
        raise ValueError(f"places: expected at least 2 places with covers that two others have, got {len(folds)}")
    played: list[Any] = []
    failed: list[Path] = []
    for place, fold in folds.items():
        folder = study.out / f"without_{place}"
        if not (folder / "data").is_dir():
            data.write_stack(fold, folder / "data")
        if not same(data.read_stack(folder / "data"), fold):
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
    if not 0 < side <= min(H, W):
        raise ValueError(f"--tile: expected 1 to {min(H, W)} pixels, got {side}")
    rows, columns = H // side, W // side

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


def left_out(whole: DataSet, place: int) -> DataSet:
    """All tiles with "part": this place tests, another validates, the rest trains; only covers that can be asked.

    It validates in whichever place leaves most covers to ask. Without any, the data set has no tags.
    """
    scene, y = whole["scene"], whole["multi_labels"]
    found = {other: asked(y[scene == place], y[scene == other], y[(scene != place) & (scene != other)])
             for other in np.unique(scene[scene != place]).tolist()}  # fmt: skip
    validation = max(found, key=lambda other: int(found[other].sum()))
    chosen = found[validation]
    arrays = whole.arrays | {
        "part": np.select([scene == place, scene == validation], [2, 1], 0).astype(np.uint8),
        "multi_labels": y[:, chosen],
    }
    tags = tuple(tag for tag, there in zip(whole.tags, chosen, strict=True) if there)
    return DataSet(arrays, name=whole.name, tags=tags, bands=whole.bands)


def asked(test: np.ndarray, validation: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Which covers, (K,) bool, some test tiles have and others lack, and some tiles of both other parts have."""
    share = test.mean(axis=0)
    return (share > 0) & (share < 1) & validation.any(axis=0) & train.any(axis=0)


def same(one: DataSet, other: DataSet) -> bool:
    """Whether two data sets hold the same."""
    return (one.tags, one.arrays.keys()) == (other.tags, other.arrays.keys()) and all(
        np.array_equal(one[key], array) for key, array in other.arrays.items()
    )
