"""Reused memory: never while somebody holds it, and only within a training run."""

import numpy as np

from minissl import backend
from minissl.backend.cpu import memory
from minissl.tensor import Tensor

LARGE = (memory.LARGE // 4,)  # float32


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_is_used_again_once_nobody_holds_it() -> None:
    with memory.reuse():
        first = memory.empty(LARGE, "float32")
        place = address(first)
        del first
        second = memory.empty((LARGE[0] // 2, 1), "float64")  # as many bytes in another shape and type
        assert address(second) == place and second.shape == (LARGE[0] // 2, 1) and second.dtype == "float64"


def test_a_view_keeps_its_memory() -> None:
    with memory.reuse():
        first = memory.empty(LARGE, "float32")
        first[...] = 1
        view = first.reshape(2, -1)[1, 3:]
        del first
        second = memory.empty(LARGE, "float32")
        second[...] = 2
        np.testing.assert_array_equal(view, 1)


def test_what_is_left_when_the_run_ends_is_given_back() -> None:
    with memory.reuse():
        kept = memory.empty(LARGE, "float32")
        idle = memory.empty(LARGE, "float32")
        place = address(idle)
        del idle
        with memory.reuse():  # a run inside another shares its stock
            assert address(memory.empty(LARGE, "float32")) == place
    assert memory._stock is None
    kept[...] = 1  # its memory outlives the run
    with memory.reuse():
        del kept  # and goes to the stock of the run that it came from, which is gone
        assert memory._stock == {}


def test_small_arrays_and_those_outside_a_run_are_plain() -> None:
    assert memory.empty(LARGE, "float32").base is None
    with memory.reuse():
        assert memory.empty((3,), "float32").base is None


def test_a_training_run_reuses_the_results_of_kernels() -> None:
    home = backend.get("numpy")
    a = np.ones((512, 512), "float32")
    with home.training_run():
        places = {address(home.matmul(a, a)) for _ in range(5)}
    assert len(places) == 1


def test_gradients_in_reused_memory_are_added_into_and_not_copied() -> None:
    """An array of `memory.empty` has a base, as a view has, and is nobody else's all the same."""
    x = Tensor(np.ones((512, 512), "float32"), requires_grad=True)
    w = np.ones((512, 512), "float32")
    with backend.current().training_run():
        (x @ w).sum().backward()
        assert isinstance(x.grad.base, memory._Loan)
    np.testing.assert_array_equal(x.grad, 512)
