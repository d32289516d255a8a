"""Runs the C++ body of a cupy.ElementwiseKernel on the host: compiled by the system's compiler as a loop over elements.

It is stricter than a GPU: reading outside a raw array is an error, outputs hold NaN until they are written, a float
that turns into a double does not compile, raw arrays are contiguous, and what is written is nobody else's input.
"""

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minissl.backend.base import Backend
from minissl.backend.gpu import CupyBackend
from tests.cupy_array import inner, ndarray

COPIES = {"to_host", "to_device", "synchronize"}
COMPILER = next(filter(None, map(shutil.which, ("g++", "clang++", "c++"))), None)
STRICT = ["-Wall", "-Wdouble-promotion", "-Wno-unused-function", "-Werror"]
OPTIONS = ["-std=c++17", "-O1", "-shared", "-fPIC", *STRICT]

C_NAMES = {"float32": "float", "float64": "double", "complex128": "Word", "bool": "bool"}
C_NAMES |= {"int32": "int", "int64": "long long"}

HEADER = """
#include <cmath>
#include <cstddef>
#define __device__
using std::sqrt; using std::exp; using std::tanh;
struct Word { double real, imaginary; explicit Word(int = 0) : real(0), imaginary(0) {} };
template <typename U> struct Raw {
    const U* data; ptrdiff_t size; bool* outside;
    const U& operator[](ptrdiff_t j) const {
        if (0 <= j && j < size) return data[j];
        *outside = true;
        static const U nothing(0);
        return nothing;
    }
};
"""


class NoCompiler(NotImplementedError):
    """There is no C++ compiler on this machine, so nothing runs the bodies of kernels."""


class Parameter(NamedTuple):
    raw: bool
    type: str
    name: str


def parse(declarations: str) -> list[Parameter]:
    """CuPy's "raw T x, int32 n"."""
    words = [declaration.split() for declaration in declarations.split(",")]
    return [Parameter(rest == ["raw"], kind, name) for *rest, kind, name in words]


class ElementwiseKernel:
    """As CuPy's, called with inputs and outputs."""

    def __init__(self, in_params: str, out_params: str, operation: str, name: str, *, preamble: str = "") -> None:
        self.inputs, self.outputs = parse(in_params), parse(out_params)
        self.operation, self.name, self.preamble = operation, name, preamble

    def __call__(self, *arguments: Any) -> None:
        inputs, outputs = arguments[: len(self.inputs)], arguments[len(self.inputs) :]
        assert len(outputs) == len(self.outputs), f"{self.name}: {len(arguments)} arguments"
        T = outputs[0].dtype
        shape = np.broadcast_shapes(*(a.shape for p, a in zip(self.inputs, inputs, strict=True) if is_element(p, a)))
        for output in outputs:
            assert output.dtype == T and output.shape == np.broadcast_shapes(shape, output.shape), self.name
            assert inner(output).flags.c_contiguous and inner(output).flags.writeable, self.name
        values = [self._input(p, a, T, outputs) for p, a in zip(self.inputs, inputs, strict=True)]
        values += map(inner, outputs)
        for output in outputs:
            inner(output)[...] = np.nan
        pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        sizes = (ctypes.c_ssize_t * len(values))(*(value.size for value in values))
        scalars = tuple(not isinstance(a, ndarray) for a in inputs)
        if self._compiled(T.name, scalars)(ctypes.c_ssize_t(outputs[0].size), pointers, sizes):
            raise IndexError(f"{self.name}: a raw array was read outside its bounds")

    def _input(self, parameter: Parameter, argument: Any, T: np.dtype, outputs: Any) -> np.ndarray:
        """The memory from which the loop reads this input."""
        dtype = T if parameter.type == "T" else np.dtype(parameter.type)
        if not isinstance(argument, ndarray):
            assert isinstance(argument, bool | int | float | np.generic) and not parameter.raw, (self.name, parameter)
            return np.array(argument, dtype)
        array = inner(argument)
        assert array.dtype == dtype, f"{self.name}: {parameter.name} is {array.dtype}, expected {dtype}"
        shared = [output for output in outputs if np.may_share_memory(array, inner(output))]
        own_element = not parameter.raw and all(output is argument for output in shared)
        assert not shared or own_element, f"{self.name}: {parameter.name} shares memory with an output"
        if not parameter.raw:
            return np.array(np.broadcast_to(array, outputs[0].shape), order="C")
        assert array.flags.c_contiguous, f"{self.name}: {parameter.name} is not contiguous"
        return array

    def source(self, T: str, scalars: tuple[bool, ...]) -> str:
        """The whole program. scalars: which inputs are numbers, not arrays."""
        before, inside = [], []
        parameters = [*self.inputs, *self.outputs]
        for k, (p, scalar) in enumerate(zip(parameters, (*scalars, *(None for _ in self.outputs)), strict=True)):
            kind, const = ("T" if p.type == "T" else C_NAMES[p.type]), "" if scalar is None else "const "
            if p.raw:
                before.append(f"const Raw<{kind}> {p.name} = {{({kind}*)arguments[{k}], sizes[{k}], &outside}};")
            elif scalar:
                before.append(f"const {kind} {p.name} = *({kind}*)arguments[{k}];")
            else:
                inside.append(f"{const}{kind}& {p.name} = (({kind}*)arguments[{k}])[i];")
        return f"""{HEADER} typedef {C_NAMES[T]} T; {self.preamble}
        extern "C" bool run(ptrdiff_t n_elements, void** arguments, const ptrdiff_t* sizes) {{
            bool outside = false; {" ".join(before)}
            for (ptrdiff_t i = 0; i < n_elements; ++i) {{ {" ".join(inside)} {self.operation}; }}
            return outside;
        }}"""

    @functools.cache  # noqa: B019  (kernels live as long as the process)
    def _compiled(self, T: str, scalars: tuple[bool, ...]) -> Any:
        return compiled(self.source(T, scalars))


def is_element(parameter: Parameter, argument: Any) -> bool:
    return isinstance(argument, ndarray) and not parameter.raw


@functools.cache
def compiled(source: str) -> Any:
    """The function `run` of this program."""
    if COMPILER is None:
        raise NoCompiler("no C++ compiler was found (g++, clang++ or c++): install one, or test this kernel on a GPU")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cpp")
        path.write_text(source)
        found = subprocess.run(
            [COMPILER, *OPTIONS, path, "-o", path.with_suffix(".so")], capture_output=True, text=True
        )
        if found.returncode:
            raise SyntaxError(f"{found.stderr}\n{source}")
        run = ctypes.CDLL(str(path.with_suffix(".so"))).run
    run.restype = ctypes.c_bool
    return run


def textbook_backend() -> CupyBackend:
    """The backend for CuPy with none of its own kernels, where nothing could run their bodies."""
    kernels = {name: getattr(Backend, name) for name in kernel_names()}
    return type("Textbook", (CupyBackend,), kernels)()


def kernel_names() -> set[str]:
    """The kernels that CupyBackend overrides."""
    shared = set(vars(CupyBackend)) & set(vars(Backend)) - COPIES
    return {name for name in shared if not name.startswith("_") and callable(getattr(Backend, name))}
