"""The array of the CuPy stand-in (cupy_standin.py), and the functions on it: NumPy underneath, CuPy's rules on top."""

import functools
import inspect
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np


class Copy(NamedTuple):
    """One copy between host and device: what was called ("get", "item", "mask", ...), and the function that did."""

    what: str
    caller: str


TRANSFERS: list[Copy] = []  # device to host: each makes the host wait until the device has finished its work
UPLOADS: list[Copy] = []  # host to device

API: dict[str, Any] = json.loads(Path(__file__).with_name("cupy_api.json").read_text())
API["cupy"]["einsum"] = "(*operands, dtype=, optimize=)"  # CuPy declares **kwargs and rejects all others itself
API["cupy"]["matmul"] = "ufunc"


INSIDE = ("numpy", "functools", "cupy_", "tests.cupy_")
SCALARS = (bool, int, float, complex, np.generic)
SENDS_TO_DEVICE = {"array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray"}
WAITS = {"argwhere", "bincount", "compress", "extract", "flatnonzero", "nonzero", "unique"}  # to learn a shape
ARRAYS = {"a", "b", "x", "x1", "x2", "y", "arr", "array", "ary", "m", "condition"}  # parameters that take no list
RETURNS_ARRAY = {"allclose", "array_equal", "array_equiv", "count_nonzero"}  # where NumPy returns a Python scalar
ATOMIC = {"add": "float16 float32 float64 int32 uint32 uint64 complex64 complex128", "subtract": "int32 uint32"}
ATOMIC["maximum"] = ATOMIC["minimum"] = "float32 float64 int32 uint32 uint64"


def record(copies: list[Copy], what: str) -> None:
    """Note a copy, with the nearest caller outside the stand-in (and outside NumPy, through which calls can come)."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals["__name__"].startswith(INSIDE):
        frame = frame.f_back
    copies.append(Copy(what, f"{frame.f_globals['__name__']}.{frame.f_code.co_name}"))


def inner(value: Any) -> Any:
    """The NumPy array inside a device array, also within lists and tuples. Host arrays are refused, as CuPy does."""
    if isinstance(value, ndarray):
        return value._values
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    return type(value)(map(inner, value)) if type(value) in (list, tuple) else value


def outer(value: Any, arguments: tuple[Any, ...] = ()) -> Any:
    """A device array around a NumPy result: a 0-d array around a scalar, and the same object around the same array."""
    for known in arguments:
        if isinstance(known, ndarray) and known._values is value:
            return known
    if isinstance(value, np.ndarray | np.generic):
        array = object.__new__(ndarray)
        array._values = np.asarray(value)
        return array
    if isinstance(value, list | tuple):
        parts = [outer(part, arguments) for part in value]
        return parts if isinstance(value, list) else tuple(parts)
    return value


def operand(value: Any) -> Any:
    """An operand of a ufunc: a device array or a scalar, nothing else."""
    if not isinstance(value, (ndarray, *SCALARS)):
        raise TypeError(f"Unsupported type {type(value)}")
    return inner(value)


def send(values: Any, what: str, **options: Any) -> np.ndarray:
    """A host value as it arrives on the device; a sequence of device arrays is joined there instead."""
    leaves = values if isinstance(values, list | tuple) and len(values) else [None]
    if all(isinstance(leaf, ndarray) for leaf in leaves):
        return np.array(inner(values), **options)
    array = np.array(values, **options)  # raises CuPy's own TypeError where a device array hides in a nested list
    if array.dtype.kind not in "biufc":
        raise ValueError(f"Unsupported dtype {array.dtype}")
    record(UPLOADS, what)
    return array


@functools.cache
def parse(signature: str) -> inspect.Signature:
    """The signature written in cupy_api.json, as Python's own binding of arguments understands it."""
    kind, parameters = inspect.Parameter.POSITIONAL_OR_KEYWORD, []
    for word in filter(None, signature.strip("()").split(", ")):
        if word == "*":
            kind = inspect.Parameter.KEYWORD_ONLY
        elif word.startswith("**"):
            parameters.append(inspect.Parameter(word[2:], inspect.Parameter.VAR_KEYWORD))
        elif word.startswith("*"):
            parameters.append(inspect.Parameter(word[1:], inspect.Parameter.VAR_POSITIONAL))
            kind = inspect.Parameter.KEYWORD_ONLY
        else:
            default = None if word.endswith("=") else inspect.Parameter.empty
            parameters.append(inspect.Parameter(word.rstrip("="), kind, default=default))
    return inspect.Signature(parameters)


def bind(name: str, signature: str, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments as NumPy takes them: optional ones by keyword, as their order differs. TypeError if CuPy takes none."""
    try:
        bound = parse(signature).bind(*args, **options)
    except TypeError as error:
        raise TypeError(f"{name}{signature}: {error}") from None
    if name.rpartition(".")[2] not in SENDS_TO_DEVICE:
        for key in ARRAYS & set(bound.arguments):
            operand(bound.arguments[key])
    positional, named = list(bound.args), dict(bound.kwargs)
    for parameter in bound.signature.parameters.values():
        optional = parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is not parameter.empty
        if optional and parameter.name in bound.arguments and parameter.name not in named:
            named[parameter.name] = bound.arguments[parameter.name]
            positional.pop()
    return positional, named


def axes_used(part: Any) -> int:
    """How many axes one part of an index consumes."""
    if part is None or part is Ellipsis:
        return 0
    return part.ndim if isinstance(part, np.ndarray) and part.dtype == bool else 1


def resolve(shape: tuple[int, ...], index: Any) -> tuple[tuple[Any, ...], bool]:
    """The NumPy index with which NumPy does what CuPy does with `index`; and whether it holds arrays."""
    parts = list(index) if isinstance(index, tuple) else [index]
    for place, part in enumerate(parts):
        if isinstance(part, ndarray):
            parts[place] = part._values
        elif isinstance(part, list | np.ndarray):
            parts[place] = send(part, "index", dtype=None if len(part) else np.int32)
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if any(part.dtype == bool for part in arrays):
        record(TRANSFERS, "mask")  # CuPy counts the true ones on the host
    axis, spare = 0, len(shape) - sum(map(axes_used, parts))
    for place, part in enumerate(parts):
        if isinstance(part, np.ndarray) and part.dtype.kind in "iu" and axis < len(shape):
            parts[place] = part % max(shape[axis], 1)
        axis += spare if part is Ellipsis else axes_used(part)
    return tuple(parts), bool(arrays)


def refuse_duplicates(places: np.ndarray) -> None:
    if np.unique(places).size != places.size:
        raise AssertionError("a store through an index with duplicates: which value stays is undefined in CuPy")


def scatter(ufunc: np.ufunc, array: "ndarray", index: Any, value: Any) -> None:
    """`ufunc.at` by atomic operations, which a GPU has for some types only."""
    place, has_arrays = resolve(array.shape, index)
    if has_arrays and array.dtype.name not in ATOMIC.get(ufunc.__name__, array.dtype.name).split():
        raise TypeError(f"scatter_{ufunc.__name__} only supports {ATOMIC[ufunc.__name__]}, not {array.dtype}")
    ufunc.at(array._values, place, np.asarray(operand(value)).astype(array.dtype))


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array on the pretended device. It wraps a NumPy array: a subclass would pass for one without a word.

    The operators come from NumPy's mixin: x + y calls numpy.add, as in CuPy, which comes back to __array_ufunc__.
    """

    __slots__ = ("_values",)
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]
    __imatmul__ = None  # type: ignore[assignment]  # in CuPy x @= y is not in place: it makes a new array
    _values: np.ndarray

    def __init__(self, shape: Any, dtype: Any = float) -> None:
        self._values = np.empty(shape, dtype)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *args: Any, out: tuple[Any, ...] = (), **options: Any
    ) -> Any:
        """`numpy.exp(x)` runs `cupy.exp(x)`; methods such as `numpy.add.at` do not come this far."""
        if method != "__call__" or ufunc.__name__ not in API["cupy"] or len(out) > 1:
            return NotImplemented
        return lookup("cupy", ufunc.__name__)(*args, *out, **options)

    def __array_function__(self, function: Callable[..., Any], kinds: Any, args: Any, options: Any) -> Any:
        """`numpy.sum(x)` runs `cupy.sum(x)`."""
        path = ".".join(["cupy", *function.__module__.split(".")[1:]])
        if API.get(path, {}).get(function.__name__, "numpy") == "numpy" or not set(kinds) <= {ndarray, np.ndarray}:
            return NotImplemented
        return lookup(path, function.__name__)(*args, **options)

    def __getattr__(self, name: str) -> Any:
        described = API["cupy.ndarray"].get(name)
        if described is None:
            raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r}")
        if name == "data":
            return SimpleNamespace(ptr=self._values.ctypes.data)
        if not hasattr(np.ndarray, name):
            raise NotImplementedError(f"the stand-in has no cupy.ndarray.{name}")
        if described == "property":
            return outer(getattr(self._values, name))
        return functools.partial(self._call, name, described)

    def _call(self, name: str, signature: str, *args: Any, **options: Any) -> Any:
        if name in WAITS:
            record(TRANSFERS, name)
        if name == "take":
            return lookup("cupy", "take")(self, *args, **options)
        positional, named = bind(f"cupy.ndarray.{name}", signature, args, options)
        result = getattr(self._values, name)(*map(inner, positional), **{key: inner(named[key]) for key in named})
        return outer(result, (self, *named.values()))

    # Reading values back to the host, and sending them there

    def get(
        self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True, *, _: str = "get"
    ) -> Any:
        record(TRANSFERS, _)
        if out is None:
            return np.array(self._values, order=order)
        out[...] = self._values
        return out

    def _read(self, convert: Callable[..., Any], *style: str) -> Any:
        return convert(self.get(_=convert.__name__), *style)

    item = functools.partialmethod(_read, np.ndarray.item)
    tolist = functools.partialmethod(_read, np.ndarray.tolist)
    __bool__ = functools.partialmethod(_read, bool)
    __int__ = functools.partialmethod(_read, int)
    __float__ = functools.partialmethod(_read, float)
    __complex__ = functools.partialmethod(_read, complex)
    __repr__ = functools.partialmethod(_read, repr)
    __str__ = functools.partialmethod(_read, str)
    __format__ = functools.partialmethod(_read, format)

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray) or arr.dtype != self.dtype:
            raise TypeError(f"{getattr(arr, 'dtype', type(arr))} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        self._values[...] = send(arr, "set")

    # Containers

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator["ndarray"]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[row] for row in range(len(self)))

    def __getitem__(self, index: Any) -> "ndarray":
        place, has_arrays = resolve(self.shape, index)
        part = self._values[place if has_arrays else (*place, ...) if Ellipsis not in place else place]
        return outer(part.copy() if has_arrays else part)

    def __setitem__(self, index: Any, value: Any) -> None:
        place, has_arrays = resolve(self.shape, index)
        if has_arrays and not any(isinstance(part, np.ndarray) and part.dtype == bool for part in place):
            refuse_duplicates(np.arange(self.size).reshape(self.shape)[place])
        self._values[place] = operand(value)

    def _scatter(self, ufunc: np.ufunc, slices: Any, value: Any) -> None:
        scatter(ufunc, self, slices, value)

    scatter_add = functools.partialmethod(_scatter, np.add)
    scatter_max = functools.partialmethod(_scatter, np.maximum)
    scatter_min = functools.partialmethod(_scatter, np.minimum)

    def __deepcopy__(self, memo: Any) -> "ndarray":
        return self.copy()

    def __reduce__(self) -> Any:
        return send_array, (self.get(),)


def send_array(values: np.ndarray) -> ndarray:
    return outer(send(values, "array"))


class Function:
    """A function of CuPy's, run by the NumPy function of the same name."""

    def __init__(self, path: str, name: str, signature: str, numpy_function: Callable[..., Any]) -> None:
        self.path, self.__name__, self.signature, self.numpy_function = path, name, signature, numpy_function

    def __call__(self, *args: Any, **options: Any) -> Any:
        name = self.__name__
        positional, named = bind(f"{self.path}.{name}", self.signature, args, options)
        if name in WAITS or (name == "where" and len(positional) + len(named) == 1):
            record(TRANSFERS, name)
        if name in SENDS_TO_DEVICE:
            named.pop("blocking", None)
            if not isinstance(positional[0], ndarray):
                return outer(send(positional[0], name, **named))
        if name == "where":  # NumPy takes x and y by position only
            positional, named = [*positional, *named.values()], {}
        if name == "take":
            index, named["mode"] = positional[1], "wrap"
            positional[1] = index if isinstance(index, ndarray | int | np.integer) else outer(send(index, "index"))
        if name == "put_along_axis":  # duplicates overwrite each other's numbers
            array, index, _, axis = map(inner, positional)
            written = np.zeros(array.shape, int)
            np.put_along_axis(written, index, np.arange(1, index.size + 1).reshape(index.shape), axis)
            refuse_duplicates(np.append(written[written > 0], np.zeros(index.size - np.count_nonzero(written), int)))
        result = self.numpy_function(*map(inner, positional), **{key: inner(named[key]) for key in named})
        if name in RETURNS_ARRAY:
            result = np.asarray(result)
        return outer(result, (*positional, *named.values()))


class ufunc:
    """A universal function of CuPy's: no `where`, no `order`, and few of NumPy's methods."""

    def __init__(self, name: str, methods: str, numpy_function: Any) -> None:
        self.__name__, self.methods, self.numpy_function = name, methods.split()[1:], numpy_function

    def __call__(self, *args: Any, out: Any = None, dtype: Any = None, casting: Any = None) -> Any:
        given = {"out": out, "dtype": dtype, "casting": casting}
        options = {key: inner(value) for key, value in given.items() if value is not None}
        outputs = out if isinstance(out, tuple) else (out,)
        return outer(self.numpy_function(*map(operand, args), **options), (*args, *outputs))

    def has(self, method: str) -> Any:
        if method not in self.methods:
            raise NotImplementedError(f"`cupy_{self.__name__}.{method}` is not supported yet")
        return getattr(self.numpy_function, method)

    def at(self, a: ndarray, indices: Any, b: Any = None) -> None:
        self.has("at")
        scatter(self.numpy_function, a, indices, b)

    def reduce(self, array: ndarray, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return outer(self.has("reduce")(operand(array), axis, dtype, inner(out), keepdims), (out,))

    def accumulate(self, array: ndarray, axis: Any = 0, dtype: Any = None, out: Any = None) -> Any:
        return outer(self.has("accumulate")(operand(array), axis, dtype, inner(out)), (out,))

    def outer(self, A: ndarray, B: ndarray) -> Any:
        return outer(self.has("outer")(operand(A), operand(B)))


def rsqrt(x: Any, **options: Any) -> Any:
    return np.reciprocal(np.sqrt(x), **options)


def erf(x: Any) -> Any:
    return np.vectorize(math.erf, otypes=[np.asarray(x).dtype])(x)


SOURCES = {
    "cupy": np,
    "cupy.fft": np.fft,
    "cupy.lib.stride_tricks": np.lib.stride_tricks,
    "cupy.linalg": np.linalg,
    "cupyx": SimpleNamespace(rsqrt=rsqrt),
    "cupyx.scipy.special": SimpleNamespace(erf=erf),
}


@functools.cache
def lookup(path: str, name: str) -> Any:
    """What `name` is in the module `path` of CuPy. AttributeError: CuPy lacks it; NotImplementedError: we do."""
    described = API[path].get(name)
    if described is None:
        raise AttributeError(f"module {path!r} has no attribute {name!r}")
    value = getattr(np if described == "numpy" else SOURCES.get(path), name, None)
    if value is None and name != "newaxis":
        raise NotImplementedError(f"the stand-in has no {path}.{name}")
    if described.startswith("ufunc"):
        return ufunc(name, described, value)
    if described.startswith("("):
        return Function(path, name, described, value)
    if described == "type" and not issubclass(value, Exception):
        raise NotImplementedError(f"the stand-in has no {path}.{name}")
    return value
