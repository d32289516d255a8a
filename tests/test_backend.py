"""Which backend is in use, and where an array lives."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from minissl import backend
from minissl.backend.base import Backend

cpu = backend.get("numpy")


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """As in a new process: nothing chosen yet."""
    monkeypatch.setattr(backend, "_current", None)
    monkeypatch.delenv("MINISSL_BACKEND", raising=False)
    yield monkeypatch


def test_use_as_a_block_restores_what_was_before(fresh: Any, cupy: Backend) -> None:
    assert backend.current() is cpu
    with backend.use("cupy") as inside:
        assert inside is cupy and backend.current() is cupy
        with backend.use("numpy"):
            assert backend.current() is cpu
        assert backend.current() is cupy
    assert backend.current() is cpu
    with pytest.raises(KeyError), backend.use("cupy"):
        raise KeyError
    assert backend.current() is cpu


def test_use_as_a_function_stays(fresh: Any, cupy: Backend) -> None:
    backend.use("cupy")
    assert backend.current() is cupy
    assert backend.of(backend.to_device(np.ones(2))) is cupy


def test_an_unknown_name_changes_nothing(fresh: Any) -> None:
    with pytest.raises(ValueError, match="'jax' is not known; choose one of 'numpy', 'cupy'"):
        backend.use("jax")
    assert backend.current() is cpu


def test_the_environment_chooses_until_use_does(fresh: pytest.MonkeyPatch, cupy: Backend) -> None:
    fresh.setenv("MINISSL_BACKEND", "cupy")
    assert backend.current() is cupy
    backend.use("numpy")
    assert backend.current() is cpu


def test_an_unknown_name_in_the_environment_is_an_error(fresh: pytest.MonkeyPatch) -> None:
    fresh.setenv("MINISSL_BACKEND", "jax")
    with pytest.raises(ValueError, match="'jax' is not known"):
        backend.current()


def test_an_array_knows_its_backend(cupy: Backend) -> None:
    assert backend.of(np.ones(2)) is cpu and backend.of(np.float32(1)) is cpu
    assert backend.of(cupy.to_device(np.ones(2))) is cupy


@pytest.mark.parametrize("value", [[1.0, 2.0], 1.0, None, memoryview(b"12"), object()])
def test_what_is_no_array_has_no_backend(value: Any) -> None:
    with pytest.raises(TypeError, match=f"expected a NumPy or CuPy array, got {type(value).__name__}"):
        backend.of(value)


def test_a_host_array_is_not_copied_on_the_host() -> None:
    x = np.ones(2)
    assert backend.to_host(x) is x and cpu.to_device(x) is x
