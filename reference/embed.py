"""Features of images, from the encoder of a run: what one pre-trains for. And which images are nearest to one.

    python -m reference.embed --checkpoint RUN --data PATH --out features.npz     embeds
    python -m reference.embed --out features.npz --search QUERY.png               searches what is there

features.npz has a row for each image, in the order of the data:

    features      (N, D) float32     encoder(x), x standardised as the run's training images were
    path          (N,) text          the file, relative to PATH; where images are no files, row (N,) int64
    labels, multi_labels, location, part, and the names classes and tags, as far as they are known
    about         text               JSON: chapter, checkpoint, data and settings that made it

    arrays = np.load("features.npz"); arrays["features"], arrays["path"], json.loads(str(arrays["about"]))

Until all is done, finished batches lie in features.npz.part. The same command goes on after the last of them, and ends
with the same bits. A search compares features as kNN does: brought to mean 0 and deviation 1 over the N images, by the
cosine.
"""

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import tyro
from tqdm import tqdm

from minissl import backend, checkpoint, data, viz
from minissl.backend import BackendUnavailable
from minissl.data import DataSet
from minissl.evaluation import extract, standardize
from reference.method import Method
from reference.pictures import unit
from reference.report import reduced
from reference.settings import DEFAULT_BACKEND, save_form
from reference.trainer import CHECKPOINT, load_run

CHUNK = 2**24  # bytes that are read at once where they are only counted
NAMES = ("scenes", *data.DOWNLOADS)
KEPT = ("path", "labels", "multi_labels", "location", "part")
# What features depend on, by its key in `about`; and what they do to the bit.
SAME = {
    "weights": "another checkpoint",
    "images": "other images",
    "rows": "other paths or labels",
    "side": "other sizes",
}
SAME_BITS = SAME | {"backend": "another --backend", "batch_size": "another --batch-size"}


@dataclass(kw_only=True)
class Embed:
    """What to embed, with what, and what to look for in it."""

    # File for the features, a .npz; one that is there and fits is used as it is
    out: Path
    # Folder of a run, or its checkpoint.safetensors
    checkpoint: Path | None = None
    # Images: "scenes" (the run's), "eurosat", a folder of images or of Sentinel patches, or a stack
    data: str | None = None
    # What the data hold, where their names do not tell, as a chapter's --layout; that of the run for the run's own data
    layout: str | None = None
    # Options of their reader, as a chapter's --options; those of the run for the run's own data
    options: str = "{}"
    # Image files (or images of the data, by path or row) whose nearest ones are printed and drawn
    search: tuple[str, ...] = ()
    # How many of them
    nearest: int = 6
    # Images that go through the encoder at once
    batch_size: int = 256
    # Leave out files that cannot be used, and list them, instead of stopping
    skip_bad_files: bool = False
    # Threads that decode images
    workers: int = 2
    # Where arrays live: NumPy on the CPU or CuPy on a GPU; MINISSL_BACKEND sets the default
    backend: Literal["numpy", "cupy"] = DEFAULT_BACKEND

    def __post_init__(self) -> None:
        if self.out.suffix != ".npz":
            raise ValueError(f"--out: expected a name that ends in .npz, got {str(self.out)!r}")
        if min(self.nearest, self.batch_size) < 1:
            raise ValueError("expected --nearest and --batch-size of at least 1")
        if (self.checkpoint is None) != (self.data is None):
            raise ValueError("--checkpoint and --data go together; to search features that are there, leave out both")
        if self.data is None and not self.search:
            raise ValueError("expected --checkpoint and --data, to embed, or --search, or all three")


def embed(options: Embed, run: Path, source: str) -> tuple[Method, DataSet]:
    """Write the features of the data `source` under `run` to `options.out`, if they are not there yet."""
    name, method, progress = load_run(run)
    done, epochs = progress.epoch, method.config.epochs
    if done < epochs:
        print(f"{run} is not finished: its features are those after epoch {done} of {epochs}.")
    dataset = opened(method, source, options)
    if not len(dataset):
        raise ValueError(f"data {source!r} has no images")
    data.check_range(dataset)
    made: dict[str, Any] = {
        "chapter": name,
        "checkpoint": str((method.config.out / CHECKPOINT).resolve()),
        "epoch": done,
        "data": source if source in NAMES else str(Path(source).expanduser().resolve()),
        "image": list(dataset["images"].shape[1:]),  # (H, W, C)
        "side": new_side(method, dataset, source),
        "batch_size": options.batch_size,
        "backend": options.backend,
        "weights": weights(method),
        "images": digest([dataset["images"]]),
        "rows": digest(dataset[key] for key in KEPT if key in dataset),
        "config": save_form(method.config),
    }
    unfinished = options.out.with_name(options.out.name + ".part")
    if options.out.exists():
        check(read(options.out, "about")[1], made, SAME, options.out)
        print(f"{options.out} is there already, and fits.")
    else:
        size = "x".join(map(str, made["image"])) + (f", resized to {made['side']}" if made["side"] else "")
        print(f"{name}: {len(dataset):,} images of {size}")
        features = encode(method, dataset, made, unfinished)
        write(options.out, features, dataset, made, unfinished)
        print(f"{options.out}: features {features.shape}")
    shutil.rmtree(unfinished, ignore_errors=True)
    return method, dataset


def opened(method: Method, source: str, options: Embed, size: int | None = None) -> DataSet:
    """Images as the run's chapter opens them; of a folder at `size` pixels a side, by default the run's."""
    own = method.config if source == method.config.data else options
    config = replace(
        method.config,
        data=source,
        layout=options.layout or own.layout,
        options=own.options if options.options == "{}" else options.options,
        image_size=size or method.config.image_size,
        workers=options.workers,
        skip_bad_files=options.skip_bad_files,
    )
    C = method.inputs.channels
    found = type(method).open_images(config, C)
    if found.channels != C:
        raise ValueError(
            f"data {source!r}: the run learned from images with {C} channels, these have "
            f"{found.channels}; give images of the same bands, or take a run that learned from such as these"
        )
    return found


def new_side(method: Method, dataset: DataSet, source: str) -> int | None:
    """The side to which images are brought that come at a size of their own: that of the run's. None: they stay.

    They do if the run learned from such images itself, whose size it does not tell, and if they are series of pixels.
    """
    config, C = method.config, dataset.channels
    side = getattr(config, "side", config.image_size)  # `side`: to which some chapters reduce all images
    known = method.needs_image_size or hasattr(config, "side") or not at_own_size(config.data, C)
    H, W = dataset["images"].shape[1:3]
    return side if at_own_size(source, C) and known and 1 not in (H, W) and not H == W == side else None


def at_own_size(source: str, channels: int) -> bool:
    """Whether `open_data` leaves images at their size: stacks, and Sentinel patches, which their channels tell."""
    path = Path(source).expanduser()
    if path.suffix in (".npz", ".npy") or (path / "images.npy").is_file():
        return True
    return source not in NAMES and channels not in (1, 3)


def encode(method: Method, dataset: DataSet, made: dict[str, Any], folder: Path) -> np.ndarray:
    """Features (N, D), mapped from `folder`, from where an earlier call stopped.

    features.f32 holds the rows one after the other, manifest.json how many of them are done, and of what.
    """
    images, N, size = dataset["images"], len(dataset), made["batch_size"]
    manifest, file = folder / "manifest.json", folder / "features.f32"
    folder.mkdir(parents=True, exist_ok=True)
    state = json.loads(manifest.read_text()) if manifest.is_file() else made | {"done": 0}
    check(state, made, SAME_BITS, folder)
    with (
        file.open("r+b" if state["done"] else "wb") as rows,
        tqdm(total=N, initial=state["done"], unit=" images", unit_scale=True, disable=None) as bar,
    ):
        for i in range(state["done"], N, size):
            batch = images[i : i + size]
            if made["side"]:
                batch = reduced(middle_square(batch), made["side"])
            try:
                x = extract(method.encoder, batch, method.prepare, size)  # (B, D)
            except ValueError as error:
                shape = batch.shape[1:]
                raise ValueError(f"{made['chapter']} cannot take images of {shape}, as these are: {error}") from error
            rows.seek(i * x[0].nbytes)
            rows.write(x.tobytes())
            rows.flush()
            os.fsync(rows.fileno())  # before the manifest says that they are there
            state = made | {"done": i + len(x), "D": x.shape[1]}
            checkpoint.write_json(manifest, state)
            bar.update(len(x))
    return np.memmap(file, np.float32, "r", shape=(N, state["D"]))


def middle_square(images: np.ndarray) -> np.ndarray:
    """(N, H, W, C) -> (N, S, S, C), S the shorter side: what `read_folder` does to files."""
    H, W = images.shape[1:3]
    S = min(H, W)
    top, left = (H - S) // 2, (W - S) // 2
    return images[:, top : top + S, left : left + S]


def write(out: Path, features: np.ndarray, dataset: DataSet, made: dict[str, Any], folder: Path) -> None:
    """The .npz, written in `folder` first, so that it is whole or not there."""
    known: dict[str, Any] = {key: dataset[key] for key in KEPT if key in dataset}
    if "path" not in known:
        known["row"] = np.arange(len(dataset))
    known |= {key: np.array(names) for key in ("classes", "tags") if (names := getattr(dataset, key))}
    with (folder / out.name).open("wb") as file:
        np.savez(file, allow_pickle=False, features=features, about=json.dumps(made), **known)
        file.flush()
        os.fsync(file.fileno())
    os.replace(folder / out.name, out)


def read(out: Path, *keys: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Of a file that `write` wrote the arrays named, or all of them, and what made it."""
    try:
        with out.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as arrays:
            made = json.loads(str(arrays["about"]))
            return {key: arrays[key] for key in keys or arrays.files}, made
    except FileNotFoundError:
        raise ValueError(f"there is no {out}; make it first, with --checkpoint and --data") from None
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{out} is not a file that this command wrote ({error}); name another --out") from error


def check(found: dict[str, Any], made: dict[str, Any], keys: dict[str, str], where: Path) -> None:
    """Raise ValueError unless `found`, what made the file `where`, agrees with `made` in these keys."""
    if other := [meaning for key, meaning in keys.items() if found.get(key) != made[key]]:
        raise ValueError(f"{where} was made of {' and '.join(other)}; remove it, or name another --out")


def weights(method: Method) -> str:
    """One number for the encoder, and for the statistics by which its images are standardised."""
    statistics = [np.array(method.inputs.mean), np.array(method.inputs.deviation)]
    return digest([backend.to_host(array) for array in method.encoder.state_dict().values()] + statistics)


def digest(arrays: Iterable[np.ndarray]) -> str:
    """One number for all that arrays hold; they may be mapped, and larger than memory."""
    found = hashlib.sha256()
    for array in map(np.atleast_1d, arrays):
        found.update(f"{array.dtype} {array.shape}".encode())
        rows = max(1, CHUNK // max(1, array[:1].nbytes))
        for i in range(0, len(array), rows):
            found.update(array[i : i + rows].tobytes())
    return found.hexdigest()


class Found(NamedTuple):
    """A query, a row of the features or an image (1, H, W, C); and the cosine of all rows with it."""

    name: str
    query: int | np.ndarray
    cosine: np.ndarray  # (N,)
    nearest: list[int]


def search(options: Embed, method: Method | None = None, dataset: DataSet | None = None) -> None:
    """Print and draw the images of `options.out` that are nearest to each of `options.search`.

    method, dataset: whose features these are; by default what the file says of itself.
    """
    arrays, made = read(options.out)
    if method is None:
        method = load_run(Path(made["checkpoint"]))[1]
        if weights(method) != made["weights"]:
            raise ValueError(f"{made['checkpoint']} has changed since {options.out} was made of it; make that anew")
    names = arrays["path" if "path" in arrays else "row"].astype(str).tolist()
    kinds = [""] * len(names)
    if "classes" in arrays and arrays["labels"].ndim == 1:
        kinds = arrays["classes"][arrays["labels"]].tolist()

    own = at_own_size(made["data"], method.inputs.channels)
    decode = partial(read_image, method, options, made["image"][0] if own and not made["side"] else None)
    queries = [decode(Path(q)) if Path(q).is_file() else row_of(q, names, options.out) for q in options.search]
    seen = [
        arrays["features"][query] if isinstance(query, int) else extract(method.encoder, query, method.prepare)[0]
        for query in queries
    ]
    x, q = map(unit, standardize(arrays["features"], np.stack(seen)))  # (N, D), (queries, D)
    results = [
        Found(name, query, cosine, np.argsort(-cosine, kind="stable")[: options.nearest].tolist())
        for name, query, cosine in zip(options.search, queries, q @ x.T, strict=True)
    ]
    for found in results:
        print(f"\n{found.name}: nearest of {len(names):,} images, by the cosine of features")
        for rank, i in enumerate(found.nearest, 1):
            print(f"{rank:4}{found.cosine[i]:8.3f}  {names[i]}" + f"  ({kinds[i]})" * bool(kinds[i]))

    folder = Path(made["data"])
    if dataset is None and (own or not (folder / names[0]).is_file()):
        dataset = opened(method, made["data"], options)
        if digest([dataset["images"]]) != made["images"]:
            raise ValueError(f"data {made['data']!r} have changed since {options.out} was made of them; make that anew")
    stored = lambda i: decode(folder / names[i]) if dataset is None else dataset["images"][i : i + 1]  # (1, H, W, C)
    caption = lambda i: f"{kinds[i]}\n{Path(names[i]).name}".strip()
    for found in results:
        titles = ["query\n" + (caption(found.query) if isinstance(found.query, int) else Path(found.name).name)]
        titles += [f"cosine {found.cosine[i]:.3f}\n{caption(i)}" for i in found.nearest]
        images = [stored(found.query) if isinstance(found.query, int) else found.query, *map(stored, found.nearest)]
        shown = [method.picture(backend.to_host(method.raw({"images": image})))[0] for image in images]
        title = f"Nearest of {len(names):,} images of {folder.name} by the features of {made['chapter']}"
        short = re.sub(r"[^\w-]+", "_", "_".join(Path(found.name).with_suffix("").parts[-2:])).strip("_")
        path = options.out.with_name(f"{options.out.stem}_nearest_{short}.png")
        viz.image_grid([shown], path, column_titles=titles, title=title)
        print(f"Picture: {path}")


def row_of(query: str, names: list[str], out: Path) -> int:
    if query not in names:
        raise ValueError(f"--search: {query!r} is neither a file nor an image of {out}, such as {names[0]!r}")
    return names.index(query)


def read_image(method: Method, options: Embed, size: int | None, file: Path) -> np.ndarray:
    """One file as (1, H, W, C), read in a folder of its own: exactly as in a folder of data."""
    with tempfile.TemporaryDirectory() as folder:
        copy = str(shutil.copy(file, folder))
        try:
            return opened(method, folder, options, size)["images"]
        except ValueError as error:
            reason = str(error.__cause__ or error)
            raise ValueError(reason.replace(copy, str(file)).replace(folder, str(file))) from error


def main(arguments: list[str]) -> None:
    try:
        options = tyro.cli(Embed, prog="python -m reference.embed", description=__doc__, args=arguments)
        backend.use(options.backend)
        there: tuple[Any, ...] = ()
        if options.checkpoint is not None and options.data is not None:
            there = embed(options, options.checkpoint, options.data)
        if options.search:
            search(options, *there)
    except (ValueError, TypeError, FloatingPointError, OSError, BackendUnavailable, data.DownloadFailed) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on where it stood.")
        sys.exit(130)


if __name__ == "__main__":
    main(sys.argv[1:])
