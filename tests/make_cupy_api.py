"""Write cupy_api.json: the names and signatures of an installed CuPy, which the stand-in then keeps to.

    python tests/make_cupy_api.py            needs CuPy (pip install cupy-cuda12x), but no GPU and no driver

One entry per public name: "numpy" (the very object of NumPy), "ufunc at reduce ..." (with the methods it has),
"(a, axis=, out=)" (a signature without its default values), "property", "type" (a class of CuPy's own) or
"unknown" (no signature to be had).
"""

import inspect
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import cupy
import cupyx
import cupyx.scipy.special
import numpy as np

LISTED = {
    "cupy": cupy,
    "cupy.cuda": cupy.cuda,
    "cupy.fft": cupy.fft,
    "cupy.lib.stride_tricks": cupy.lib.stride_tricks,
    "cupy.linalg": cupy.linalg,
    "cupy.ndarray": cupy.ndarray,
    "cupy.random": cupy.random,
    "cupy.random.Generator": cupy.random.Generator,
    "cupyx": cupyx,
    "cupyx.scipy.special": cupyx.scipy.special,
}


def describe_ufunc(ufunc: Any) -> str:
    """The methods that work: CuPy defines all of them on every ufunc, and most raise NotImplementedError."""
    methods = ["outer"]
    for method, arguments in (("at", (0, 0, 0)), ("reduce", (0,)), ("accumulate", (0,))):
        try:
            getattr(ufunc, method)(*arguments)
        except NotImplementedError:
            continue
        except AttributeError:  # it got as far as using the argument, which is no array
            methods.append(method)
    return " ".join(["ufunc", *methods])


def describe_signature(function: Any) -> str:
    """Parameters by name, "=" after those with a default; of compiled functions, from the docstring's first line."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        signature = None
    if signature is None or list(signature.parameters) in (["args", "kwargs"], ["self", "args", "kwargs"]):
        written = re.match(r"[\w.]+\((.*)\)", function.__doc__ or "")
        if not written:
            return "unknown"
        parameters = [p.split("=")[0].split()[-1] + "=" * ("=" in p) for p in written[1].split(", ") if p]
        return f"({', '.join(p for p in parameters if p != 'self')})"
    bare = [
        p.replace(annotation=p.empty, default=p.empty if p.default is p.empty else Unwritten())
        for p in signature.parameters.values()
        if p.name != "self"
    ]
    return str(inspect.Signature(bare))


class Unwritten:
    """A default value that leaves nothing behind its "=" when a signature is printed."""

    def __repr__(self) -> str:
        return ""


def describe(owner: Any, name: str) -> str:
    value = getattr(owner, name)
    if value is vars(np).get(name):
        return "numpy"
    if isinstance(value, cupy.ufunc):
        return describe_ufunc(value)
    if isinstance(value, type):
        return "type"
    return describe_signature(value) if callable(value) else "property"


def public_names(owner: Any) -> list[str]:
    names = [name for name in sorted(dir(owner)) if not name.startswith("_") and name != "annotations"]
    return [name for name in names if not isinstance(getattr(owner, name), ModuleType)]


def listing() -> dict[str, dict[str, str]]:
    return {path: {name: describe(owner, name) for name in public_names(owner)} for path, owner in LISTED.items()}


if __name__ == "__main__":
    lines = [f"{json.dumps(path)}: {json.dumps(names)}" for path, names in listing().items()]
    text = ",\n".join([f'"version": {json.dumps(cupy.__version__)}', *lines])
    Path(__file__).with_name("cupy_api.json").write_text(f"{{\n{text}\n}}\n")
