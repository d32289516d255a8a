"""Stacks: arrays of images in NumPy's own files, of any number of bands and any number type.

    data.npz                images, and what else there is: labels, part, location, ...   read into memory
    data.npy                images alone                                                  memory-mapped
    data/images.npy, data/labels.npy, ...                                                 memory-mapped

Arrays of strings hold names: "classes" those of labels, "tags" of the columns of multi_labels, "bands" of channels.
Nothing is resized or converted, unless it is asked for: files whose arrays have other names, or hold Sentinel-2's
digital numbers, are opened with

    read_stack("scenes.npz", names={"images": "s2l1c", "sar": "s1_db", "masks": "lulc", "path": "ids"}, scale=10_000)
"""

import os
import shutil
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from minissl.data.dataset import PARTS, DataSet, allocate
from minissl.data.rasters.patches import BANDS

NAMES = ("classes", "tags", "bands")  # attributes of a DataSet
SAY_WHICH = (
    "say which array is which: read_stack(path, names={'images': 's2'}), open_data(path, options={'names': ...})"
)
REMEDY = "save plain arrays: np.savez(path, images=images, labels=labels) with images (N, H, W, C)"


def read_stack(
    path: str | os.PathLike[str],
    names: Mapping[str, str] | None = None,
    scale: float | None = None,
    bands: Sequence[str] = (),
    offset: float = 0,
) -> DataSet:
    """Read a .npz, a .npy or a folder of .npy files as a DataSet.

    names   a data set's name for an array: its name in the file; then only these are read
    scale   what "images" and "seasons" are divided by, 10,000 for Sentinel-2, then clipped to [0, 1], float32
    offset  what is taken from them before: since January 2022 Sentinel-2's products come with 1,000 added
    bands   the names of the channels, where the file doesn't hold them; 13 of scaled images are Sentinel-2's

    Raises ValueError, naming the file and the remedy, for a path that is none of these, for unreadable, pickled or
    object arrays, images that are not (N, H, W, C) numbers, labels or parts that are not whole numbers in range, and
    arrays of different lengths.
    """
    path = Path(path).expanduser()
    if path.is_dir() and (names or (path / "images.npy").is_file()):
        arrays = {
            key: array for file in sorted(path.glob("[!.]*.npy")) for key, array in _load(file, file.stem).items()
        }
    elif path.suffix in (".npz", ".npy") and path.is_file():
        arrays = _load(path)
    else:
        raise ValueError(f"{path} is no stack; expected a .npz, a .npy, or a folder that holds images.npy")
    if names:
        arrays = _renamed(path, arrays, names)
    elif "images" not in arrays:
        raise ValueError(f"{path} needs an array 'images', got {_shapes(arrays)}; {SAY_WHICH}; or {REMEDY}")
    for key in ("images", "seasons"):
        if scale and key in arrays:
            arrays[key] = _scaled(arrays[key], scale, offset)
            bands = bands or (BANDS if arrays[key].shape[-1] == len(BANDS) else ())
    classes, tags, own_bands = (tuple(map(str, arrays.pop(names, ()))) for names in NAMES)
    for key, array in arrays.items():
        _check(f"{path}, array {key!r}", key, array, len(classes))
    try:
        return DataSet(arrays, classes, path.stem, tags=tags, bands=own_bands or tuple(bands))
    except ValueError as error:
        raise ValueError(f"{path}: {error}; {REMEDY}") from error


def write_stack(dataset: DataSet, folder: str | os.PathLike[str]) -> None:
    """Write a data set as a folder of .npy files that `read_stack` maps.

    It is written under another name and renamed at the end, so that the folder is whole or not there. Raises
    ValueError if the folder exists.
    """
    folder = Path(folder).expanduser()
    if folder.exists():
        raise ValueError(f"{folder} exists already; remove it, or choose another name")
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.unfinished")
    unfinished.mkdir(parents=True)
    try:
        for key, array in dataset.arrays.items():
            np.save(unfinished / f"{key}.npy", array, allow_pickle=False)
        for names in NAMES:
            if getattr(dataset, names):
                np.save(unfinished / f"{names}.npy", np.array(getattr(dataset, names)))
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _renamed(path: Path, arrays: dict[str, np.ndarray], names: Mapping[str, str]) -> dict[str, np.ndarray]:
    if missing := sorted(set(names.values()) - arrays.keys()):
        raise ValueError(f"{path} has no array {', '.join(map(repr, missing))}, but {_shapes(arrays)}; correct `names`")
    return {key: arrays[name] for key, name in names.items()}


def _shapes(arrays: dict[str, np.ndarray]) -> str:
    return ", ".join(f"{key!r} {array.dtype} {array.shape}" for key, array in sorted(arrays.items()))


def _scaled(array: np.ndarray, scale: float, offset: float) -> np.ndarray:
    """In blocks, and onto a file where memory is short."""
    scaled = allocate(array.shape, np.dtype(np.float32))
    for start in range(0, len(array), 64):
        scaled[start : start + 64] = ((array[start : start + 64] - np.float32(offset)) / np.float32(scale)).clip(0, 1)
    return scaled


def _load(path: Path, key: str = "images") -> dict[str, np.ndarray]:
    """The arrays of a .npz by name, or that of a .npy, mapped, under `key`. Pickles could run code: refused."""
    try:
        if path.suffix == ".npy":
            return {key: np.lib.format.open_memmap(path, mode="r")}
        with path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as arrays:
            return dict(arrays.items())
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        pickled = "Python objects" in str(error) or "allow_pickle" in str(error)
        reason = "holds Python objects (pickled), which are not loaded" if pickled else f"cannot be read ({error})"
        raise ValueError(f"{path} {reason}; {REMEDY}") from error


def _check(what: str, key: str, array: np.ndarray, classes: int) -> None:
    whole = np.issubdtype(array.dtype, np.integer)
    if key == "images":
        if array.dtype.kind not in "uif":
            raise ValueError(f"{what} must hold whole or floating numbers, got {array.dtype}; convert it")
        if array.ndim == 3:
            raise ValueError(f"{what} must be (N, H, W, C), got {array.shape}; with one band, save images[..., None]")
        if array.ndim == 4 and array.shape[1] != array.shape[2] == array.shape[3]:
            remedy = "save images.transpose(0, 2, 3, 1)"
            raise ValueError(f"{what} must be (N, H, W, C), got {array.shape}, which has the bands first; {remedy}")
    elif key == "labels" and not whole:
        raise ValueError(f"{what} must hold whole numbers, got {array.dtype}; save labels.astype('int64')")
    elif key == "labels" and array.size and array.min() < 0:
        raise ValueError(f"{what} must not be negative, got {array.min()}; leave out rows without a label")
    elif key == "labels" and classes and array.ndim == 1 and array.size and array.max() >= classes:
        raise ValueError(f"{what} must be below the number of classes, {classes}, got {array.max()}; correct either")
    elif key == "part" and not (whole and array.ndim == 1 and np.isin(array, range(len(PARTS))).all()):
        raise ValueError(f"{what} must hold (N,) whole numbers, 0, 1 or 2 for {', '.join(PARTS)}; correct it")
