"""Start programs on several ranks, for tests; skips them where there is no mpiexec or mpi4py."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BESIDE = Path(sys.executable).parent / "mpiexec"  # of the same environment, whatever PATH says
MPIEXEC = str(BESIDE) if BESIDE.exists() else shutil.which("mpiexec")
MISSING = [name for name, found in (("mpi4py", importlib.util.find_spec("mpi4py")), ("mpiexec", MPIEXEC)) if not found]

needs_mpi = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}; pip install 'minissl[mpi]'")


def environment(**more: str) -> dict[str, str]:
    """This process's, with few threads, and without what an outer launcher may have left in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PMI_", "OMPI_", "SLURM_"))}
    return kept | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"} | more


def launch(ranks: int, *command: Any) -> list[str]:
    """The command line that runs a Python program on so many ranks; one rank is a process as any other."""
    started = [sys.executable, *map(str, command)]
    return [str(MPIEXEC), "-n", str(ranks), *started] if ranks > 1 else started


def run(ranks: int, *command: Any, timeout: float = 600, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        launch(ranks, *command), cwd=ROOT, env=environment(**more), capture_output=True, text=True, timeout=timeout
    )


def together(runs: Sequence[tuple[int, Sequence[Any]]], timeout: float = 600) -> list[str]:
    """Run several programs at once, and return what each printed. Raises AssertionError where one fails."""
    started = [
        subprocess.Popen(
            launch(ranks, *command),
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for ranks, command in runs
    ]
    printed = [process.communicate(timeout=timeout)[0] for process in started]
    for process, text in zip(started, printed, strict=True):
        assert process.returncode == 0, text
    return printed
