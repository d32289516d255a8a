"""The memory of a computation, and the walk back along it.

A Node is one recorded op: its parents, and for each the function (vjp) that carries the result's gradient to it. The
walk takes nodes newest first and frees them on the way, so that memory shrinks while gradients grow.
"""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minissl import backend
from minissl.backend import Array

Vjp = Callable[[Array], Any]

_numbers = itertools.count()
checking = False  # whether every value and gradient is searched for NaN and infinity; see `tensor.debug_nan`


class Node:
    """How one value was computed: its pairs of parents and vjp, and its number in the order of creation."""

    __slots__ = ("number", "pairs")

    def __init__(self, pairs: list[tuple[tuple["Source | None", ...], Vjp]]) -> None:
        self.number = next(_numbers)
        self.pairs: list[tuple[tuple[Source | None, ...], Vjp]] | None = pairs


class Source:
    """Where a parent's gradient goes: to the node that computed it, or to the leaf tensor itself.

    It holds no intermediate value: an array stays alive only if some vjp needs it.
    """

    __slots__ = ("dtype", "origin", "shape")

    def __init__(self, tensor: Any) -> None:
        self.origin: Any = tensor._node or tensor
        self.shape, self.dtype = tensor.shape, tensor.dtype


@dataclass(frozen=True)
class Part:
    """A gradient that is zero except at `key`: what a vjp returns that read some elements only.

    It is added into the parent's gradient in place, so that T slices of one tensor cost as much as the tensor, and not
    T times as much. `repeats`: some element may be named twice.
    """

    key: Any
    value: Array
    repeats: bool

    def add_into(self, total: Array) -> None:
        if self.repeats:
            backend.of(total).scatter_add(total, self.key, self.value)
        else:
            total[self.key] += self.value


class Sum:
    """The gradient of one parent, as its terms come in. `ours`: nobody else holds the array, it may be added into."""

    __slots__ = ("ours", "total")

    def __init__(self, first: Array, ours: bool) -> None:
        self.total, self.ours = first, ours

    def add(self, term: Array, ours: bool) -> None:
        home = backend.of(self.total)
        if self.ours or ours:
            self.total, other = (self.total, term) if self.ours else (term, self.total)
            home.update(_add_into, self.total, other)
        else:
            self.total = as_array(home.elementwise(home.xp.add, self.total, term))
        self.ours = True

    def add_part(self, part: Part) -> None:
        if not self.ours:
            self.total, self.ours = self.total.copy(), True
        part.add_into(self.total)


def _add_into(total: Array, term: Array) -> None:
    total += term


def walk(source: Source, gradient: Array, keep_graph: bool) -> None:
    """Carry a gradient from a tensor to all its leaves, newest node first.

    Creation order is a topological order: when a node comes up, everything computed from it has come up before, so its
    gradient is complete. A diamond, y = f(a(x), b(x)), shows why that is needed: x must wait for both a and b.
    """
    sums: dict[Any, Sum] = {source.origin: Sum(gradient, ours=False)}
    queue = [(-source.origin.number, source.origin)] if isinstance(source.origin, Node) else []
    while queue:
        _, node = heapq.heappop(queue)
        gradient = sums.pop(node).total
        pairs = node.pairs
        if pairs is None:
            raise RuntimeError(
                "backward: this graph was freed by an earlier backward; call that one with keep_graph=True"
            )
        if not keep_graph:
            node.pairs = None
        while pairs:
            sources, vjp = pairs[-1]
            pairs = pairs[:-1]
            terms = vjp(gradient)
            for parent, term in zip(sources, terms if isinstance(terms, tuple) else (terms,), strict=True):
                if parent is None:
                    continue
                if parent.origin not in sums and isinstance(parent.origin, Node):
                    heapq.heappush(queue, (-parent.origin.number, parent.origin))
                _collect(sums, parent, term, gradient, vjp)
            del vjp, terms  # and with them the arrays that they hold
    for leaf, found in sums.items():
        leaf.grad = as_array(leaf.grad + found.total) if leaf.grad is not None else found.total
        if leaf.grad is found.total and not found.ours:
            leaf.grad = found.total.copy()


def _collect(sums: dict[Any, Sum], parent: Source, term: Array | Part, gradient: Array, vjp: Vjp) -> None:
    """Add one term to the gradient of a parent."""
    found = sums.get(parent.origin)
    if isinstance(term, Part):
        if found is None:
            found = sums[parent.origin] = Sum(backend.of(term.value).xp.zeros(parent.shape, parent.dtype), ours=True)
        found.add_part(term)
        return
    term = _fit(term, parent, vjp)
    ours = term is not gradient and not isinstance(term.base, type(term))  # no view: a vjp keeps nothing it returns
    if found is None:
        sums[parent.origin] = Sum(term, ours)
    else:
        found.add(term, ours)


def _fit(gradient: Array, parent: Source, vjp: Vjp) -> Array:
    """Sum a broadcast gradient back to its parent's shape; check what the vjp returned."""
    extra = gradient.ndim - len(parent.shape)
    if extra > 0:
        gradient = gradient.sum(axis=tuple(range(extra)))
    stretched = tuple(i for i, n in enumerate(parent.shape) if n == 1 and extra >= 0 and gradient.shape[i] != 1)
    if stretched:
        gradient = gradient.sum(axis=stretched, keepdims=True)
    if gradient.dtype != parent.dtype:
        gradient = gradient.astype(parent.dtype)  # where float32 and float64 were mixed
    gradient = as_array(gradient)
    if checking and not finite(gradient):
        raise FloatingPointError(f"{vjp.__qualname__.split('.')[0]}: its gradient is the first that is not finite")
    check_gradient(gradient, parent, vjp.__qualname__.split(".")[0])
    return gradient


def finite(array: Array) -> bool:
    """Whether no element is NaN or infinite."""
    return array.dtype.kind != "f" or bool(backend.of(array).xp.isfinite(array).all())


def as_array(value: Array) -> Array:
    """NumPy makes scalars of 0-d results, and those cannot be added into."""
    return value if value.ndim else backend.of(value).xp.asarray(value)


def check_gradient(gradient: Array, source: Source, op: str) -> None:
    if gradient.shape != source.shape or gradient.dtype != source.dtype:
        raise ValueError(
            f"{op}: expected a gradient of shape {source.shape} and type {source.dtype}, "
            f"got {gradient.shape} and {gradient.dtype}"
        )
