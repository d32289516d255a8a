"""Any number of scenes, streamed into a folder of .npy files."""

import multiprocessing
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from minissl.data.scenes.world import World
from minissl.data.stack import NAMES

_CHUNK = 64  # places that a worker makes at a time


def write(
    folder: str | os.PathLike[str], count: int, size: int = 64, seed: int = 0, workers: int = 1, **options: Any
) -> None:
    """The data set of `generate` and its options, as a folder that `minissl.data.read_stack` maps.

    `workers` processes share the work; the files do not depend on how many. (A script that asks for several must keep
    its own commands under `if __name__ == "__main__":`, for each process imports it.) The folder is written under
    another name and renamed at the end: it is whole or not there. Raises ValueError if it exists, or as `generate`.
    """
    folder, world = Path(folder).expanduser(), World(size, seed, **options)
    arrays = world.arrays(count)
    if folder.exists():
        raise ValueError(f"{folder} exists already; remove it, or choose another name")
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.unfinished")
    unfinished.mkdir(parents=True)
    try:
        for name, (shape, kind) in arrays.items():
            np.lib.format.open_memmap(unfinished / f"{name}.npy", "w+", kind, shape)
        for name in NAMES:
            if world.names[name]:
                np.save(unfinished / f"{name}.npy", np.array(world.names[name]))
        files = {name: unfinished / f"{name}.npy" for name in arrays}
        chunks = [(world, files, start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
        if workers > 1:
            with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
                list(pool.map(_fill, *zip(*chunks, strict=True)))
        else:
            for chunk in chunks:
                _fill(*chunk)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _fill(world: World, files: dict[str, Path], start: int, stop: int) -> None:
    world.fill({name: np.lib.format.open_memmap(file, "r+") for name, file in files.items()}, start, stop)
