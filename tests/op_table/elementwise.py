"""Arithmetic, functions of one number, reductions and softmax."""

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.op_table.drawing import (
    Drawn,
    along,
    apart,
    one,
    reduced,
    row,
    seeds,
    two,
)

row("add", two(), np.add)
row("add_relu", apart(), lambda a, b: np.maximum(a + b, 0))
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

row("leaky_relu", one(kink=0.0, options={"slope": 0.1}), lambda x, slope: np.maximum(x, slope * x))
row("elu", one(kink=0.0, options={"alpha": 1.5}), lambda x, alpha: np.where(x > 0, x, alpha * (np.exp(x) - 1)))
row("silu", one(-20, 20), lambda x: x / (1 + np.exp(-x)))


def gelu(x: Any, form: str) -> np.ndarray:
    if form == "tanh":
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + np.vectorize(math.erf, otypes=[float])(x / np.sqrt(2)))


row(
    "gelu",
    st.sampled_from(["tanh", "erf"]).flatmap(lambda form: one(-5, 5, options={"form": form})),
    gelu,
    tolerance=1e-6,
)


row("sum", reduced(), np.sum)
row("mean", reduced(), np.mean)
row("var", reduced(), np.var)
row("max", reduced(tied=False), np.max)
row("min", reduced(tied=False), np.min)
row("logsumexp", reduced(), lambda x, axis, keepdims: np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims)))

row("norm", reduced(), lambda x, axis, keepdims: np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims)))
row("cumsum", along(), np.cumsum)


row("softmax", along(), lambda x, axis: np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True))
row("log_softmax", along(), lambda x, axis: np.log(np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True)))
