"""Convolution, pooling, resampling and patches."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.op_table.drawing import (
    Drawn,
    distinct,
    row,
    seeds,
    values,
)


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
    (N, H, W, _), (kh, kw, c, O) = x.shape, w.shape
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


@st.composite
def convolved_lines(draw: Any) -> Drawn:
    k, s, p, d = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(0, 2)), draw(st.integers(1, 2))
    x = values(draw(seeds), (draw(st.integers(1, 2)), (k - 1) * d + draw(st.integers(1, 4)), 2))
    return (x, values(draw(seeds), (k, 2, 3))), {"stride": s, "padding": p, "dilation": d}


def line_convolution(x: Any, w: Any, stride: int, padding: int, dilation: int) -> np.ndarray:
    return convolution(x[:, None], w[None], (1, stride), (0, padding), (1, dilation), 1)[:, 0]


@st.composite
def spread(draw: Any) -> Drawn:
    pairs = lambda low, high: (draw(st.integers(low, high)), draw(st.integers(low, high)))
    size, stride = pairs(1, 3), pairs(1, 2)
    padding = tuple(draw(st.integers(0, (k - 1) // 2)) for k in size)
    extra = tuple(draw(st.integers(0, s - 1)) for s in stride)
    x = values(draw(seeds), (draw(st.integers(1, 2)), *pairs(1, 3), 2))
    return (x, values(draw(seeds), (*size, 3, 2))), {"stride": stride, "padding": padding, "output_padding": extra}


def transposed_convolution(x: Any, w: Any, stride: Any, padding: Any, output_padding: Any) -> np.ndarray:
    (N, H, W, _), (kh, kw, O, _) = x.shape, w.shape
    full = np.zeros((N, (H - 1) * stride[0] + kh + output_padding[0], (W - 1) * stride[1] + kw + output_padding[1], O))
    for i, j in np.ndindex(H, W):
        a, b = i * stride[0], j * stride[1]
        full[:, a : a + kh, b : b + kw] += np.einsum("nc,pqoc->npqo", x[:, i, j], w)
    return full[:, padding[0] : full.shape[1] - padding[0], padding[1] : full.shape[2] - padding[1]]


@st.composite
def images(draw: Any, least: int = 1) -> tuple[np.ndarray, tuple[int, int]]:
    H, W = draw(st.integers(least, 6)), draw(st.integers(least, 6))
    return values(draw(seeds), (draw(st.integers(1, 2)), H, W, 2)), (H, W)


@st.composite
def binned(draw: Any) -> Drawn:
    x, (H, W) = draw(images())
    return (x,), {"size": (draw(st.integers(1, H)), draw(st.integers(1, W)))}


def bins(x: Any, size: Any) -> np.ndarray:
    y = np.empty((len(x), *size, x.shape[3]))
    edges = [[(i * n // k, -(-(i + 1) * n // k)) for i in range(k)] for n, k in zip(x.shape[1:3], size, strict=True)]
    for i, j in np.ndindex(*size):
        y[:, i, j] = x[:, slice(*edges[0][i]), slice(*edges[1][j])].mean(axis=(1, 2))
    return y


@st.composite
def interpolated(draw: Any) -> Drawn:
    x, _ = draw(images())
    return (x,), {"size": (draw(st.integers(1, 8)), draw(st.integers(1, 8)))}


def bilinear(x: Any, size: Any) -> np.ndarray:
    y = np.empty((len(x), *size, x.shape[3]))
    for i, j in np.ndindex(*size):
        v, h = (np.clip((k + 0.5) * n / m - 0.5, 0, n - 1) for k, n, m in zip((i, j), x.shape[1:3], size, strict=True))
        a, b = int(v), int(h)
        a1, b1 = min(a + 1, x.shape[1] - 1), min(b + 1, x.shape[2] - 1)
        top = x[:, a, b] * (1 - (h - b)) + x[:, a, b1] * (h - b)
        y[:, i, j] = top * (1 - (v - a)) + (x[:, a1, b] * (1 - (h - b)) + x[:, a1, b1] * (h - b)) * (v - a)
    return y


@st.composite
def windowed(draw: Any) -> Drawn:
    x, (H, W) = draw(images(2))
    size = (draw(st.integers(1, H)), draw(st.integers(1, W)))
    return (x,), {"size": size, "stride": draw(st.sampled_from([None, 1, (2, 1)]))}


def windows_of(x: Any, size: Any, stride: Any) -> np.ndarray:
    sh, sw = size if stride is None else stride if isinstance(stride, tuple) else (stride, stride)
    OH, OW = (x.shape[1] - size[0]) // sh + 1, (x.shape[2] - size[1]) // sw + 1
    y = np.empty((len(x), OH, OW, *size, x.shape[3]))
    for i, j in np.ndindex(OH, OW):
        y[:, i, j] = x[:, i * sh : i * sh + size[0], j * sw : j * sw + size[1]]
    return y


@st.composite
def folded(draw: Any) -> Drawn:
    (x,), options = draw(windowed())
    windows = windows_of(x, **options)
    return (values(draw(seeds), windows.shape),), {
        "height": x.shape[1],
        "width": x.shape[2],
        "stride": options["stride"],
    }


def sum_of_windows(windows: Any, height: int, width: int, stride: Any) -> np.ndarray:
    N, OH, OW, kh, kw, C = windows.shape
    sh, sw = (kh, kw) if stride is None else stride if isinstance(stride, tuple) else (stride, stride)
    x = np.zeros((N, height, width, C))
    for i, j in np.ndindex(OH, OW):
        x[:, i * sh : i * sh + kh, j * sw : j * sw + kw] += windows[:, i, j]
    return x


row("conv1d", convolved_lines(), line_convolution)
row("conv_transpose2d", spread(), transposed_convolution)
row("adaptive_average_pool2d", binned(), bins)
row(
    "upsample_nearest",
    st.tuples(images(), st.integers(1, 3)).map(lambda drawn: ((drawn[0][0],), {"factor": drawn[1]})),
    lambda x, factor: x.repeat(factor, axis=1).repeat(factor, axis=2),
)
row("upsample_bilinear", interpolated(), bilinear)
row("unfold", windowed(), windows_of)
row("fold", folded(), sum_of_windows)
