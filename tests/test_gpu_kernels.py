"""The kernels for the GPU: each equals its textbook form in `base.py`, and compiles for real devices.

Without a GPU their bodies run on the host, see gpu_emulation.py; what compiles them for devices, see gpu_compile.py.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minissl import backend
from minissl.backend.base import Backend
from minissl.backend.gpu import convolution, sums
from minissl.backend.windows import Window
from tests import gpu_emulation
from tests.gpu_emulation import kernel_names

NOT_INSTALLED = 77  # what gpu_compile exits with
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])


@pytest.fixture
def gpu(cupy: Backend, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """The CuPy backend with its own kernels, first passes shared among few threads so that small arrays have parts."""
    if getattr(cupy.xp, "is_standin", False) and gpu_emulation.COMPILER is None:
        pytest.skip("no GPU, and no C++ compiler (g++, clang++ or c++) to run the kernels' bodies on the host")
    monkeypatch.setattr(sums, "THREADS", 40)
    monkeypatch.setattr(sums, "FAN_IN", 3)
    yield cupy


def same(gpu: Backend, kernel: str, *arguments: Any) -> None:
    """The kernel gives what its textbook form gives on NumPy, in type, shape and value, and writes into no argument."""
    there = [gpu.to_device(a) if isinstance(a, np.ndarray) else a for a in arguments]
    found = getattr(gpu, kernel)(*there)
    expected = getattr(Backend, kernel)(backend.get("numpy"), *arguments)
    for array, before in zip(there, arguments, strict=True):
        if isinstance(before, np.ndarray):
            np.testing.assert_array_equal(gpu.to_host(array), before)
    several = isinstance(expected, tuple)
    assert isinstance(found, tuple) == several
    for ours, theirs in zip(found if several else (found,), expected if several else (expected,), strict=True):
        assert isinstance(ours, gpu.xp.ndarray) and ours.dtype == theirs.dtype and ours.shape == theirs.shape
        tolerance = 1e-4 if ours.dtype == "float32" else 1e-9
        scale = np.abs(theirs[np.isfinite(theirs)]).max(initial=1e-30)
        np.testing.assert_allclose(gpu.to_host(ours), theirs, rtol=tolerance, atol=tolerance * scale)


TESTED = {"conv2d", "conv2d_input_gradient", "conv2d_weight_gradient", "max_pool2d", "max_pool2d_gradient"}
TESTED |= {"batch_norm", "batch_norm_gradient", "layer_norm", "layer_norm_gradient", "attention", "attention_gradient"}
TESTED |= {"gelu", "gelu_gradient"}


def test_every_kernel_that_the_gpu_overrides_is_tested_here() -> None:
    assert kernel_names() == TESTED


CONVOLUTIONS = {
    "3x3": Window((3, 3), (1, 1), (1, 1)),
    "no padding": Window((3, 3)),
    "stride": Window((3, 3), (2, 2), (1, 1)),
    "a stride that leaves a rest": Window((2, 2), (3, 3)),
    "dilation": Window((3, 3), (1, 1), (2, 2), (2, 2)),
    "dilation and stride": Window((3, 3), (2, 2), (2, 2), (2, 2)),
    "1x1": Window((1, 1)),
    "1x1 with stride": Window((1, 1), (2, 2)),
    "1x1 with padding": Window((1, 1), (1, 1), (1, 1)),
    "non-square": Window((3, 2), (1, 2), (2, 0), (1, 3)),
    "padding wider than the window": Window((2, 2), (1, 1), (3, 3)),
    "as large as the image": Window((9, 8)),
}


@DTYPES
@pytest.mark.parametrize("C", [3, 4], ids=["one number a thread", "16 bytes a thread"])
@pytest.mark.parametrize("chunk", [1, 2, 100], ids=lambda n: f"{n} images a chunk")
@pytest.mark.parametrize("window", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolution(
    gpu: Backend, monkeypatch: pytest.MonkeyPatch, window: Window, chunk: int, C: int, dtype: str
) -> None:
    rng = np.random.default_rng(0)
    N, H, W, O = 5, 9, 8, 5
    one_image = np.prod(window.outputs(H, W)) * np.prod(window.size) * C * np.dtype(dtype).itemsize
    monkeypatch.setattr(convolution, "COLUMN_BYTES", int(chunk * one_image))
    assert len(convolution.chunks((N, H, W, C), window, np.dtype(dtype).itemsize)) == -(-N // chunk)
    x = rng.normal(size=(N, H, W, C)).astype(dtype)
    w = rng.normal(size=(*window.size, C, O)).astype(dtype)
    g = rng.normal(size=(N, *window.outputs(H, W), O)).astype(dtype)
    same(gpu, "conv2d", x, w, window)
    same(gpu, "conv2d_input_gradient", g, w, x.shape, window)
    same(gpu, "conv2d_weight_gradient", x, g, window)


def test_convolution_in_groups_of_strided_and_of_mixed_arrays(gpu: Backend) -> None:
    rng = np.random.default_rng(0)
    window = Window((3, 3), (2, 2), (1, 1))
    x, w, g = rng.normal(size=(3, 7, 6, 4)), rng.normal(size=(3, 3, 2, 8)), rng.normal(size=(3, 4, 3, 8))
    same(gpu, "conv2d", x, w, window, 2)
    same(gpu, "conv2d_input_gradient", g, w, x.shape, window, 2)
    same(gpu, "conv2d_weight_gradient", x, g, window, 2)
    x = rng.normal(size=(3, 4, 7, 6)).transpose(0, 2, 3, 1)
    w = rng.normal(size=(8, 4, 3, 3)).transpose(2, 3, 1, 0)
    for weights in (w, w.astype("float32")):
        same(gpu, "conv2d", x, weights, window)
        same(gpu, "conv2d_input_gradient", g[:, :, ::-1], weights, x.shape, window)
    same(gpu, "conv2d_weight_gradient", x, g[:, ::-1], window)


def test_an_address_that_is_no_multiple_of_16_is_copied_number_by_number(gpu: Backend) -> None:
    """On a GPU, reading 16 bytes from such an address stops the process."""
    memory = gpu.to_device(np.arange(1 + 5 * 4 * 4, dtype="float32"))
    x, window = memory[1:].reshape(1, 5, 4, 4), Window((2, 2))
    w = np.random.default_rng(0).normal(size=(2, 2, 4, 3)).astype("float32")
    assert np.dtype(convolution.widest(gpu.xp, x)) == "float32"
    assert np.dtype(convolution.widest(gpu.xp, memory[:-1].reshape(1, 5, 4, 4))) == "complex128"
    expected = Backend.conv2d(backend.get("numpy"), gpu.to_host(x), w, window)
    np.testing.assert_allclose(gpu.to_host(gpu.conv2d(x, gpu.to_device(w), window)), expected, rtol=1e-4)


POOLS = {
    "2x2": Window((2, 2), (2, 2)),
    "overlapping": Window((3, 3), (2, 2), (1, 1)),
    "at every pixel": Window((3, 3), (1, 1), (1, 1)),
    "with gaps between": Window((2, 2), (3, 3)),
    "dilation": Window((2, 3), (1, 2), (1, 2), (3, 2)),
    "one pixel": Window((1, 1)),
}


@DTYPES
@pytest.mark.parametrize("window", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("values", ["distinct", "ties", "infinite"])
def test_max_pool(gpu: Backend, window: Window, values: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 9, 8, 3)) if values == "distinct" else rng.integers(0, 3, (3, 9, 8, 3)).astype(float)
    if values == "infinite":
        x[x == 1] = -np.inf
    x = x.astype(dtype)
    y = Backend.max_pool2d(backend.get("numpy"), x, window)
    same(gpu, "max_pool2d", x, window)
    same(gpu, "max_pool2d_gradient", rng.normal(size=y.shape).astype(dtype), x, y, window)


def test_a_nan_wins_a_pool(gpu: Backend) -> None:
    x = np.arange(16.0).reshape(1, 4, 4, 1)
    x[0, 1, 1] = np.nan
    same(gpu, "max_pool2d", x, Window((2, 2), (1, 1)))


@DTYPES
@pytest.mark.parametrize("shape", [(2, 3), (7, 5), (101, 3), (4, 3, 5, 6), (8, 8, 8, 4), (64, 1), (3, 50)], ids=str)
@pytest.mark.parametrize("relu", [False, True], ids=["", "with ReLU"])
def test_batch_norm(gpu: Backend, shape: tuple[int, ...], relu: bool, dtype: str) -> None:
    rng = np.random.default_rng(0)
    C = shape[-1]
    x, g = (rng.normal(3, 2, size=shape).astype(dtype) for _ in range(2))
    gamma, beta = (rng.uniform(0.5, 2, C).astype(dtype) for _ in range(2))
    same(gpu, "batch_norm", x, gamma, beta, 1e-3, relu)
    _, mean, variance = Backend.batch_norm(backend.get("numpy"), x, gamma, beta, 1e-3)
    same(gpu, "batch_norm_gradient", g, x, gamma, beta, mean, variance, 1e-3, relu)


def test_batch_norm_with_a_mean_far_above_the_deviation(gpu: Backend) -> None:
    """A variance as E[x²] − E[x]² would lose all its digits here."""
    x = (1000 + np.random.default_rng(0).normal(size=(4096, 3))).astype("float32")
    ones, zeros = gpu.to_device(np.ones(3, "float32")), gpu.to_device(np.zeros(3, "float32"))
    y, mean, variance = map(gpu.to_host, gpu.batch_norm(gpu.to_device(x), ones, zeros, 1e-5))
    exact = x.astype("float64")
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(variance, exact.var(axis=0), rtol=1e-3)
    np.testing.assert_allclose(y, (exact - exact.mean(axis=0)) / exact.std(axis=0), atol=1e-3)


def test_batch_norm_and_layer_norm_of_strided_arrays(gpu: Backend) -> None:
    rng = np.random.default_rng(0)
    x, g = rng.normal(size=(3, 4, 6, 6)).transpose(0, 2, 3, 1), rng.normal(size=(3, 6, 6, 8))[..., ::2]
    same(gpu, "batch_norm", x, np.ones(4), np.zeros(4), 1e-5)
    same(gpu, "batch_norm_gradient", g, x, np.ones(4), np.zeros(4), np.zeros(4), np.ones(4), 1e-5)
    same(gpu, "layer_norm", x, np.ones(4), np.zeros(4), 1e-5)
    same(gpu, "layer_norm_gradient", g, x, np.ones(4), 1e-5)


@DTYPES
@pytest.mark.parametrize("shape", [(6,), (1, 6), (47, 6), (5, 3, 6), (4, 2, 70)], ids=str)
def test_layer_norm(gpu: Backend, shape: tuple[int, ...], dtype: str) -> None:
    rng = np.random.default_rng(0)
    x, g = (rng.normal(3, 2, size=shape).astype(dtype) for _ in range(2))
    gamma, beta = (rng.uniform(0.5, 2, shape[-1]).astype(dtype) for _ in range(2))
    same(gpu, "layer_norm", x, gamma, beta, 1e-5)
    same(gpu, "layer_norm_gradient", g, x, gamma, 1e-5)


MASKS = {"no mask": None, "one for all": (5, 6), "one for each image": (4, 1, 5, 6), "one for each head": (4, 2, 5, 6)}


@DTYPES
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_attention(gpu: Backend, mask: tuple[int, ...] | None, dtype: str) -> None:
    rng = np.random.default_rng(0)
    q, k, v, g = (rng.normal(size=(4, 2, *size)).astype(dtype) for size in ((5, 3), (6, 3), (6, 7), (5, 7)))
    allowed = None if mask is None else rng.random(mask) < 0.7
    if allowed is not None:
        allowed[..., 2, :] = False
    same(gpu, "attention", q, k, v, allowed)
    same(gpu, "attention", 100 * q, k, v, allowed)
    P = Backend.attention(backend.get("numpy"), q, k, v, allowed)[1]
    same(gpu, "attention_gradient", g, q, k, v, P)
    same(gpu, "attention", q[0, 0], k[0, 0], v[0, 0], None)


@DTYPES
@pytest.mark.parametrize("shape", [(), (5,), (3, 4, 5)], ids=str)
def test_gelu(gpu: Backend, shape: tuple[int, ...], dtype: str) -> None:
    rng = np.random.default_rng(0)
    x, g = (np.asarray(3 * rng.normal(size=shape), dtype) for _ in range(2))
    same(gpu, "gelu", x)
    same(gpu, "gelu_gradient", g, x)
    same(gpu, "gelu_gradient", g.T, x.T)


def test_they_compile_for_devices() -> None:
    """By NVRTC, from the text that CuPy itself hands it; in a process of its own, where no stand-in hides CuPy."""
    root = Path(__file__).parent.parent
    found = subprocess.run([sys.executable, "-m", "tests.gpu_compile"], cwd=root, capture_output=True, text=True)
    if found.returncode == NOT_INSTALLED:
        pytest.skip(found.stderr.strip())
    assert found.returncode == 0, found.stderr
    complaints = json.loads(found.stdout)
    assert complaints.pop("on purpose")
    assert len(complaints) > 60 and {name: text for name, text in complaints.items() if text} == {}
