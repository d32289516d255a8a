"""minissl.checkpoint: bit-exact round trips, and nothing but whole checkpoints whenever the process is killed."""

import json
import math
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import safetensors.numpy

from minissl import checkpoint

RNG = np.random.default_rng(0)
NORMAL = RNG.standard_normal((4, 5, 6))
ARRAYS = {
    "float16": NORMAL.astype(np.float16),
    "float32": NORMAL.astype(np.float32),
    "float64": NORMAL,
    "int64": RNG.integers(-(2**62), 2**62, (7,)),
    "uint8": RNG.integers(0, 256, (3, 3), dtype=np.uint8),
    "bool": NORMAL > 0,
    "NaN, infinity, minus zero": np.array([np.nan, np.inf, -np.inf, -0.0]),
    "0-d": np.array(2.5),
    "empty": np.zeros((0, 3), np.float32),
    "strided": NORMAL[::2, 1:4, ::-1],
    "transposed": NORMAL.T,
    "Fortran": np.asfortranarray(NORMAL),
    "broadcast": np.broadcast_to(np.arange(3), (4, 3)),
    "big-endian": NORMAL.astype(">f8"),
    "big-endian, transposed": np.arange(6, dtype=">i4").reshape(2, 3).T,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "checkpoint.safetensors"


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back_bit_for_bit(path: Path, name: str) -> None:
    checkpoint.save(path, {name: ARRAYS[name]}, {})
    back = checkpoint.load(path)[0][name]
    assert back.dtype == ARRAYS[name].dtype.newbyteorder("=") and back.shape == ARRAYS[name].shape
    assert back.tobytes() == ARRAYS[name].astype(back.dtype).tobytes()
    assert back.flags.writeable


def test_state_comes_back_and_has_a_readable_copy(path: Path) -> None:
    state = {"epoch": 3, "config": {"rate": 0.1, "names": ["é", "b"]}, "random": np.random.PCG64(1).state}
    checkpoint.save(path, ARRAYS, state)
    assert checkpoint.load(path)[1] == state
    readable = path.with_suffix(".json")
    assert json.loads(readable.read_text()) == state
    readable.write_text('{"epoch": 99}')
    assert checkpoint.load(path)[1] == state  # the copy is for people only
    assert sorted(os.listdir(path.parent)) == ["checkpoint.json", "checkpoint.safetensors"]


def test_state_keeps_nan_and_infinity_and_simplifies_scalars_and_paths(path: Path) -> None:
    checkpoint.save(path, {}, {"loss": math.nan, "best": math.inf, "step": np.int64(7), "data": Path("patches")})
    state = checkpoint.load(path)[1]
    assert math.isnan(state.pop("loss"))
    assert state == {"best": math.inf, "step": 7, "data": "patches"}


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "object", "U3", "datetime64[s]", "longdouble", "i4,f4"])
def test_a_dtype_that_the_format_lacks_is_refused_by_name(path: Path, dtype: str) -> None:
    with pytest.raises(TypeError, match=r"array 'encoder\.bias' has dtype"):
        checkpoint.save(path, {"encoder.bias": np.zeros(2, dtype)}, {})
    assert not path.exists()


def test_a_state_that_is_not_json_is_refused_before_anything_is_written(path: Path) -> None:
    circle: list = []
    circle.append(circle)
    for value in (np.zeros(3), {1, 2}, circle):
        with pytest.raises(TypeError, match="state cannot be written as JSON"):
            checkpoint.save(path, {}, {"value": value})
    assert not path.exists()


def test_a_name_without_the_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in \.safetensors"):
        checkpoint.save(tmp_path / "run.json", {}, {})


def test_missing_truncated_damaged_and_foreign_files_are_named(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint '.*checkpoint\.safetensors'.*without resuming"):
        checkpoint.load(path)
    checkpoint.save(path, ARRAYS, {"epoch": 1})
    whole = path.read_bytes()
    for damaged in (b"", whole[:5], whole[:40], whole[:-1], b"\xff" * 100, whole[:8] + b"?" + whole[9:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"checkpoint\.safetensors' is truncated or damaged .*resume from another"):
            checkpoint.load(path)
    for metadata in (None, {"format": "np"}):
        safetensors.numpy.save_file({"weight": NORMAL}, path, metadata=metadata)
        with pytest.raises(ValueError, match=r"checkpoint\.safetensors' is a safetensors file without a minissl state"):
            checkpoint.load(path)


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_write_that_ends_before_the_rename_leaves_the_old_checkpoint(
    path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(path, {"count": np.array(1)}, {"count": 1})

    def die(*arguments: object, **options: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, moment, die)
        patch.setattr(Path, "unlink", die)  # a killed process cleans up nothing
        with pytest.raises(Killed):
            checkpoint.save(path, {"count": np.array(2)}, {"count": 2})
    assert len(os.listdir(path.parent)) == 3  # the two files and what the killed write left
    arrays, state = checkpoint.load(path)
    assert arrays["count"] == state["count"] == 1
    checkpoint.save(path, {"count": np.array(3)}, {"count": 3})
    assert sorted(os.listdir(path.parent)) == ["checkpoint.json", "checkpoint.safetensors"]


def test_the_data_is_on_the_disk_before_the_rename_and_the_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Mock(wraps=os)
    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, getattr(watched, name))
    checkpoint.write_json(tmp_path / "results.json", [1])
    assert [call[0] for call in watched.mock_calls] == ["fsync", "replace", "fsync"]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.write_json(tmp_path / "results.json", [1])
    assert os.listdir(tmp_path) == []


SAVE_FOR_EVER = """
import itertools, sys
import numpy as np
from minissl import checkpoint
path, start = sys.argv[1], int(sys.argv[2])
for count in itertools.count(start):
    arrays = {name: np.full((200, 1000), count) for name in "abc"}
    checkpoint.save(path, arrays, {"count": count, "ballast": "x" * 100_000})
    if count == start: print("saved", flush=True)
"""


def test_killed_at_random_moments_it_leaves_one_whole_checkpoint(path: Path) -> None:
    count, moments = 0, random.Random(0)
    for _ in range(6):
        command = [sys.executable, "-c", SAVE_FOR_EVER, str(path), str(count + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stdout.readline() == "saved\n"
            time.sleep(moments.uniform(0, 0.1))
            process.kill()
        arrays, state = checkpoint.load(path)
        assert state["count"] > count
        count = state["count"]
        assert sorted(arrays) == ["a", "b", "c"] and all((array == count).all() for array in arrays.values())
        assert json.loads(path.with_suffix(".json").read_text())["count"] in (count - 1, count)
