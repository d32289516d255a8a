"""Tensor: an array that remembers how it was computed, and the walk back along that memory.

An op computes its value and calls `record` with one function per parent that carries a gradient back (a
vector-Jacobian product, vjp). All bookkeeping happens here, once, so that an op is an equation and its derivatives:

    def multiply(a, b):
        a, b = operands("multiply", a, b)
        return record(a.data * b.data, (a, lambda g: g * b.data), (b, lambda g: g * a.data))
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from minissl import backend, graph
from minissl.backend import Array
from minissl.graph import Node, Source, Vjp, check_gradient, walk

_recording = True


class Tensor:
    """An array on one backend, with a gradient if `requires_grad`.

    `data` may be a NumPy or CuPy array (kept as it is, not copied), a number or nested lists (made an array on the
    current backend, float32 if any number is a float). `grad` is None until `backward` reaches this tensor; it is kept
    for leaves only, the tensors that no op computed. Raises TypeError for anything else, or for an integer tensor that
    asks for a gradient.
    """

    __slots__ = ("_node", "data", "grad", "requires_grad")

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        self.data = _as_array(data)
        if requires_grad and self.data.dtype.kind != "f":
            raise TypeError(
                f"only floating-point tensors carry a gradient, got {self.data.dtype}; use .astype('float32')"
            )
        self.grad: Array | None = None
        self.requires_grad = requires_grad
        self._node: Node | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    def numpy(self) -> Any:
        """A copy of the values in host memory, as a NumPy array."""
        return backend.to_host(self.data).copy()

    def item(self) -> float:
        """The value of a tensor with one element, as a Python number (waits for the device)."""
        if self.size != 1:
            raise ValueError(f"item: expected a tensor with one element, got shape {self.shape}; reduce it first")
        return backend.to_host(self.data).item()

    def backward(self, gradient: Any = None, keep_graph: bool = False) -> None:
        """Add d(self)/d(leaf), times `gradient` (1 for a scalar), to `.grad` of every leaf that this was computed from.

        The graph is freed on the way, so a second call is an error unless the first had `keep_graph=True`.
        """
        if not self.requires_grad:
            raise ValueError("backward: this tensor does not depend on any tensor with requires_grad=True")
        if gradient is None:
            if self.size != 1:
                raise ValueError(
                    f"backward: expected a scalar, got shape {self.shape}; reduce it first, or pass gradient="
                )
            gradient = backend.of(self.data).xp.ones_like(self.data)
        gradient = as_tensor(gradient).data
        source = Source(self)
        check_gradient(gradient, source, "backward")
        walk(source, gradient, keep_graph)

    if TYPE_CHECKING:  # the operators and common methods are ops; `minissl.ops` binds them

        def __add__(self, other: Any) -> "Tensor": ...
        def __radd__(self, other: Any) -> "Tensor": ...
        def __sub__(self, other: Any) -> "Tensor": ...
        def __rsub__(self, other: Any) -> "Tensor": ...
        def __mul__(self, other: Any) -> "Tensor": ...
        def __rmul__(self, other: Any) -> "Tensor": ...
        def __truediv__(self, other: Any) -> "Tensor": ...
        def __rtruediv__(self, other: Any) -> "Tensor": ...
        def __matmul__(self, other: Any) -> "Tensor": ...
        def __rmatmul__(self, other: Any) -> "Tensor": ...
        def __pow__(self, exponent: float) -> "Tensor": ...
        def __neg__(self) -> "Tensor": ...
        def __abs__(self) -> "Tensor": ...
        def __getitem__(self, key: Any) -> "Tensor": ...
        def sum(self, axis: Any = None, keepdims: bool = False) -> "Tensor": ...
        def mean(self, axis: Any = None, keepdims: bool = False) -> "Tensor": ...
        def var(self, axis: Any = None, keepdims: bool = False, ddof: int = 0) -> "Tensor": ...
        def max(self, axis: Any = None, keepdims: bool = False) -> "Tensor": ...
        def min(self, axis: Any = None, keepdims: bool = False) -> "Tensor": ...
        def exp(self) -> "Tensor": ...
        def log(self) -> "Tensor": ...
        def sqrt(self) -> "Tensor": ...
        def reshape(self, *shape: Any) -> "Tensor": ...
        def transpose(self, *axes: int) -> "Tensor": ...
        def astype(self, dtype: Any) -> "Tensor": ...

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len: a 0-d tensor has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator["Tensor"]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        raise TypeError("a Tensor has no truth value; use .item() for one element, or compare .data")

    def __array__(self, *_: Any) -> Any:
        raise TypeError("a Tensor does not turn into a NumPy array by itself; use .numpy() for a copy or .data")

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError("tensors are not assigned into; build a new one with where, concatenate or scatter_add")

    def __repr__(self) -> str:
        values = repr(backend.to_host(self.data)).removeprefix("array")
        return f"Tensor{values[:-1]}, requires_grad=True)" if self.requires_grad else f"Tensor{values}"


def _as_array(data: Any) -> Array:
    if isinstance(data, Tensor):
        raise TypeError(
            "expected an array, a number or lists, got a Tensor; use stop_gradient(tensor) for a constant copy"
        )
    if hasattr(data, "dtype") and hasattr(data, "ndim"):
        backend.of(data)  # raises for arrays of any other library
        return data if data.ndim else backend.of(data).xp.asarray(data)
    array = backend.current().xp.asarray(data)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"expected numbers, got {type(data).__name__} that becomes an array of {array.dtype}")
    return array.astype("float32") if array.dtype == "float64" else array


def as_tensor(value: Any) -> Tensor:
    """`value` itself if it is a Tensor, else a constant made of it."""
    return value if isinstance(value, Tensor) else Tensor(value)


@contextmanager
def no_grad() -> Iterator[None]:
    """Inside this block nothing is recorded: results are constants and cost no memory."""
    global _recording
    before, _recording = _recording, False
    try:
        yield
    finally:
        _recording = before


@contextmanager
def debug_nan() -> Iterator[None]:
    """Inside this block the first op that makes NaN or infinity of finite inputs, or whose gradient does, is an error.

    FloatingPointError names it. Slow: every value is searched, and on a GPU waited for.
    """
    before, graph.checking = graph.checking, True
    try:
        yield
    finally:
        graph.checking = before


def stop_gradient(tensor: Any) -> Tensor:
    """The same values as a constant: what is behind it receives exactly no gradient."""
    return Tensor(tensor.data) if isinstance(tensor, Tensor) else Tensor(tensor)


def record(value: Array, *pairs: tuple[Tensor | Sequence[Tensor], Vjp]) -> Tensor:
    """The result of an op, and the way back: for each parent a vjp, from the result's gradient to the parent's.

    A pair may name several parents at once when their gradients are computed together; its vjp then returns one
    gradient per parent. A vjp returns a new array, the gradient it was given, or a view (also where two parents share
    one array); never an array that it keeps. Parents that need no gradient are skipped: their vjp is never called.
    """
    result = Tensor(value)
    if graph.checking and not graph.finite(result.data):
        inputs = [p for first, _ in pairs for p in ((first,) if isinstance(first, Tensor) else first)]
        if all(graph.finite(tensor.data) for tensor in inputs):
            op, shapes = pairs[0][1].__qualname__.split(".")[0], ", ".join(str(tensor.shape) for tensor in inputs)
            raise FloatingPointError(f"{op}: the first op whose result is not finite; its inputs have shapes {shapes}")
    if not _recording:
        return result
    kept = []
    for parents, vjp in pairs:
        group = (parents,) if isinstance(parents, Tensor) else tuple(parents)
        sources = tuple(Source(parent) if parent.requires_grad else None for parent in group)
        if any(sources):
            kept.append((sources, vjp))
    if kept:
        result.requires_grad = True
        result._node = Node(kept)
    return result
