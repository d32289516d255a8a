"""`minissl.parallel` and what rests on it, on real ranks; on GPUs, or CuPy's stand-in, in NCCL's form."""

import subprocess
import sys

import numpy as np
import pytest

from minissl import parallel
from minissl.tensor import Tensor
from tests.parallel.launching import ROOT, needs_mpi, run


@needs_mpi
@pytest.mark.parametrize(("backend", "ranks", "name"), [("numpy", 2, "MPI"), ("numpy", 4, "MPI"), ("cupy", 2, "NCCL")])
def test_every_rank_finds_what_one_process_would(backend: str, ranks: int, name: str) -> None:
    done = run(ranks, "-m", "tests.parallel.pieces", backend)
    assert done.returncode == 0, done.stdout + done.stderr
    # Counted, not compared line by line: what ranks print at the same time may run into each other.
    assert [done.stdout.count(f"{name} {rank}") for rank in range(ranks)] == [1] * ranks


def test_alone_nothing_is_sent_and_nothing_imported() -> None:
    world = parallel.start()
    assert world is parallel.ALONE and (world.rank, world.size) == (0, 1)
    a, z = np.arange(3.0), Tensor(np.ones((2, 2)), requires_grad=True)
    assert world.all_reduce(a) is a and world.all_gather(a) is a and world.broadcast(a) is a
    assert parallel.gather(z) is z and parallel.mean([a])[0] is a and parallel.own_rows(a) is not None
    program = "import sys; from minissl import parallel; parallel.start(); import reference.__main__; "
    program += "print([m for m in sys.modules if m.startswith('mpi4py')])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_without_mpi4py_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMI_SIZE", "4")
    monkeypatch.setattr(parallel.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"4 processes were started, but mpi4py is not installed: .*minissl\[mpi\]"):
        parallel.start()
    assert parallel.world() is parallel.ALONE
