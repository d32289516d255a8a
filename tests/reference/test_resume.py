"""A run that was killed or interrupted anywhere, and resumed, ends with the bits of one that never was."""

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from minissl import checkpoint

# 86 training images: three steps an epoch, six in all, then six of the supervised baseline.
SETTINGS = shlex.split("--scenes 120 --image-size 16 --epochs 2 --batch-size 24 --width 4 --embedding 16")
ROOT = Path(__file__).parents[2]

# Runs the command, and sends itself signals before (or after) a chosen call of a chosen function.
DRIVER = """
import os, signal, sys
from minissl import evaluation
from reference import __main__, method, trainer

owner, name, moment, number, *signals = sys.argv[1].split()
owner = eval(owner)
original, calls = getattr(owner, name), 0

def counted(*args, **options):
    global calls
    calls += 1
    if moment == "after":
        result = original(*args, **options)
    if calls == int(number):
        for each in signals:
            os.kill(os.getpid(), getattr(signal, each))
    return result if moment == "after" else original(*args, **options)

setattr(owner, name, counted)
__main__.main(["simclr", *sys.argv[2:]])
"""


def command(*arguments: Any) -> subprocess.CompletedProcess[str]:
    """`python -m reference simclr` with these arguments, as a user types it."""
    line = [sys.executable, "-m", "reference", "simclr", *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True)


def interrupt(where: str, *arguments: Any) -> subprocess.CompletedProcess[str]:
    """The same command, hit by signals at `where`: "owner function before|after call-number SIGNAL ..."."""
    line = [sys.executable, "-c", DRIVER, where, *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True)


def outcome(run: Path) -> dict[str, Any]:
    """All that a run leaves and that no clock decides: probes, lines of metrics, weights and momentum."""
    found: dict[str, Any] = {"probes": json.loads((run / "results.json").read_text())["probes"]}
    for name in ("", "supervised_"):
        lines = [json.loads(line) for line in (run / f"{name}metrics.jsonl").read_text().splitlines()]
        found[f"{name}metrics"] = [{key: line[key] for key in line if key != "seconds"} for line in lines]
        arrays, state = checkpoint.load(run / f"{name}checkpoint.safetensors")
        found[f"{name}steps"] = state["optimizer_steps"]
        found |= {name + key: (array.dtype.name, array.shape, array.tobytes()) for key, array in arrays.items()}
    return found


def standing(run: Path, name: str = "") -> tuple[int, int]:
    """The epoch and batch that a checkpoint would do next."""
    progress = checkpoint.load(run / f"{name}checkpoint.safetensors")[1]["progress"]
    return progress["epoch"], progress["batch"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcome of a run that nothing disturbed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    done = command(*SETTINGS, "--out", run)
    assert done.returncode == 0, done.stderr
    assert [line["epoch"] for line in outcome(run)["metrics"]] == [1, 2]
    assert set(outcome(run)["steps"]) == {6}
    return outcome(run)


# Where a run is killed, and what its checkpoint then says is next.
KILLS = {
    "before the first checkpoint": ("method.Method training_step before 2 SIGKILL", None),
    "in the middle of an epoch": ("method.Method training_step before 5 SIGKILL", (1, 0)),
    # os.replace: config.json, then for every checkpoint its .safetensors and its .json
    "a checkpoint is written but not yet in place": ("os replace before 6 SIGKILL", (1, 0)),
    "between the checkpoint and its copy for people": ("os replace before 7 SIGKILL", (2, 0)),
    "between the checkpoint and the line of metrics": ("trainer save after 1 SIGKILL", (1, 0)),
    "in the supervised baseline": ("method.Method training_step before 11 SIGKILL", (2, 0)),
}


@pytest.mark.parametrize(("where", "saved"), KILLS.values(), ids=KILLS.keys())
def test_a_killed_run_resumes_to_the_same_bits(
    where: str, saved: tuple[int, int] | None, whole: dict[str, Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert interrupt(where, *SETTINGS, "--out", run).returncode == -signal.SIGKILL
    assert not (run / "results.json").exists()
    assert (standing(run) if (run / "checkpoint.safetensors").exists() else None) == saved
    done = command("--resume", run, "--workers", 0)  # how many threads read must not matter
    assert done.returncode == 0, done.stderr
    assert outcome(run) == whole


def test_metrics_that_disagree_with_the_checkpoint_are_put_right(whole: dict[str, Any], tmp_path: Path) -> None:
    for damage in ("", json.dumps({"epoch": 1}) + "\n" + json.dumps({"epoch": 2, "loss": -1}) + "\n" + '{"epoch": 3,'):
        run = tmp_path / f"run{len(damage)}"
        where, _ = KILLS["in the middle of an epoch"]
        assert interrupt(where, *SETTINGS, "--out", run).returncode == -signal.SIGKILL
        (run / "metrics.jsonl").write_text(damage)
        assert command("--resume", run).returncode == 0
        assert outcome(run) == whole


INTERRUPTS = {
    "in an epoch": ("method.Method training_step before 5 SIGINT", "", (1, 2)),
    "in the last step of an epoch": ("method.Method training_step before 3 SIGINT", "", (1, 0)),
    "in the last step of all": ("method.Method training_step before 6 SIGINT", "", (2, 0)),
    "in the supervised baseline": ("method.Method training_step before 11 SIGINT", "supervised_", (1, 2)),
    "in a probe": ("evaluation linear_probe before 2 SIGINT", "supervised_", (2, 0)),
    "twice, to end at once": ("method.Method training_step before 5 SIGINT SIGINT", "", (1, 0)),
}


@pytest.mark.parametrize(("where", "name", "saved"), INTERRUPTS.values(), ids=INTERRUPTS.keys())
def test_ctrl_c_says_how_to_resume(
    where: str, name: str, saved: tuple[int, int], whole: dict[str, Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    stopped = interrupt(where, *SETTINGS, "--out", run)
    assert stopped.returncode == 130
    assert stopped.stdout.splitlines()[-1].endswith(f"Continue with: python -m reference simclr --resume {run}")
    assert "Traceback" not in stopped.stderr
    assert standing(run, name) == saved
    done = command("--resume", run)
    assert done.returncode == 0, done.stderr
    assert outcome(run) == whole


def test_a_finished_run_can_be_resumed(whole: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    command(*SETTINGS, "--out", run)
    trained = (run / "checkpoint.safetensors").stat().st_mtime_ns
    (run / "results.json").unlink()
    assert command("--resume", run, "--epochs", 2).returncode == 0  # a flag that agrees is welcome
    assert (run / "checkpoint.safetensors").stat().st_mtime_ns == trained  # nothing was left to train
    assert outcome(run) == whole
