"""Rearranging, indexing and matrix products."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from minissl import ops
from tests.op_table.drawing import Drawn, along, broadcasting, one, row, seeds, shapes, some_axes, values


@st.composite
def reshaped(draw: Any) -> Drawn:
    shape = draw(shapes)
    new = draw(st.permutations(shape)) if draw(st.booleans()) else [-1]
    return (values(draw(seeds), shape),), {"shape": tuple(new)}


@st.composite
def transposed(draw: Any) -> Drawn:
    shape = draw(shapes)
    axes = tuple(draw(st.permutations(range(len(shape)))))
    return (values(draw(seeds), shape),), {"axes": draw(st.sampled_from([axes, None]))}


@st.composite
def stretched(draw: Any) -> Drawn:
    small, _ = draw(broadcasting())
    shape = tuple(n if n > 1 else draw(st.integers(1, 3)) for n in small)
    return (values(draw(seeds), small),), {"shape": (*draw(st.sampled_from([(), (2,), (1, 3)])), *shape)}


@st.composite
def several(draw: Any, grow: bool) -> Drawn:
    shape = draw(some_axes)
    axis = draw(st.integers(0, len(shape) - 1 if grow else len(shape)))
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        n = (draw(st.integers(0, 3)),) if grow else shape[axis : axis + 1]
        parts.append(values(draw(seeds), shape[:axis] + n + shape[axis + 1 :]))
    return tuple(parts), {"axis": axis}


@st.composite
def divided(draw: Any) -> Drawn:
    shape = list(draw(some_axes))
    axis, parts = draw(st.integers(0, len(shape) - 1)), draw(st.integers(1, 3))
    shape[axis] *= parts
    return (values(draw(seeds), tuple(shape)),), {"parts": parts, "axis": axis}


@st.composite
def padded(draw: Any) -> Drawn:
    shape = draw(some_axes)
    mode = draw(st.sampled_from(["constant", "reflect", "circular"]))
    most = [2 if mode == "constant" else n - (mode == "reflect") for n in shape]
    widths = [(draw(st.integers(0, n)), draw(st.integers(0, n))) for n in most]
    return (values(draw(seeds), shape),), {"widths": widths, "value": draw(st.sampled_from([0.0, -1.5])), "mode": mode}


def pad(x: Any, widths: Any, value: float, mode: str) -> np.ndarray:
    if mode == "constant":
        return np.pad(x, widths, constant_values=value)
    return np.pad(x, widths, mode="wrap" if mode == "circular" else mode)


@st.composite
def rolled(draw: Any) -> Drawn:
    shape = draw(some_axes)
    axes = tuple(draw(st.permutations(range(len(shape)))))[: draw(st.integers(1, len(shape)))]
    return (values(draw(seeds), shape),), {"shift": tuple(draw(st.integers(-5, 5)) for _ in axes), "axis": axes}


@st.composite
def tiled(draw: Any) -> Drawn:
    shape = draw(shapes)
    return (values(draw(seeds), shape),), {"repeats": [draw(st.integers(1, 3)) for _ in shape]}


KEYS = [
    (slice(None, None, 2), 1),
    (Ellipsis, None, slice(-1, None, -1)),
    (np.array([0, 2, 2, -1]),),
    (np.array([[0, 1], [1, 1]]), np.array([2, 0])),
    (slice(None), np.array([True, False, True])),
    0,
]

row("reshape", reshaped(), lambda x, shape: x.reshape(shape))
row("transpose", transposed(), np.transpose)
row("broadcast_to", stretched(), np.broadcast_to)
row(
    "concatenate",
    several(grow=True),
    lambda *parts, axis: np.concatenate(parts, axis),
    call=lambda *parts, axis: ops.concatenate(parts, axis),
)
row(
    "stack",
    several(grow=False),
    lambda *parts, axis: np.stack(parts, axis),
    call=lambda *parts, axis: ops.stack(parts, axis),
)
row(
    "split",
    divided(),
    lambda x, parts, axis: np.split(x, parts, axis)[-1],
    call=lambda x, parts, axis: ops.split(x, parts, axis)[-1],
)
row("flip", along(), np.flip)
row("pad", padded(), pad)
row("roll", rolled(), lambda x, shift, axis: np.roll(x, shift, axis))
row("tile", tiled(), lambda x, repeats: np.tile(x, repeats))
row(
    "getitem",
    st.tuples(seeds, st.sampled_from(KEYS)).map(lambda drawn: ((values(drawn[0], (3, 3)),), {"key": drawn[1]})),
    lambda x, key: x[key],
)
row("astype", one(options={"dtype": "float64"}), lambda x, dtype: x.astype(dtype))


@st.composite
def embedded(draw: Any) -> Drawn:
    K, shape = draw(st.integers(1, 4)), draw(shapes)
    index = np.random.default_rng(draw(seeds)).integers(0, K, shape)
    return (values(draw(seeds), (K, draw(st.integers(1, 3)))), index), {}


@st.composite
def taken(draw: Any) -> Drawn:
    shape = draw(some_axes)
    axis = draw(st.integers(0, len(shape) - 1))
    count = (*shape[:axis], draw(st.integers(1, 4)), *shape[axis + 1 :])
    index = np.random.default_rng(draw(seeds)).integers(0, shape[axis], count)
    return (values(draw(seeds), shape), index), {"axis": axis}


@st.composite
def scattered(draw: Any) -> Drawn:
    K, D = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    index = np.random.default_rng(draw(seeds)).integers(0, K, draw(st.integers(1, 5)))
    return (values(draw(seeds), (K, D)), index, values(draw(seeds), (len(index), D))), {}


def scatter_add(x: Any, index: Any, added: Any) -> np.ndarray:
    result = x.copy()
    for i, row_ in zip(index, added, strict=True):
        result[i] += row_
    return result


row("embedding", embedded(), lambda table, index: table[index])
row("take_along_axis", taken(), np.take_along_axis)
row("scatter_add", scattered(), scatter_add)


@st.composite
def matrices(draw: Any) -> Drawn:
    M, K, N = (draw(st.integers(1, 4)) for _ in range(3))
    a, b = draw(broadcasting())
    kind = draw(st.sampled_from(["matrices", "matrices", "vector left", "vector right", "vectors"]))
    left = (K,) if kind in ("vector left", "vectors") else (*a[:2], M, K)
    right = (K,) if kind in ("vector right", "vectors") else (*b[:2], K, N)
    if len(left) > 2 and len(right) > 2:
        left, right = (*a, M, K), (*b, K, N)
    return (values(draw(seeds), left), values(draw(seeds), right)), {}


@st.composite
def layers(draw: Any) -> Drawn:
    inputs, outputs = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    x = values(draw(seeds), (*draw(shapes), inputs))
    return (x, values(draw(seeds), (inputs, outputs)), values(draw(seeds), (outputs,))), {}


SUMS = ["ij,jk->ik", "nld,kd->nlk", "bij,bjk->bik", "ij->ji", "ijk->j", "i,j->ij", "ij,ij->", "bi,ij,bj->b", "ij,k->i"]


@st.composite
def summed(draw: Any) -> Drawn:
    subscripts = draw(st.sampled_from(SUMS))
    sizes = {letter: draw(st.integers(1, 3)) for letter in "ijknldb"}
    arrays = [
        values(draw(seeds), tuple(sizes[letter] for letter in own)) for own in subscripts.split("->")[0].split(",")
    ]
    return tuple(arrays), {"subscripts": subscripts}


row(
    "einsum",
    summed(),
    lambda *arrays, subscripts: np.einsum(subscripts, *arrays),
    call=lambda *arrays, subscripts: ops.einsum(subscripts, *arrays),
)
row(
    "outer",
    st.tuples(seeds, st.integers(1, 4), st.integers(1, 4)).map(
        lambda drawn: ((values(drawn[0], drawn[1:2]), values(drawn[0] + 1, drawn[2:])), {})
    ),
    np.outer,
)
row("matmul", matrices(), np.matmul)
row(
    "squared_distances",
    st.tuples(seeds, *[st.integers(1, 4)] * 3).map(
        lambda drawn: ((values(drawn[0], (drawn[1], drawn[3])), values(drawn[0] + 1, (drawn[2], drawn[3]))), {})
    ),
    lambda a, b: ((a[:, None] - b) ** 2).sum(axis=2),
)
row("linear", layers(), lambda x, weight, bias: np.einsum("...i,io->...o", x, weight) + bias)
