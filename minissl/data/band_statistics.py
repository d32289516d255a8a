"""Mean and deviation of every band, in one pass over a set of any size, kept beside it for the next time."""

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minissl.augment.statistics import CHUNK, channel_statistics
from minissl.data.dataset import DataSet

KEYS = ("images", "seasons", "sar")

logger = logging.getLogger("minissl.data")


class BandStatistics(NamedTuple):
    """Of one array: per band the mean, the (biased) standard deviation, and how many values are finite, so measured."""

    mean: list[float]
    deviation: list[float]
    measured: list[int]


def statistics(
    data: DataSet | str | os.PathLike[str], beside: str | os.PathLike[str] | None = None, **options: Any
) -> dict[str, BandStatistics]:
    """The statistics of "images", "seasons" and "sar", those of them that there are, in the units of the arrays.

    `data` is a data set, or a path or name that `open_data` opens with `options`. uint8 counts as [0, 1].

    They are kept in PATH.statistics.json, where PATH is `data` or else `beside`, and used again while the same rows are
    asked for and no file below PATH is new, gone or changed; where that can't be written, there is no copy. A data set
    without `beside` is always read. Raises ValueError for a band without a single measurement, and as `open_data` does.
    """
    from minissl.data import open_data

    where = Path(beside if beside is not None else "" if isinstance(data, DataSet) else data).expanduser()
    kept = where.with_name(f"{where.name}.statistics.json") if where.name and where.exists() else None
    described = _rows(data) if isinstance(data, DataSet) else {"options": repr(sorted(options.items()))}
    identity = described | ({"files": _files(where)} if kept else {})
    name = hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=8).hexdigest()
    known = _load(kept)
    if name in known:
        return {key: BandStatistics(**numbers) for key, numbers in known[name]["statistics"].items()}
    dataset = data if isinstance(data, DataSet) else open_data(data, **options)
    found = {key: measure(dataset[key]) for key in KEYS if key in dataset}
    if kept:
        fresh = {key: entry for key, entry in known.items() if entry["of"].get("files") == identity["files"]}
        _save(kept, fresh | {name: {"of": identity, "statistics": {k: v._asdict() for k, v in found.items()}}})
    return found


def measure(array: np.ndarray) -> BandStatistics:
    """One pass over an array (N, ..., C), which may be mapped, in float64; what is NaN or infinite is not counted.

    Parts of sizes n and m are merged as Chan et al. 1979 do: d is the difference of their means,
    mean += d m / (n + m) and squares += squares' + d² n m / (n + m).
    """
    C = array.shape[-1]
    count, mean, squares = np.zeros(C, np.int64), np.zeros(C), np.zeros(C)
    for part in _parts(array):
        m, part_mean, deviation = _of(part)
        total = np.maximum(count + m, 1)
        difference = part_mean - mean
        mean = mean + difference * m / total
        squares = squares + deviation**2 * m + difference**2 * count * m / total
        count = count + m
    if not count.all():
        raise ValueError(f"statistics: bands {np.flatnonzero(count == 0).tolist()} hold no measurement; drop them")
    return BandStatistics(mean.tolist(), np.sqrt(squares / count).tolist(), count.tolist())


def _parts(array: np.ndarray) -> Iterator[np.ndarray]:
    """An array as blocks (n, H, W, C) of some rows each."""
    step = max(1, CHUNK // int(np.prod(array.shape[1:])))
    for start in range(0, len(array), step):
        yield np.asarray(array[start : start + step]).reshape(-1, *array.shape[-3:])


def _of(part: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count, mean and deviation of each band of a block, (C,) each."""
    C = part.shape[-1]
    if part.dtype.kind != "f" or np.isfinite(part).all():
        mean, deviation = channel_statistics(part)
        return np.full(C, part.size // C), np.array(mean), np.array(deviation)
    count, means, deviations = np.zeros(C, np.int64), np.zeros(C), np.zeros(C)
    for c in range(C):
        values = part[..., c][np.isfinite(part[..., c])]
        count[c] = len(values)
        if len(values):
            (means[c],), (deviations[c],) = channel_statistics(values[:, None, None, None])
    return count, means, deviations


def _rows(data: DataSet) -> dict[str, Any]:
    """What tells a data set, or a part of it, from another of the same files: paths, shapes, and some of its rows."""
    names = hashlib.blake2b("\n".join(map(str, data["path"])).encode() if "path" in data else b"", digest_size=8)
    some = data.some(16)
    for key in KEYS:
        names.update(np.ascontiguousarray(some[key]).data if key in some else b"")
    arrays = {key: [list(data[key].shape), str(data[key].dtype)] for key in KEYS if key in data}
    return {"arrays": arrays, "bands": list(data.bands), "rows": names.hexdigest()}


def _files(path: Path) -> dict[str, Any]:
    """How many files a path holds, and a hash of their names, sizes and times."""
    told = []
    for folder, _, names in os.walk(path):
        for name in names:
            status = os.lstat(os.path.join(folder, name))
            told.append(f"{os.path.relpath(folder, path)}/{name} {status.st_size} {status.st_mtime_ns}")
    if path.is_file():
        told.append(f"{path.stat().st_size} {path.stat().st_mtime_ns}")
    text = "\n".join(sorted(told)).encode("utf-8", "surrogateescape")
    return {"count": len(told), "hash": hashlib.blake2b(text, digest_size=8).hexdigest()}


def _load(kept: Path | None) -> dict[str, Any]:
    """What was kept; nothing where that is unreadable."""
    try:
        return json.loads(kept.read_text()) if kept else {}
    except (OSError, ValueError):
        return {}


def _save(kept: Path, entries: dict[str, Any]) -> None:
    unfinished = kept.with_name(f".{kept.name}.{os.getpid()}")
    try:
        unfinished.write_text(json.dumps(entries, indent=1))
        unfinished.replace(kept)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        logger.info("statistics are not kept: %s", error)
