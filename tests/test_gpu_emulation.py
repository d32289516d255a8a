"""The emulation of CuPy's ElementwiseKernel refuses what a GPU would compute wrongly, or slowly."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from minissl.backend.base import Backend
from tests import cupy_standin, gpu_emulation


@pytest.fixture
def standin() -> Iterator[Any]:
    if gpu_emulation.COMPILER is None:
        pytest.skip("no C++ compiler (g++, clang++ or c++)")
    with cupy_standin.installed() as cupy:
        yield cupy


@pytest.mark.parametrize(
    ("inputs", "body", "error"),
    [
        ("raw T x", "y = x[i + 1]", IndexError),
        ("raw T x", "y = x[i] * 0.5", SyntaxError),
        ("raw T x", "y = x[i]; x[i] = 0", SyntaxError),
        ("raw int32 x", "y = x[i]", AssertionError),
    ],
)
def test_wrong_kernels_are_refused(standin: Any, inputs: str, body: str, error: type[Exception]) -> None:
    kernel = standin.ElementwiseKernel(inputs, "T y", body, "wrong")
    x = standin.ones(3, standin.float32)
    with pytest.raises(error):
        kernel(x, standin.empty(3, standin.float32))


def test_raw_arrays_are_contiguous_and_not_written(standin: Any) -> None:
    kernel = standin.ElementwiseKernel("raw T x", "T y", "y = x[i]", "copy")
    x = standin.ones(6, standin.float32)
    for source, target in ((x[::2], standin.empty(3, standin.float32)), (x, x)):
        with pytest.raises(AssertionError):
            kernel(source, target)


def test_an_output_may_be_an_input_of_the_same_element_only(standin: Any) -> None:
    kernel = standin.ElementwiseKernel("T x", "T y", "y = 2 * x", "double_it")
    x = standin.ones((3, 3), standin.float32)
    kernel(x, x)
    np.testing.assert_array_equal(x.get(), 2)
    with pytest.raises(AssertionError, match="shares memory"):
        kernel(x.T, x)


def test_outputs_hold_nan_until_they_are_written(standin: Any) -> None:
    y = standin.ones(3)
    standin.ElementwiseKernel("T x", "T y", "if (x > 0) y = x", "some")(standin.asarray([1.0, -1.0, 2.0]), y)
    np.testing.assert_array_equal(y.get(), [1, np.nan, 2])


def test_without_a_compiler_the_textbook_kernels_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_emulation, "COMPILER", None)
    with cupy_standin.installed() as cupy:
        kernel = cupy.ElementwiseKernel("T x", "T y", "y = -x", "no_compiler_for_this")
        with pytest.raises(gpu_emulation.NoCompiler, match=r"no C\+\+ compiler"):
            kernel(cupy.ones(3), cupy.ones(3))
        textbook = gpu_emulation.textbook_backend()
        np.testing.assert_allclose(textbook.gelu(cupy.zeros(3)).get(), 0)
        assert textbook.name == "cupy" and type(textbook).conv2d is Backend.conv2d
