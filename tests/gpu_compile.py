"""Compiles every kernel of the CuPy backend for real devices, by NVRTC; no GPU and no driver take part.

    python -m tests.gpu_compile          needs: pip install cupy-cuda12x nvidia-cuda-nvrtc-cu12

Prints JSON: for every kernel, type and architecture, the compiler's complaint, or "" if there is none; and one that was
provoked. What is compiled is the text that CuPy itself makes of a kernel, with the types that it decides for the
arguments. Exits with 77 where CuPy or NVRTC is missing.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minissl.backend.gpu import convolution, elementwise, normalization, pooling, sums, tokens
from minissl.backend.gpu.kernels import Kernel

try:
    import cupy
    from cupy._core import _kernel

    cupy.cuda.nvrtc.getVersion()
except Exception as error:  # ImportError, or one of CuPy's own for a library that it cannot load
    print(f"CuPy and NVRTC are not installed: {type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(77)

MODULES = (convolution, elementwise, normalization, pooling, sums, tokens)
KERNELS = {k.name: k for module in MODULES for k in vars(module).values() if isinstance(k, Kernel)}
ARCHITECTURES = ("sm_75", "sm_90")
HEADERS = "".join(f"#include <cupy/{name}>\n" for name in ("complex.cuh", "carray.cuh", "atomics.cuh"))
NUMBERS = {"A", "B", "D", "M", "epsilon", "lowest", "scale"}  # given as Python floats although declared as T
ARRAY, INDEXER, SCALAR = 1, 2, 3  # CuPy's kinds of arguments


def text(kernel: Kernel, dtype: str) -> str:
    """The program for arrays of three axes: raw ones contiguous, the others not."""
    made = cupy.ElementwiseKernel(kernel.inputs, kernel.outputs, kernel.body, kernel.name, preamble=kernel.helpers)
    parameters = made.in_params + made.out_params
    types = [None if is_number(p) else np.dtype(dtype) for p in parameters]
    in_types, out_types, names = made._decide_params_type(tuple(types[: made.nin]), tuple(types[made.nin :]))
    arguments = [
        _kernel._ArgInfo(SCALAR, None, kind, 0, True, True)
        if is_number(p)
        else _kernel._ArgInfo(ARRAY, cupy.ndarray, kind, 3, p.raw, False)
        for p, kind in zip(parameters, in_types + out_types, strict=True)
    ]
    arguments.append(_kernel._ArgInfo(INDEXER, None, None, 3, True, False))
    return _kernel._get_elementwise_kernel_code(
        tuple(arguments), names, made.params, made.operation, made.name, made.preamble
    )


def is_number(parameter: Any) -> bool:
    return parameter.dtype is not None or parameter.name in NUMBERS


def complaint(source: str, architecture: str) -> str:
    nvrtc = cupy.cuda.nvrtc
    include = Path(cupy.__file__).parent / "_core/include"
    folders = (include, *(include / "cupy/_cccl" / part for part in ("cub", "thrust", "libcudacxx")))
    program = nvrtc.createProgram(HEADERS + source, "kernel.cu", (), ())
    try:
        nvrtc.compileProgram(program, ("-std=c++17", f"-arch={architecture}", *(f"-I{folder}" for folder in folders)))
    except nvrtc.NVRTCError:
        return nvrtc.getProgramLog(program)
    return "" if nvrtc.getCUBIN(program) else "no code came out"


def results() -> Iterator[tuple[str, str]]:
    for name, kernel in KERNELS.items():
        for dtype in ("float32", "float64", *(["complex128"] if kernel is convolution.COLUMNS else [])):
            for architecture in ARCHITECTURES:
                yield f"{name} {dtype} {architecture}", complaint(text(kernel, dtype), architecture)


if __name__ == "__main__":
    wrong = Kernel("wrong", "raw T x", "T y", "y = x[i] + nothing;")
    print(json.dumps(dict(results()) | {"on purpose": complaint(text(wrong, "float32"), "sm_90")}))
