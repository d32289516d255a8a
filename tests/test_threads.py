"""Several Python threads, one BLAS thread in each: order, errors, scratch memory, and no trace left behind."""

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import threadpoolctl

from minissl import backend
from minissl.backend.cpu import threads


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10])
def test_split_covers_the_range_once_and_in_order(three_threads: pytest.MonkeyPatch, n: int) -> None:
    parts = threads.split(lambda start, stop: list(range(start, stop)), n, n)
    assert [*itertools.chain(*parts)] == [*range(n)] and len(parts) == max(1, min(3, n))


def test_work_on_few_elements_is_not_split(three_threads: pytest.MonkeyPatch) -> None:
    three_threads.setattr(threads, "WORTH_SPLITTING", 100)
    assert threads.split(lambda start, stop: (start, stop), 10, 99) == [(0, 10)]
    assert threads.split(lambda start, stop: (start, stop), 10, 100) == [(0, 3), (3, 6), (6, 10)]


def test_split_uses_several_threads_at_once(three_threads: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(3, timeout=30)  # nobody passes before all three are here
    names = threads.split(lambda start, stop: (together.wait(), threading.get_ident())[1], 3, 3)
    assert len(set(names)) == 3


@pytest.mark.parametrize("guilty", [0, 1, 2])
def test_an_error_in_a_thread_surfaces_after_all_have_finished(three_threads: pytest.MonkeyPatch, guilty: int) -> None:
    finished = []

    def work(start: int, stop: int) -> None:
        if start == guilty:
            raise ArithmeticError(f"part {start}")
        threading.Event().wait(0.02)
        finished.append(start)

    with pytest.raises(ArithmeticError, match=f"part {guilty}"):
        threads.split(work, 3, 3)
    assert sorted(finished) == [i for i in range(3) if i != guilty]
    assert threads.split(lambda start, stop: stop - start, 3, 3) == [1, 1, 1]  # and the next call is split again


def test_a_split_inside_a_split_does_not_wait_for_a_thread(three_threads: pytest.MonkeyPatch) -> None:
    inner = threads.split(lambda a, b: threads.split(lambda c, d: (threading.get_ident(), d - c), 6, 6), 3, 3)
    assert [len(parts) for parts in inner] == [1, 1, 1]
    assert all(parts[0][1] == 6 for parts in inner)


def test_workspaces_of_two_threads_or_two_names_are_distinct(three_threads: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(3, timeout=30)

    def work(start: int, stop: int) -> list[np.ndarray]:
        together.wait()
        return [threads.workspace(name, (2, 3), np.dtype("float32")) for name in ("one", "other")]

    arrays = [*itertools.chain(*threads.split(work, 3, 3))]
    for i, array in enumerate(arrays):
        array[...] = i
    assert [float(array.min()) for array in arrays] == [float(array.max()) for array in arrays] == list(range(6))


def test_a_workspace_is_reused_and_grows() -> None:
    first = threads.workspace("growing", (4,), np.dtype("float64"))
    assert np.shares_memory(threads.workspace("growing", (2, 2), np.dtype("float32")), first)
    assert threads.workspace("growing", (100, 3), np.dtype("float32")).shape == (100, 3)


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture
def two_blas_threads(three_threads: pytest.MonkeyPatch) -> Iterator[None]:
    with threadpoolctl.threadpool_limits(2, "blas"):
        if blas_threads() != {2}:
            pytest.skip("this BLAS does not run two threads here")
        yield


def test_the_blas_is_limited_inside_a_kernel_and_as_before_after_it(two_blas_threads: None) -> None:
    assert threads.split(lambda start, stop: blas_threads(), 3, 3) == [{1}, {1}, {1}]
    assert blas_threads() == {2}
    with pytest.raises(KeyError), threads.one_blas_thread():
        with threads.one_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == {1}
        raise KeyError
    assert blas_threads() == {2}
    with backend.get("numpy").training_run():
        assert blas_threads() == {1}
        threads.split(lambda start, stop: None, 3, 3)
        assert blas_threads() == {1}
    assert blas_threads() == {2}


def test_two_threads_do_not_take_each_others_limit_for_the_original(three_threads: pytest.MonkeyPatch) -> None:
    entered = []

    def enter() -> None:
        with threads.one_blas_thread():
            pass

    class Controller:
        @contextmanager
        def limit(self, **options: Any) -> Iterator[None]:
            """Slow, so that another thread comes while the limit is being set."""
            entered.append(options)
            if len(entered) == 1:
                other = threading.Thread(target=enter)
                other.start()
                other.join(30)
            yield

    three_threads.setattr(threads, "_blas", Controller)
    enter()
    assert entered == [{"limits": 1, "user_api": "blas"}]
    enter()
    assert len(entered) == 2  # and the next one sets it again


def test_importing_and_one_thread_start_no_others_and_leave_the_blas_alone() -> None:
    program = """
import threading, threadpoolctl, numpy as np
info = lambda: [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
before = info()
from minissl import nn, ops, optim
from minissl import backend
from minissl.backend.cpu import threads
from minissl.tensor import Tensor
assert info() == before
net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm(8), nn.ReLU(), nn.GlobalAveragePool())
net(Tensor(np.ones((8, 32, 32, 3), "float32"))).sum().backward()
optim.SGD(net.parameters(), 0.1).step()
assert info() == before
print(threads.count(), threading.active_count())
"""
    environment = os.environ | {"MINISSL_THREADS": "1"}
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=root, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["1", "1"], done.stderr
