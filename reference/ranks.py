"""A command on several processes (ranks): who prints, who keeps the folder of a run, and how one's end is that of all.

`mpiexec -n 4 python -m reference simclr` starts the same command four times. Each trains on its part of every batch
(`minissl.parallel`), and all else is done alike by all: so nothing in a chapter asks who it is. Rank 0 prints and
leaves the folder; what the others print and write is thrown away.
"""

import hashlib
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import minissl
from minissl import parallel
from minissl.data import DataSet

PATIENCE = 2.0  # seconds that a rank waits for what rank 0 has to say, and for others that end, too
WHOLE = 1 << 26  # bytes up to which an array is compared whole, else some of its rows
ROWS = 1024


@contextmanager
def joined(errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """In here this process is one of the ranks that a launcher started, if one did; otherwise nothing is changed.

    An error ends all ranks, wherever they are: those of `errors` in one line, others with their traceback.
    """
    world = parallel.start()
    if world.size == 1:
        yield
        return
    threads = int(os.environ.setdefault("MINISSL_THREADS", "1"))  # cores are shared out by the launcher
    name, screen = f"rank {world.rank} of {world.size}", sys.stderr
    try:
        with threadpool_limits(threads, user_api="blas"), silenced(world.rank > 0):
            print(
                f"{world.size} processes over {world.name}, of {threads} {'threads' if threads > 1 else 'thread'} each"
            )
            yield
    except errors as error:
        message = f"{name}: error: {error}"
    except (SystemExit, KeyboardInterrupt) as end:
        code = end.code if isinstance(end, SystemExit) else 130
        if code in (0, None) or world.all_here(PATIENCE):
            raise
        world.abort(code if isinstance(code, int) else 1)
    except BaseException:
        message = f"{name}:\n{traceback.format_exc()}"
    else:
        return
    if world.rank > 0:  # where all have the same to say, rank 0 says it
        time.sleep(PATIENCE)
    print(message + "\n", end="", file=screen, flush=True)  # in one piece, as others may print too
    world.abort(1)


@contextmanager
def silenced(quiet: bool) -> Iterator[None]:
    if not quiet:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


@contextmanager
def folder(out: Path) -> Iterator[Path]:
    """Where this rank leaves what a run leaves: rank 0 in `out`, the others in a copy of it that is thrown away."""
    world = parallel.world()
    if world.size == 1:
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="minissl-") as aside:
        own = out
        if world.rank > 0:
            own = Path(aside, "run")
            if out.is_dir():  # a run that goes on
                shutil.copytree(out, own)
        world.barrier()  # rank 0 changes nothing before all have their copy
        yield own


def check_alike(settings: Mapping[str, Any], data: DataSet) -> None:
    """Raise ValueError, in all ranks, unless they run the same program with the same settings on the same data."""
    world = parallel.world()
    if world.size == 1:
        return
    digests = {
        "version of the program": digest(*sources()),
        "version of Python or NumPy": digest(f"{sys.version_info[:2]} {np.__version__}".encode()),
        "settings": digest(repr(sorted(settings.items())).encode()),
        "data": digest(*(part for name, array in sorted(data.arrays.items()) for part in fingerprint(name, array))),
    }
    own = np.stack([np.frombuffer(each, np.uint8) for each in digests.values()])  # (kinds, 32)
    every = world.all_gather(own[None])  # (ranks, kinds, 32)
    differs = (every != every[0]).any(axis=2)  # (ranks, kinds)
    if differs.any():
        found = [
            f"{kind} of rank {', '.join(map(str, np.flatnonzero(column)))}"
            for kind, column in zip(digests, differs.T, strict=True)
            if column.any()
        ]
        raise ValueError(f"all ranks must do the same, but not so: {'; '.join(found)} (rank 0 has another)")


def sources() -> Iterator[bytes]:
    """What the library and the chapters are made of."""
    for package in (Path(minissl.__file__).parent, Path(__file__).parent):
        for file in sorted(package.rglob("*.py")):
            yield str(file.relative_to(package)).encode() + file.read_bytes()


def fingerprint(name: str, array: np.ndarray) -> Iterator[bytes]:
    """Name, type, shape and numbers of an array; of a large one the numbers of some rows from all over it."""
    yield f"{name} {array.dtype} {array.shape}".encode()
    rows = range(len(array)) if array.nbytes <= WHOLE else np.linspace(0, len(array) - 1, ROWS).astype(int)
    for row in rows:
        yield np.asarray(array[row], order="C").tobytes()


def digest(*parts: bytes) -> bytes:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.digest()
