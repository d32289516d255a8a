"""Asking for a backend that cannot run here says why, and what to install."""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from minissl import backend
from tests import cupy_standin


@pytest.fixture(autouse=True)
def forget_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test here looks for CuPy anew, and leaves the backends as it found them."""
    monkeypatch.setattr(backend, "_made", {name: made for name, made in backend._made.items() if name != "cupy"})
    monkeypatch.setattr(backend, "_current", None)
    monkeypatch.delenv("MINISSL_BACKEND", raising=False)


@pytest.fixture
def cupy() -> Iterator[Any]:
    with cupy_standin.installed() as module:
        yield module


def reason() -> str:
    with pytest.raises(backend.BackendUnavailable) as caught:
        backend.use("cupy")
    assert backend.current().name == "numpy"
    assert backend.reasons()["cupy"] == str(caught.value)
    return str(caught.value)


def test_cupy_is_used_when_it_works(cupy: Any) -> None:
    host = np.arange(3.0)
    with backend.use("cupy") as gpu:
        array = backend.to_device(host)
        assert isinstance(array, cupy.ndarray) and backend.of(array) is gpu and backend.to_device(array) is array
        np.testing.assert_array_equal(backend.to_host(array), host)
        assert gpu.to_host(host) is host
        gpu.synchronize()
    assert backend.current().name == "numpy" and backend.reasons()["cupy"] == "available"


def test_cupy_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    message = reason()
    assert "CuPy is not installed" in message
    assert "pip install 'minissl[gpu12]'" in message and "gpu13" in message


def test_cupy_is_installed_but_cannot_be_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "cupy.py").write_text("raise ImportError('libcudart.so.12: cannot open shared object file')")
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    message = reason()
    assert "import fails (libcudart.so.12" in message and "minissl[gpu12]" in message


def test_there_is_no_driver(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver() -> int:
        raise cupy.cuda.runtime.CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")

    monkeypatch.setattr(cupy.cuda, "is_available", lambda: False)
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", no_driver)
    message = reason()
    assert "no CUDA driver or device: cudaErrorInsufficientDriver" in message and "nvidia-smi" in message


def test_there_is_a_driver_but_no_device(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cupy.cuda, "is_available", lambda: False)
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: 0)
    assert "lists 0 devices; check nvidia-smi and CUDA_VISIBLE_DEVICES" in reason()


@pytest.mark.parametrize("part", ["__matmul__", "__add__"])
@pytest.mark.parametrize("kind", [RuntimeError, ImportError, OSError])
def test_a_library_of_the_toolkit_is_missing(
    cupy: Any, monkeypatch: pytest.MonkeyPatch, part: str, kind: type[Exception]
) -> None:
    def fail(*operands: Any) -> Any:
        raise kind("libnvrtc.so.12: cannot open shared object file")

    monkeypatch.setattr(cupy.ndarray, part, fail)
    message = reason()
    assert f"{kind.__name__}: libnvrtc.so.12" in message and "pip install 'cupy-cuda12x[ctk]'" in message


def test_a_device_that_computes_wrongly_is_not_used(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cupy.ndarray, "__matmul__", lambda a, b: a)
    assert "four times three came out as 8.0" in reason()


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'numpy', 'cupy'"):
        backend.use("jax")
