"""Whatever ends one rank ends them all, within seconds and with a word on why; the last checkpoint stays as it was."""

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minissl import checkpoint
from tests.parallel.launching import ROOT, environment, launch, needs_mpi, run

pytestmark = needs_mpi
# 86 training images: three steps an epoch, six in all.
SETTINGS = shlex.split(
    "simclr --scenes 120 --image-size 16 --epochs 2 --batch-size 24 --width 4 --embedding 16 --no-baselines"
)

# Runs the command; before a chosen training step a chosen rank does something.
DRIVER = """
import os, signal, sys, time
from minissl import parallel
from reference import __main__, method, ranks

rank, number, deed = sys.argv[1].split(maxsplit=2)
step, calls = method.Method.training_step, 0

def watched(*arguments):
    global calls
    calls += 1
    if calls == int(number) and parallel.world().rank == int(rank):
        exec(deed)
    return step(*arguments)

def other_data(chapter, config, original=method.Method.open_data.__func__):
    found = original(chapter, config)
    found["labels"][0] = 9 - found["labels"][0]
    return found

method.Method.training_step = watched
if number == "0":
    parallel.start()
    if parallel.world().rank == int(rank):
        exec(deed)
__main__.main(sys.argv[2:])
"""


def disturbed(ranks: int, where: str, *arguments: Any) -> subprocess.CompletedProcess[str]:
    """The command on several ranks, of which one does a deed: "rank step deed", before its n-th step or at once (0)."""
    return run(ranks, "-c", DRIVER, where, *SETTINGS, *arguments)


def standing(folder: Path) -> tuple[int, int]:
    progress = checkpoint.load(folder / "checkpoint.safetensors")[1]["progress"]
    return progress["epoch"], progress["batch"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process."""
    out = tmp_path_factory.mktemp("whole") / "run"
    done = run(1, "-m", "reference", *SETTINGS, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


def check_same(folder: Path, whole: Path) -> None:
    """The same files, and in float32 nearly the same numbers."""
    assert {file.name for file in folder.iterdir()} == {file.name for file in whole.iterdir()}
    for name in ("encoder.conv1.weight", "head.0.weight"):
        a, b = (checkpoint.load(each / "checkpoint.safetensors")[0][f"method.{name}"] for each in (folder, whole))
        np.testing.assert_allclose(a, b, atol=2e-3)
    lines = [
        [json.loads(line) for line in (each / "metrics.jsonl").read_text().splitlines()] for each in (folder, whole)
    ]
    for a, b in zip(*lines, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-2) and a["epoch"] == b["epoch"]


def test_two_ranks_leave_what_one_process_leaves(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = run(2, "-m", "reference", *SETTINGS, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "2 processes over MPI, of 1 thread each"
    assert sum(line.startswith("epoch 1/2") for line in lines) == 1  # one of them prints
    check_same(out, whole)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_ctrl_c_saves_once_and_another_number_of_ranks_goes_on(
    before: int, after: int, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    stopped = disturbed(before, f"{before - 1} 5 os.kill(os.getpid(), signal.SIGINT)", "--out", out)
    assert stopped.returncode == 130, stopped.stdout + stopped.stderr
    assert stopped.stdout.splitlines()[-1].endswith(f"Continue with: python -m reference simclr --resume {out}")
    assert standing(out) == (1, 2)  # the same step, whichever rank was told
    done = run(after, "-m", "reference", "simclr", "--resume", out)
    assert done.returncode == 0, done.stdout + done.stderr
    check_same(out, whole)


def test_ctrl_c_at_the_launcher_reaches_all(tmp_path: Path) -> None:
    out = tmp_path / "run"
    line = launch(2, "-m", "reference", *SETTINGS, "--epochs", "500", "--out", out)
    process = subprocess.Popen(line, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not (out / "checkpoint.safetensors").exists() and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and printed.count("Interrupted. Continue with") == 1
    assert standing(out)[0] < 500


DEEDS = {
    "raises what is known": ("raise ValueError('no such thing')", "rank 1 of 2: error: no such thing"),
    "raises what is not": ("1 / 0", "ZeroDivisionError: division by zero"),
    "is killed": ("os.kill(os.getpid(), signal.SIGKILL)", "Killed (signal 9)"),
    "leaves": ("sys.exit(3)", ""),
}


@pytest.mark.parametrize(("deed", "message"), DEEDS.values(), ids=DEEDS.keys())
def test_the_end_of_one_rank_is_that_of_all(deed: str, message: str, tmp_path: Path) -> None:
    done = disturbed(2, f"1 5 {deed}", "--out", tmp_path / "run")
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert standing(tmp_path / "run") == (1, 0)  # that of the first epoch, and whole


CHANGES = {
    "other data": ("method.Method.open_data = classmethod(other_data)", "data of rank 1"),
    "another version": ("ranks.sources = lambda: [b'']", "version of the program of rank 1"),
    "other settings": ("sys.argv += ['--seed', '1']", "settings of rank 1; data of rank 1"),
}


@pytest.mark.parametrize(("deed", "message"), CHANGES.values(), ids=CHANGES.keys())
def test_ranks_that_do_not_do_the_same_are_named(deed: str, message: str, tmp_path: Path) -> None:
    done = disturbed(2, f"1 0 {deed}", "--out", tmp_path / "run")
    assert done.returncode == 1
    assert f"all ranks must do the same, but not so: {message} (rank 0 has another)" in done.stderr
    assert done.stderr.count("error:") == 1  # both say it, and one prints


def test_a_wrong_launcher_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    done = run(1, "-m", "reference", *SETTINGS, "--out", tmp_path / "run", OMPI_COMM_WORLD_SIZE="4")
    assert done.returncode == 1
    assert "the launcher started 4 processes, but MPI says 1" in done.stderr
    assert f"use the one in {Path(sys.executable).parent}" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["simclr", "--batch-size", "25"], "rank 0 of 2: error: a batch of 25 cannot be shared out to 2 processes"),
        (["simclr", "--batch-size", "6", "--accumulate", "2"], "--accumulate 2: expected a divisor of the 3 images"),
        (["moco", "--batch-size", "24", "--sub-batches", "3"], "--sub-batches 3: 2 processes have equally many each"),
        (["league"], "rank 0 of 2: error: league is no chapter"),
    ],
)
def test_what_cannot_be_shared_out_is_an_error(arguments: list[str], message: str, tmp_path: Path) -> None:
    data = shlex.split(f"--scenes 60 --image-size 16 --out {tmp_path / 'run'}") if arguments != ["league"] else []
    done = run(2, "-m", "reference", *arguments, *data, COLUMNS="200")
    assert done.returncode != 0 and done.stderr.count(message) == 1  # both say it, and one prints
