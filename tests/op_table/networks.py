"""Normalization, attention, and ops that change how gradients flow."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from minissl import ops, random
from tests.op_table.drawing import Drawn, distinct, one, row, seeds, shapes, some_axes, two, values


@st.composite
def normalized(draw: Any) -> Drawn:
    shape = (draw(st.integers(3, 5)), *draw(st.sampled_from([(), (2,), (2, 2)])), draw(st.integers(1, 3)))
    C = shape[-1]
    x = distinct(draw(seeds), shape)  # no channel may be nearly constant: its slope would be as steep as 1/√ε
    return (x, values(draw(seeds), (C,)), values(draw(seeds), (C,))), {"epsilon": 1e-3, "relu": draw(st.booleans())}


def batch_norm(x: Any, gamma: Any, beta: Any, epsilon: float, relu: bool) -> np.ndarray:
    y = np.empty_like(x)
    for c in range(x.shape[-1]):
        channel = x[..., c]
        y[..., c] = gamma[c] * (channel - channel.mean()) / np.sqrt(channel.var() + epsilon) + beta[c]
    return np.maximum(y, 0) if relu else y


@st.composite
def unit(draw: Any) -> Drawn:
    shape = draw(some_axes)
    return (values(draw(seeds), shape, 0.2, 2.0),), {"axis": draw(st.integers(-len(shape), len(shape) - 1))}


row(
    "batch_norm",
    normalized(),
    batch_norm,
    call=lambda *inputs, epsilon, relu: ops.batch_norm(*inputs, epsilon, relu)[0],
)
row("l2_normalize", unit(), lambda x, axis: x / np.sqrt((x * x).sum(axis=axis, keepdims=True)))


@st.composite
def layer_normalized(draw: Any) -> Drawn:
    D = draw(st.integers(2, 4))
    x = distinct(draw(seeds), (*draw(shapes), D))
    return (x, values(draw(seeds), (D,)), values(draw(seeds), (D,))), {"epsilon": 1e-3}


def layer_norm(x: Any, gamma: Any, beta: Any, epsilon: float) -> np.ndarray:
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


@st.composite
def group_normalized(draw: Any, single: bool = False) -> Drawn:
    groups, own = draw(st.integers(1, 3)), 1 if single else draw(st.integers(1, 2))
    shape = (draw(st.integers(1, 3)), *draw(st.sampled_from([(2,), (2, 2)])), groups * own)
    x, C = distinct(draw(seeds), shape), groups * own
    options = {"epsilon": 1e-3} | ({} if single else {"groups": groups})
    return (x, values(draw(seeds), (C,)), values(draw(seeds), (C,))), options


def group_norm(x: Any, gamma: Any, beta: Any, epsilon: float, groups: int | None = None) -> np.ndarray:
    groups = groups or x.shape[-1]
    y, own = np.empty_like(x), x.shape[-1] // groups
    for n, k in np.ndindex(len(x), groups):
        part = x[n, ..., k * own : (k + 1) * own]
        y[n, ..., k * own : (k + 1) * own] = (part - part.mean()) / np.sqrt(part.var() + epsilon)
    return y * gamma + beta


row("layer_norm", layer_normalized(), layer_norm)
row(
    "group_norm",
    group_normalized(),
    group_norm,
    call=lambda x, gamma, beta, groups, epsilon: ops.group_norm(x, groups, gamma, beta, epsilon),
)
row("instance_norm", group_normalized(single=True), group_norm)


@st.composite
def attended(draw: Any) -> Drawn:
    L, S, d, e = (draw(st.integers(1, 4)) for _ in range(4))
    leading = draw(st.sampled_from([(), (2,), (2, 2)]))
    mask = None
    if draw(st.booleans()):
        mask = np.random.default_rng(draw(seeds)).random((*draw(st.sampled_from([leading, ()])), L, S)) < 0.6
    arrays = (values(draw(seeds), (*leading, n, m)) for n, m in ((L, d), (S, d), (S, e)))
    return tuple(arrays), {"mask": mask, "causal": draw(st.booleans()), "chunk": draw(st.sampled_from([None, 1, 3]))}


def attention(q: Any, k: Any, v: Any, mask: Any, causal: bool, chunk: Any) -> np.ndarray:
    y = np.zeros((*q.shape[:-1], v.shape[-1]))
    for place in np.ndindex(*q.shape[:-1]):
        *n, i = place
        allowed = (
            np.ones(k.shape[-2], bool) if mask is None else np.broadcast_to(mask, (*q.shape[:-1], k.shape[-2]))[place]
        )
        allowed = allowed & (np.arange(k.shape[-2]) <= i) if causal else allowed
        if allowed.any():
            weight = np.exp(k[tuple(n)] @ q[place] / np.sqrt(q.shape[-1])) * allowed
            y[place] = weight / weight.sum() @ v[tuple(n)]
    return y


def dropout(x: Any, rate: float) -> np.ndarray:
    kept = np.random.default_rng((7,)).random(x.shape, "float32") >= rate
    return x * kept / (1 - rate)


def seeded_dropout(x: Any, rate: float) -> Any:
    random.seed(7)
    return ops.dropout(x, rate)


row("scaled_dot_product_attention", attended(), attention)
row("dropout", one(options={"rate": 0.4}), dropout, call=seeded_dropout)
row(
    "straight_through",
    one(),
    np.round,
    call=lambda x: ops.straight_through(np.round(x) if isinstance(x, np.ndarray) else x.data.round(), x),
    true_gradient=False,
)
row("gradient_reversal", one(), lambda x: x, true_gradient=False)
row(
    "recompute",
    two(),
    lambda a, b: np.tanh(a * b) + a,
    call=lambda a, b: ops.recompute(lambda a, b: ops.tanh(a * b) + a, a, b),
)
