"""One row per public op: how to draw its inputs, and a NumPy oracle. `test_ops.py` derives all tests from it.

A row's strategy draws (arrays, options). Where an op has kinks, its inputs stay away from them, so that central
differences mean something; what happens at a kink has tests of its own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

Drawn = tuple[tuple[np.ndarray, ...], dict[str, Any]]


@dataclass(frozen=True)
class Row:
    op: str
    inputs: st.SearchStrategy[Drawn]
    oracle: Callable[..., Any]
    first: bool = False  # the op returns more than its value


ROWS: list[Row] = []


def row(op: str, inputs: st.SearchStrategy[Drawn], oracle: Callable[..., Any], first: bool = False) -> None:
    ROWS.append(Row(op, inputs, oracle, first))


# -- how inputs are drawn -------------------------------------------------------------------------------------------


def values(
    seed: int, shape: tuple[int, ...], low: float = -2.0, high: float = 2.0, kink: float | None = None
) -> np.ndarray:
    """Uniform numbers, none within 0.01 of the kink."""
    x = np.random.default_rng(seed).uniform(low, high, shape)
    return x if kink is None else np.where(np.abs(x - kink) < 0.01, kink + 0.05, x)


def distinct(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of which no two are closer than 0.01: no ties, and none within a step of central differences."""
    return np.random.default_rng(seed).permutation(math.prod(shape)).reshape(shape) * 0.05 - 1.0


seeds = st.integers(0, 2**32 - 1)
shapes = st.lists(st.integers(1, 4), min_size=0, max_size=4).map(tuple)  # 0-d included
some_axes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


@st.composite
def broadcasting(draw: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that broadcast: axes of one dropped in front or set to 1."""
    shape = draw(shapes)
    pair = []
    for _ in range(2):
        thin = tuple(draw(st.sampled_from([n, n, 1])) for n in shape)
        pair.append(thin[draw(st.integers(0, len(thin))) :])
    return pair[0], pair[1]


@st.composite
def one(draw: Any, low: float = -2.0, high: float = 2.0, kink: float | None = None, options: Any = None) -> Drawn:
    """One array of any shape."""
    return (values(draw(seeds), draw(shapes), low, high, kink),), options or {}


@st.composite
def two(draw: Any, low: float = -2.0, high: float = 2.0, kink: float | None = None) -> Drawn:
    """Two arrays that broadcast."""
    a, b = draw(broadcasting())
    return (values(draw(seeds), a), values(draw(seeds), b, low, high, kink)), {}


@st.composite
def apart(draw: Any) -> Drawn:
    """Two arrays that broadcast, nowhere equal."""
    (a, b), _ = draw(two())
    return (np.round(a, 1), np.round(b, 1) + 0.05), {}


@st.composite
def reduced(draw: Any, tied: bool = True) -> Drawn:
    """An array, the axes to reduce it over, and whether to keep them."""
    shape = draw(shapes)
    axis: Any = None
    if shape and draw(st.booleans()):
        chosen = draw(st.permutations(range(-len(shape), 0)))[: draw(st.integers(1, len(shape)))]
        axis = chosen[0] + len(shape) if len(chosen) == 1 else tuple(chosen)
    x = values(draw(seeds), shape) if tied else distinct(draw(seeds), shape)
    return (x,), {"axis": axis, "keepdims": draw(st.booleans())}


@st.composite
def along(draw: Any, **options: Any) -> Drawn:
    """An array with at least one axis, and one of its axes."""
    shape = draw(some_axes)
    return (values(draw(seeds), shape),), {"axis": draw(st.integers(-len(shape), len(shape) - 1)), **options}


# -- arithmetic -------------------------------------------------------------------------------------------------------

row("add", two(), np.add)
row("subtract", two(), np.subtract)
row("multiply", two(), np.multiply)
row("divide", two(0.3, 3.0), np.divide)
row("negative", one(), np.negative)
row(
    "power",
    st.sampled_from([2, 3, -1, 0.5, -1.5, 0, 1]).flatmap(lambda k: one(0.3, 3.0, options={"exponent": k})),
    lambda x, exponent: x**exponent,
)
row("maximum", apart(), np.maximum)
row("minimum", apart(), np.minimum)


@st.composite
def chosen(draw: Any) -> Drawn:
    (a, b), _ = draw(two())
    condition = np.random.default_rng(draw(seeds)).random(np.broadcast_shapes(a.shape, b.shape)) < 0.5
    return (condition, a, b), {}


row("where", chosen(), np.where)

# -- elementwise ------------------------------------------------------------------------------------------------------

row("exp", one(), np.exp)
row("log", one(0.1, 5.0), np.log)
row("log1p", one(-0.9, 5.0), np.log1p)
row("sqrt", one(0.1, 5.0), np.sqrt)
row("absolute", one(kink=0.0), np.abs)
row(
    "clip",
    one(-1.5, 0.9, kink=-1.0, options={"low": -1.0, "high": 1.0}),
    lambda x, low, high: np.minimum(np.maximum(x, low), high),
)
row("tanh", one(), np.tanh)
row("sigmoid", one(-30, 30), lambda x: 1 / (1 + np.exp(-x)))
row("softplus", one(-30, 30), lambda x: np.log(1 + np.exp(x)))
row("relu", one(kink=0.0), lambda x: x * (x > 0))

# -- reduction --------------------------------------------------------------------------------------------------------

row("sum", reduced(), np.sum)
row("mean", reduced(), np.mean)
row("var", reduced(), np.var)
row("max", reduced(tied=False), np.max)
row("min", reduced(tied=False), np.min)
row("logsumexp", reduced(), lambda x, axis, keepdims: np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims)))

# -- softmax ----------------------------------------------------------------------------------------------------------

row("softmax", along(), lambda x, axis: np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True))
row("log_softmax", along(), lambda x, axis: np.log(np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True)))

# -- shaping ----------------------------------------------------------------------------------------------------------


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
    widths = [(draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in shape]
    return (values(draw(seeds), shape),), {"widths": widths, "value": draw(st.sampled_from([0.0, -1.5]))}


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
row("concatenate", several(grow=True), lambda *parts, axis: np.concatenate(parts, axis))
row("stack", several(grow=False), lambda *parts, axis: np.stack(parts, axis))
row("split", divided(), lambda x, parts, axis: np.split(x, parts, axis)[0], first=True)
row("flip", along(), np.flip)
row("pad", padded(), lambda x, widths, value: np.pad(x, widths, constant_values=value))
row(
    "getitem",
    st.tuples(seeds, st.sampled_from(KEYS)).map(lambda drawn: ((values(drawn[0], (3, 3)),), {"key": drawn[1]})),
    lambda x, key: x[key],
)
row("astype", one(options={"dtype": "float64"}), lambda x, dtype: x.astype(dtype))

# -- matrix products --------------------------------------------------------------------------------------------------


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


row("matmul", matrices(), np.matmul)
row("linear", layers(), lambda x, weight, bias: np.einsum("...i,io->...o", x, weight) + bias)

# -- windows ----------------------------------------------------------------------------------------------------------


@st.composite
def convolved(draw: Any) -> Drawn:
    two_of = lambda low, high: (draw(st.integers(low, high)), draw(st.integers(low, high)))
    size, stride, padding, dilation = two_of(1, 3), two_of(1, 2), two_of(0, 2), two_of(1, 2)
    groups = draw(st.sampled_from([1, 1, 2]))
    C, O = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    H, W = ((k - 1) * d + draw(st.integers(1, 3)) for k, d in zip(size, dilation, strict=True))
    x = values(draw(seeds), (draw(st.integers(1, 2)), H, W, C))
    w = values(draw(seeds), (*size, C // groups, O))
    return (x, w), {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


def convolution(x: Any, w: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> np.ndarray:
    """Plain loops over everything."""
    (N, H, W, C), (kh, kw, c, O) = x.shape, w.shape
    OH, OW = (
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip((H, W), padding, dilation, (kh, kw), stride, strict=True)
    )
    y = np.zeros((N, OH, OW, O))
    for n, i, j, o, p, q, k in np.ndindex(N, OH, OW, O, kh, kw, c):
        row_, column = i * stride[0] + p * dilation[0] - padding[0], j * stride[1] + q * dilation[1] - padding[1]
        if 0 <= row_ < H and 0 <= column < W:
            y[n, i, j, o] += x[n, row_, column, o // (O // groups) * c + k] * w[p, q, k, o]
    return y


@st.composite
def pooled(draw: Any, tied: bool) -> Drawn:
    size = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    stride = draw(st.sampled_from([None, 1, 2, (1, 2)]))
    padding = (draw(st.integers(0, size[0] // 2)), draw(st.integers(0, size[1] // 2)))
    shape = (draw(st.integers(1, 2)), size[0] + draw(st.integers(0, 3)), size[1] + draw(st.integers(0, 3)), 2)
    x = values(draw(seeds), shape) if tied else distinct(draw(seeds), shape)
    return (x,), {"size": size, "stride": stride, "padding": padding}


def pooling(reduce: Callable[..., Any], border: float) -> Callable[..., np.ndarray]:
    def oracle(x: Any, size: Any, stride: Any, padding: Any) -> np.ndarray:
        sh, sw = stride if isinstance(stride, tuple) else size if stride is None else (stride, stride)
        x = np.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)), constant_values=border)
        OH, OW = (x.shape[1] - size[0]) // sh + 1, (x.shape[2] - size[1]) // sw + 1
        y = np.empty((len(x), OH, OW, x.shape[3]))
        for i, j in np.ndindex(OH, OW):
            y[:, i, j] = reduce(x[:, i * sh : i * sh + size[0], j * sw : j * sw + size[1]], axis=(1, 2))
        return y

    return oracle


row("conv2d", convolved(), convolution)
row("max_pool2d", pooled(tied=False), pooling(np.max, -np.inf))
row("average_pool2d", pooled(tied=True), pooling(np.mean, 0.0))

# -- normalization ----------------------------------------------------------------------------------------------------


@st.composite
def normalized(draw: Any) -> Drawn:
    shape = (draw(st.integers(3, 5)), *draw(st.sampled_from([(), (2,), (2, 2)])), draw(st.integers(1, 3)))
    C = shape[-1]
    x = distinct(draw(seeds), shape)  # no channel may be nearly constant: its slope would be as steep as 1/√ε
    return (x, values(draw(seeds), (C,)), values(draw(seeds), (C,))), {"epsilon": 1e-3}


def batch_norm(x: Any, gamma: Any, beta: Any, epsilon: float) -> np.ndarray:
    y = np.empty_like(x)
    for c in range(x.shape[-1]):
        channel = x[..., c]
        y[..., c] = gamma[c] * (channel - channel.mean()) / np.sqrt(channel.var() + epsilon) + beta[c]
    return y


@st.composite
def unit(draw: Any) -> Drawn:
    shape = draw(some_axes)
    return (values(draw(seeds), shape, 0.2, 2.0),), {"axis": draw(st.integers(-len(shape), len(shape) - 1))}


row("batch_norm", normalized(), batch_norm, first=True)
row("l2_normalize", unit(), lambda x, axis: x / np.sqrt((x * x).sum(axis=axis, keepdims=True)))
