"""Checkpoints: arrays and the state they belong to in one safetensors file, replaced whole or not at all.

    save("runs/simclr/checkpoint.safetensors", {"encoder.0.weight": weight}, {"epoch": 3, "config": {...}})
    arrays, state = load("runs/simclr/checkpoint.safetensors")

The state is JSON inside the header of the safetensors file, because two files cannot be replaced in one step: a process
killed between them would leave weights of one epoch beside the step counter of another. `checkpoint.json` beside it is
a copy of the state for people to read; `load` never opens it.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from minissl.backend import Array, to_host

__all__ = ["load", "save", "write_json"]

_DTYPES = (
    *("bool", "float16", "float32", "float64"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)


def save(path: str | os.PathLike[str], arrays: Mapping[str, Array], state: Mapping[str, Any]) -> None:
    """Replace the checkpoint at `path` (a name ending in .safetensors) by these arrays and this state.

    Killed at any moment, it leaves the old checkpoint or the new one, complete. Folders are made as needed. One process
    writes to a path at a time: with several, rank 0 saves.

    Arrays live on any backend, in any memory order. `state` is what JSON holds: NaN and infinity survive, tuples
    come back as lists, keys and paths as strings, NumPy scalars as numbers.

    Raises TypeError for an array of complex, object, text or other types that the format lacks and for a state that is
    not JSON; ValueError for a path that does not end in .safetensors.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"save: a checkpoint's name ends in .safetensors, got {str(path)!r}")
    text = _to_json(state, "state")
    host = {name: _plain(name, array) for name, array in arrays.items()}
    _replace(path, safetensors.numpy.save(host, metadata={"state": text}))
    write_json(path.with_suffix(".json"), state)


def load(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays (on the host, writable) and the state that `save` wrote to `path`.

    Raises FileNotFoundError when there is no such file, and ValueError when it is damaged or not one of ours.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"load: there is no checkpoint {str(path)!r}; check the path, or train without resuming"
        )
    try:
        with safetensors.safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (the file is not a dict)
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"load: checkpoint {str(path)!r} is truncated or damaged ({error}); delete it, or resume from another"
        ) from error
    if "state" not in metadata:
        raise ValueError(
            f"load: {str(path)!r} is a safetensors file without a minissl state, so there is nothing to resume from; "
            "read bare weights with safetensors.numpy.load_file"
        )
    return arrays, json.loads(metadata["state"])


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Replace the file at `path` by `value` as indented JSON, whole or not at all. Raises TypeError if it is not JSON.

    NaN and infinity become `NaN` and `Infinity`, as Python's json writes and reads them: a run that diverged still has
    results to tell.
    """
    _replace(Path(path), (_to_json(value, "value", indent=2) + "\n").encode())


def _to_json(value: Any, what: str, indent: int | None = None) -> str:
    try:
        return json.dumps(value, indent=indent, default=_simplify)
    except (TypeError, ValueError) as error:  # ValueError: a container that holds itself
        raise TypeError(f"{what} cannot be written as JSON: {error}") from error


def _simplify(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"a {type(value).__name__} is not JSON; arrays belong among the checkpoint's arrays")


def _plain(name: str, array: Array) -> np.ndarray:
    """`array` on the host as safetensors can write it."""
    host = to_host(array)
    if host.dtype.name not in _DTYPES:
        raise TypeError(f"save: array {name!r} has dtype {host.dtype}; a checkpoint holds {', '.join(_DTYPES)}")
    # safetensors copies memory as it lies: for any other order it would write wrong values without a word.
    # (np.ascontiguousarray would turn a 0-d array into a 1-d one.)
    return np.asarray(host, order="C")


def _replace(path: Path, data: bytes) -> None:
    """Write `data` aside in the same folder, make sure that it is on the disk, then let it take the place of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A fixed name: what a killed write left behind is overwritten by the next one. safetensors' own save_file would
    # leave a file of random name behind, and make the checkpoint unreadable to others (mode 0600).
    aside = path.with_name(path.name + ".tmp")
    try:
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    if hasattr(os, "O_DIRECTORY"):  # not on Windows: there a folder cannot be opened
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # the new name itself is on the disk only after this
        finally:
            os.close(folder)
