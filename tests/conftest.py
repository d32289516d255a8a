"""Hypothesis profiles, chosen by HYPOTHESIS_PROFILE: dev (default), ci, thorough; and the CuPy fixture."""

import importlib.util
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from minissl import backend
from minissl.backend.cpu import activations, convolution, normalization, threads, tokens

_common = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True}
settings.register_profile("dev", max_examples=10, **_common)
settings.register_profile("ci", max_examples=25, **_common)
settings.register_profile("thorough", max_examples=500, **_common | {"derandomize": False})
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def real_cupy() -> bool:
    """Whether CuPy and a GPU are here."""
    return importlib.util.find_spec("cupy") is not None and backend.reasons()["cupy"] == "available"


@pytest.fixture(scope="session")
def cupy() -> Iterator[backend.Backend]:
    """The CuPy backend: real where there is a GPU, else the strict stand-in; with the textbook kernels if need be."""
    from tests import cupy_standin, gpu_emulation

    if real_cupy():
        yield backend.get("cupy")
        return
    backend._made.pop("cupy", None)
    with cupy_standin.installed():
        if gpu_emulation.COMPILER is None:
            backend._made["cupy"] = gpu_emulation.textbook_backend()
        yield backend.get("cupy")
    backend._made.pop("cupy", None)


@pytest.fixture
def three_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Three threads on any machine and for work of any size, and scratch memory that holds NaN until it is written."""
    real = threads.workspace

    def poisoned(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        array = real(name, shape, dtype)
        array[...] = np.nan
        return array

    with ThreadPoolExecutor(2) as pool:
        monkeypatch.setattr(threads, "count", lambda: 3)
        monkeypatch.setattr(threads, "WORTH_SPLITTING", 0)
        monkeypatch.setattr(threads, "_pool", lambda: pool)
        for kernels in (activations, convolution, normalization, tokens):
            monkeypatch.setattr(kernels, "workspace", poisoned)
        yield monkeypatch
