"""The queue is a deque, whatever the batch size; the bank moves the rows it is told to, and no other."""

from collections import deque
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minissl import backend, checkpoint, random
from minissl.nn import MemoryBank, Module, Queue
from minissl.tensor import Tensor
from tests.oracles.vectors import unit

D = 3


def queue(K: int) -> Queue:
    random.seed(0)
    return Queue(K, D)


def bank(n: int = 6, **settings: Any) -> MemoryBank:
    random.seed(0)
    return MemoryBank(n, D, **settings)


def numbered(first: int, count: int) -> np.ndarray:
    """Embeddings (count, D) that no other call gives: each has its number in every place."""
    return np.repeat(np.arange(first, first + count, dtype="float32")[:, None], D, axis=1)


def rows_of(memory: Any) -> np.ndarray:
    return backend.to_host(memory.rows.data).copy()


# -- queue ------------------------------------------------------------------------------------------------------------


@given(K=st.integers(1, 7), sizes=st.lists(st.integers(0, 16), max_size=8))
def test_a_queue_holds_the_last_k_whatever_the_batches(K: int, sizes: list[int]) -> None:
    memory, written = queue(K), 0
    oracle: deque[float] = deque(maxlen=K)
    start = rows_of(memory)
    for size in sizes:
        memory.enqueue(numbered(written, size))
        oracle.extend(range(written, written + size))
        written += size

        rows = rows_of(memory)
        oldest = written % K if written >= K else 0  # the place that the next embedding takes
        in_order = np.roll(rows, -oldest, axis=0)[: len(oracle)]
        np.testing.assert_array_equal(in_order, np.repeat(np.array(oracle, "float32")[:, None], D, axis=1))
        np.testing.assert_array_equal(rows[len(oracle) :], start[len(oracle) :])  # not yet reached
        assert memory.full == (written >= K) and int(memory.written.data) == written


def test_a_queue_starts_as_random_unit_rows() -> None:
    rows = rows_of(queue(500))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=0.1)
    np.testing.assert_allclose(rows.T @ rows / 500, np.eye(D) / D, atol=0.1)  # in no direction more than in others
    assert rows.dtype == np.float32 and not queue(500).full


def test_a_queue_keeps_what_it_was_given_and_not_the_array() -> None:
    memory, z = queue(4), numbered(0, 2)
    memory.enqueue(Tensor(z, requires_grad=True))
    z[:] = 99
    np.testing.assert_array_equal(rows_of(memory)[:2], numbered(0, 2))
    assert not memory.rows.requires_grad and memory.parameters() == []


# -- bank -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.5, 1.0])
def test_a_bank_averages_unit_vectors_and_moves_only_the_rows_it_is_told_to(momentum: float) -> None:
    memory = bank(momentum=momentum)
    before, index = rows_of(memory), np.array([4, 0, 3])
    z = np.random.default_rng(1).normal(size=(3, D)).astype("float32") * [[0.1], [1], [50]]
    memory.update(index, z.astype("float32"))
    expected = before.astype("float64")
    for i, own in zip(index, z, strict=True):
        mixed = [momentum * r + (1 - momentum) * v for r, v in zip(before[i], unit(own), strict=True)]
        expected[i] = unit(mixed)
    np.testing.assert_allclose(rows_of(memory), expected, atol=1e-6)
    np.testing.assert_array_equal(rows_of(memory)[[1, 2, 5]], before[[1, 2, 5]])


def test_half_is_the_default_and_rows_stay_of_length_1() -> None:
    memory = bank()
    assert memory.momentum == 0.5
    np.testing.assert_allclose(np.linalg.norm(rows_of(memory), axis=1), 1, rtol=1e-6)
    for _ in range(20):
        memory.update(np.arange(6), Tensor(10 * np.ones((6, D), np.float32)))
    np.testing.assert_allclose(rows_of(memory), 3**-0.5, rtol=1e-5)
    assert rows_of(memory).dtype == np.float32


def test_an_embedding_of_zeros_leaves_its_row() -> None:
    memory = bank()
    before = rows_of(memory)
    memory.update(np.array([2]), np.zeros((1, D), np.float32))
    np.testing.assert_allclose(rows_of(memory), before, rtol=1e-6)


# -- both -------------------------------------------------------------------------------------------------------------


def fill(memory: Module, first: int) -> None:
    if isinstance(memory, Queue):
        memory.enqueue(numbered(first, 4))
    elif isinstance(memory, MemoryBank):
        memory.update(np.array([5, first, 3]), numbered(first, 3))


@pytest.mark.parametrize("make", [lambda: queue(6), bank])
def test_a_restored_memory_goes_on_as_the_saved_one_would(make: Any, tmp_path: Any) -> None:
    memory, other = make(), make()
    fill(memory, 1)
    checkpoint.save(tmp_path / "memory.safetensors", memory.state_dict(), {})
    fill(memory, 2)
    fill(other, 0)
    fill(other, 1)
    other.load_state_dict(checkpoint.load(tmp_path / "memory.safetensors")[0])
    fill(other, 2)
    np.testing.assert_array_equal(rows_of(memory), rows_of(other))
    for name, array in memory.state_dict().items():
        np.testing.assert_array_equal(array, other.state_dict()[name], err_msg=name)
        assert array.dtype == other.state_dict()[name].dtype


def test_both_on_cupy_as_on_numpy(cupy: backend.Backend) -> None:
    found = []
    for place in ("numpy", "cupy"):
        with backend.use(place):
            keys, images = queue(5), bank()
            for first, size in [(0, 3), (3, 3), (6, 12)]:
                keys.enqueue(Tensor(backend.to_device(numbered(first, size))))
            images.update(backend.to_device(np.array([5, 1])), Tensor(backend.to_device(numbered(1, 2))))
            assert all(backend.of(m.rows.data).name == place for m in (keys, images))
            found.append((rows_of(keys), rows_of(images), keys.full))
    np.testing.assert_array_equal(found[1][0], found[0][0])
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-6)
    assert found[1][2] and found[0][2]


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: Queue(0, 3), "Queue: expected a length and features of at least 1, got 0 and 3"),
        (lambda: queue(4).enqueue(np.ones((2, 5), np.float32)), r"enqueue: expected embeddings \(N, 3\), got \(2, 5\)"),
        (lambda: queue(4).enqueue(np.ones(3, np.float32)), r"enqueue: expected embeddings \(N, 3\), got \(3,\)"),
        (lambda: MemoryBank(2, 0), "MemoryBank: expected .*, got 2, 0 and 0.5"),
        (lambda: bank(momentum=1.5), "MemoryBank: expected .* momentum from 0 to 1, got 6, 3 and 1.5"),
        (
            lambda: bank().update(np.array([1]), np.ones((2, 3), np.float32)),
            r"update: expected embeddings \(1, 3\), got \(2, 3\)",
        ),
    ],
)
def test_what_does_not_fit_is_named(act: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        act()
