"""The kernels of the CPU: each equals its textbook form in `base.py`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minissl import backend
from minissl.backend import base
from minissl.backend.base import Backend
from minissl.backend.cpu import NumpyBackend, activations, convolution, normalization, threads, tokens
from minissl.backend.windows import Window

cpu = backend.get("numpy")


def same(kernel: str, *arguments: Any) -> None:
    """The CPU's kernel gives what the textbook form gives, of the same type, and leaves its inputs alone."""
    saved = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    found, expected = getattr(cpu, kernel)(*arguments), getattr(Backend, kernel)(cpu, *arguments)
    for a, before in zip(arguments, saved, strict=True):
        np.testing.assert_array_equal(a, before)
    several = isinstance(expected, tuple)
    assert isinstance(found, tuple) == several
    for ours, theirs in zip(found if several else (found,), expected if several else (expected,), strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        tolerance = 1e-4 if ours.dtype == "float32" else 1e-10
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * np.abs(theirs).max(initial=1e-30))


TESTED = {
    "conv2d",
    "conv2d_input_gradient",
    "conv2d_weight_gradient",
    "batch_norm",
    "batch_norm_gradient",
    "elementwise",
    "update",
    "gelu",
    "gelu_gradient",
    "matmul",
    "scatter_add",
    "linear",
    "column_sum",
    "squared_distances",
    "layer_norm",
    "layer_norm_gradient",
    "attention",
    "attention_gradient",
}


def test_every_kernel_that_the_cpu_overrides_is_tested_here() -> None:
    copies_and_settings = {"to_host", "to_device", "training_run", "synchronize"}
    public = {name for name, value in vars(NumpyBackend).items() if callable(value) and not name.startswith("_")}
    assert public - copies_and_settings == TESTED


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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("chunk", [1, 2, 100], ids=lambda n: f"{n} images a chunk")
@pytest.mark.parametrize("window", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolution(three_threads: pytest.MonkeyPatch, window: Window, chunk: int, dtype: str) -> None:
    """8 images on 3 threads: 2 or 3 each, so that chunks of 2 end with one that is smaller."""
    rng = np.random.default_rng(0)
    N, H, W, C, O = 8, 9, 8, 3, 5
    one_image = np.prod(window.outputs(H, W)) * np.prod(window.size) * C * np.dtype(dtype).itemsize
    three_threads.setattr(convolution, "COLUMN_BYTES", int(chunk * one_image))
    assert convolution.images_per_chunk((N, H, W, C), window, np.dtype(dtype).itemsize) == chunk
    x = rng.normal(size=(N, H, W, C)).astype(dtype)
    w = rng.normal(size=(*window.size, C, O)).astype(dtype)
    g = rng.normal(size=(N, *window.outputs(H, W), O)).astype(dtype)
    same("conv2d", x, w, window)
    same("conv2d_input_gradient", g, w, x.shape, window)
    same("conv2d_weight_gradient", x, g, window)


@pytest.mark.parametrize("groups", [2, 4])
def test_convolution_in_groups(three_threads: pytest.MonkeyPatch, groups: int) -> None:
    rng = np.random.default_rng(0)
    window = Window((3, 3), (2, 2), (1, 1))
    x, w = rng.normal(size=(3, 7, 6, 4)), rng.normal(size=(3, 3, 4 // groups, 8))
    g = rng.normal(size=(3, *window.outputs(7, 6), 8))
    same("conv2d", x, w, window, groups)
    same("conv2d_input_gradient", g, w, x.shape, window, groups)
    same("conv2d_weight_gradient", x, g, window, groups)


def test_convolution_of_strided_arrays(three_threads: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4, 7, 6)).transpose(0, 2, 3, 1)
    w = rng.normal(size=(5, 4, 3, 3)).transpose(2, 3, 1, 0)
    g = np.broadcast_to(rng.normal(size=(3, 1, 1, 5)), (3, 7, 6, 5))
    window = Window((3, 3), (1, 1), (1, 1))
    same("conv2d", x, w, window)
    same("conv2d_input_gradient", g, w, x.shape, window)
    same("conv2d_weight_gradient", x, g, window)


def test_results_do_not_lie_in_scratch_memory(three_threads: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    window = Window((3, 3), (2, 2), (1, 1))
    x, w, g = rng.normal(size=(4, 6, 6, 2)), rng.normal(size=(3, 3, 2, 3)), rng.normal(size=(4, 3, 3, 3))
    run: Callable[[], list[Any]] = lambda: [
        cpu.conv2d(x, w, window),
        cpu.conv2d_input_gradient(g, w, x.shape, window),
        cpu.conv2d_weight_gradient(x, g, window),
        *cpu.batch_norm(x, np.ones(2), np.zeros(2), 1e-5),
        *cpu.batch_norm_gradient(x, x, np.ones(2), np.zeros(2), np.zeros(2), np.ones(2), 1e-5),
    ]
    first = run()
    saved = [array.copy() for array in first]
    x, w, g = -x, 2 * w, 3 * g
    run()
    for array, before in zip(first, saved, strict=True):
        np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("chunk", [1, 24, 1 << 16])
@pytest.mark.parametrize("shape", [(2, 3), (7, 5), (101, 3), (4, 3, 5, 6), (8, 8, 8, 4), (64, 1), (3, 5000)], ids=str)
@pytest.mark.parametrize("relu", [False, True], ids=["", "with ReLU"])
def test_batch_norm(
    three_threads: pytest.MonkeyPatch, shape: tuple[int, ...], chunk: int, dtype: str, relu: bool
) -> None:
    if chunk == 1 and np.prod(shape) > 10_000:
        chunk = 6000
    three_threads.setattr(normalization, "CHUNK", chunk)
    rng = np.random.default_rng(0)
    C = shape[-1]
    x, g = (rng.normal(3, 2, size=shape).astype(dtype) for _ in range(2))
    gamma, beta = (rng.uniform(0.5, 2, C).astype(dtype) for _ in range(2))
    same("batch_norm", x, gamma, beta, 1e-3, relu)
    _, mean, variance = Backend.batch_norm(cpu, x, gamma, beta, 1e-3)
    same("batch_norm_gradient", g, x, gamma, beta, mean, variance, 1e-3, relu)


def test_batch_norm_of_strided_arrays(three_threads: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4, 6, 6)).transpose(0, 2, 3, 1)
    g = np.broadcast_to(rng.normal(size=(3, 1, 1, 4)), x.shape)
    same("batch_norm", x, np.ones(4), np.zeros(4), 1e-5)
    mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
    same("batch_norm_gradient", g, x, np.ones(4), np.zeros(4), mean, variance, 1e-5)


def test_batch_norm_with_a_mean_far_above_the_deviation(three_threads: pytest.MonkeyPatch) -> None:
    """A variance as E[x²] − E[x]² would lose all its digits here."""
    x = (1000 + np.random.default_rng(0).normal(size=(4096, 3))).astype("float32")
    y, mean, variance = cpu.batch_norm(x, np.ones(3, "float32"), np.zeros(3, "float32"), 1e-5)
    exact = x.astype("float64")
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(variance, exact.var(axis=0), rtol=1e-3)
    np.testing.assert_allclose(y, (exact - exact.mean(axis=0)) / exact.std(axis=0), atol=1e-3)


@pytest.fixture(params=["whole", "split"])
def pieces(request: pytest.FixtureRequest, three_threads: pytest.MonkeyPatch) -> bool:
    """Whether the arrays of a test are large enough to be cut into slices."""
    split = request.param == "split"
    three_threads.setattr(threads, "CHUNK", 7 if split else 1 << 30)
    return split


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(), (5,), (16,), (10, 10), (3, 4, 5)], ids=str)
def test_elementwise(pieces: bool, shape: tuple[int, ...], dtype: str) -> None:
    rng = np.random.default_rng(0)
    a, b = (np.asarray(rng.normal(size=shape), dtype) for _ in range(2))
    same("elementwise", np.add, a, b)
    same("elementwise", np.maximum, a, 0)
    same("elementwise", np.maximum, 0, a)
    same("elementwise", lambda a, b: a * (b > 0), a, b)
    same("elementwise", lambda a, b: a > b, a, b)


def test_elementwise_runs_slice_by_slice_only_where_that_pays(pieces: bool) -> None:
    sizes = []

    def double(a: np.ndarray) -> np.ndarray:
        sizes.append(a.size)
        return 2 * a

    cpu.elementwise(double, np.ones((10, 10)))
    assert (max(sizes) == 7 and sum(sizes) == 101) if pieces else sizes == [100]  # one element tells the type


def test_elementwise_of_arrays_that_cannot_be_cut_alike(pieces: bool) -> None:
    a = np.arange(40.0).reshape(5, 8)
    same("elementwise", np.add, a, np.arange(8.0))
    same("elementwise", np.add, a, a.reshape(8, 5).T)
    same("elementwise", np.add, a[:, ::2], a[:, ::2])
    same("elementwise", np.add, np.float32(1), np.float32(2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", ["C", "F", "mixed"])
def test_update_writes_into_its_arrays(pieces: bool, layout: Any, dtype: str) -> None:
    def rule(w: np.ndarray, g: np.ndarray, v: np.ndarray) -> None:
        v *= 0.5
        v += g
        w -= 0.1 * v

    rng = np.random.default_rng(0)
    arrays = [np.asarray(rng.normal(size=(9, 11)), dtype, "F" if layout == "F" else "C") for _ in range(3)]
    if layout == "mixed":
        arrays[1] = np.asfortranarray(arrays[1])
    expected = [array.copy() for array in arrays]
    Backend.update(cpu, rule, *expected)
    cpu.update(rule, *arrays)
    for found, wanted in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


MATRICES = [
    ((7, 5), (5, 3)),
    ((1, 50), (50, 40)),
    ((4, 7, 5), (4, 5, 3)),
    ((2, 4, 7, 5), (2, 4, 5, 3)),
    ((1, 7, 5), (4, 5, 3)),
    ((4, 7, 5), (5, 3)),
    ((7, 5), (4, 5, 3)),
    ((5,), (5, 3)),
    ((7, 5), (5,)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("least", [0, 1 << 30], ids=["split", "whole"])
@pytest.mark.parametrize(("a", "b"), MATRICES, ids=str)
def test_matmul(three_threads: pytest.MonkeyPatch, a: Any, b: Any, least: int, dtype: str) -> None:
    three_threads.setattr(threads, "WORTH_SPLITTING", least)
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=a).astype(dtype), rng.normal(size=b).astype(dtype)
    same("matmul", A, B)
    if A.ndim > 1 and B.ndim > 1:
        same("matmul", B.swapaxes(-1, -2), A.swapaxes(-1, -2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(5,), (16,), (10, 10), (3, 4, 5)], ids=str)
def test_gelu(pieces: bool, three_threads: pytest.MonkeyPatch, shape: tuple[int, ...], dtype: str) -> None:
    three_threads.setattr(activations, "CHUNK", 7)
    x, g = (3 * np.random.default_rng(0).normal(size=(2, *shape))).astype(dtype)
    for order in "CF":
        same("gelu", np.asarray(x, order=order))
        same("gelu_gradient", np.asarray(g, order=order), np.asarray(x, order="C"))


@pytest.mark.parametrize("chunk", [1, 40, 1 << 16])
@pytest.mark.parametrize("shape", [(6,), (1, 6), (7, 6), (5, 3, 6)], ids=str)
def test_layer_norm(three_threads: pytest.MonkeyPatch, shape: tuple[int, ...], chunk: int) -> None:
    three_threads.setattr(tokens, "CHUNK", chunk)
    rng = np.random.default_rng(0)
    x, g, gamma, beta = rng.normal(size=shape), rng.normal(size=shape), rng.normal(size=6), rng.normal(size=6)
    same("layer_norm", x, gamma, beta, 1e-5)
    same("layer_norm_gradient", g, x, gamma, 1e-5)


MASKS = {"no mask": None, "one for all": (5, 6), "one for each image": (4, 1, 5, 6), "one for each head": (4, 2, 5, 6)}


@pytest.mark.parametrize("chunk", [1, 130, 1 << 16])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_attention(three_threads: pytest.MonkeyPatch, mask: tuple[int, ...] | None, chunk: int) -> None:
    three_threads.setattr(tokens, "CHUNK", chunk)
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(4, 2, 5, 3)), rng.normal(size=(4, 2, 6, 3)), rng.normal(size=(4, 2, 6, 7))
    allowed = None if mask is None else rng.random(mask) < 0.7
    same("attention", q, k, v, allowed)
    same("attention_gradient", rng.normal(size=(4, 2, 5, 7)), q, k, v, cpu.attention(q, k, v, allowed)[1])
    same("attention", q[0, 0], k[0, 0], v[0, 0], None)


KEYS = {
    "each once": np.array([3, 0, 2]),
    "repeats": np.array([3, 3, 0, -1, 3]),
    "a table of numbers": np.array([[0, 1], [1, 1]]),
    "two axes": (np.arange(4)[:, None], np.array([[0, 1], [1, 1], [2, 0], [2, 2]])),
    "three axes": (np.array([1, 1, 1]), np.array([0, 0, 2]), np.array([1, 1, -1])),
    "numbers and a slice": (np.array([1, 1]), slice(None)),
    "a mask": np.array([True, False, True, True]),
    "nothing": np.array([], int),
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("order", ["C", "F"])
def test_scatter_add(key: Any, order: Any) -> None:
    rng = np.random.default_rng(0)
    total = np.asarray(rng.normal(size=(4, 3, 2)), order=order)
    values, expected = rng.normal(size=total[key].shape), total.copy()
    Backend.scatter_add(cpu, expected, key, values)
    cpu.scatter_add(total, key, values)
    np.testing.assert_allclose(total, expected, rtol=1e-12)


@pytest.mark.parametrize("least", [0, 1 << 30], ids=["split", "whole"])
@pytest.mark.parametrize("M", [1, 2, 50])
def test_linear_and_column_sum(three_threads: pytest.MonkeyPatch, M: int, least: int) -> None:
    three_threads.setattr(threads, "WORTH_SPLITTING", least)
    three_threads.setattr(threads, "CHUNK", 8)
    rng = np.random.default_rng(0)
    same("linear", rng.normal(size=(M, 7)), rng.normal(size=(7, 5)), rng.normal(size=5))
    same("column_sum", rng.normal(size=(M, 5)))


@pytest.mark.parametrize("step", [1, 40, 1 << 30])
@pytest.mark.parametrize("least", [0, 1 << 30], ids=["split", "whole"])
def test_squared_distances(three_threads: pytest.MonkeyPatch, least: int, step: int) -> None:
    three_threads.setattr(threads, "WORTH_SPLITTING", least)
    three_threads.setattr(base, "DIFFERENCES", step)
    a, b = np.random.default_rng(0).normal(size=(2, 7, 5))
    expected = [[sum((x - y) ** 2 for x, y in zip(p, q, strict=True)) for q in b[:4]] for p in a]
    np.testing.assert_allclose(backend.get("numpy").squared_distances(a, b[:4]), expected, rtol=1e-12)
