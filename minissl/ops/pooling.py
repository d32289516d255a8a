"""Pooling over images (N, H, W, C)."""

from typing import Any

from minissl import backend
from minissl.backend.windows import Window, crop, pad
from minissl.ops.checks import dimensions, floating, pair
from minissl.tensor import Tensor, record

Pair = int | tuple[int, int]


def _window(op: str, x: Tensor, size: Pair, stride: Pair | None, padding: Pair) -> Window:
    dimensions(op, x, "N H W C")
    window = Window(
        pair(op, "size", size, 1),
        pair(op, "stride", size if stride is None else stride, 1),
        pair(op, "padding", padding, 0),
    )
    if any(2 * p > k for p, k in zip(window.padding, window.size, strict=True)):
        raise ValueError(f"{op}: expected padding of at most half the size, got {padding} for {size}")
    if min(window.outputs(*x.shape[1:3])) < 1:
        raise ValueError(f"{op}: images {x.shape[1:3]} are smaller than the window {window.size}; pad or enlarge them")
    return window


def max_pool2d(x: Any, size: Pair, stride: Pair | None = None, padding: Pair = 0) -> Tensor:
    """The largest value of each window; stride = size unless given. The gradient goes to the (first) pixel that won."""
    x = floating("max_pool2d", x)
    window = _window("max_pool2d", x, size, stride, padding)
    home, v = backend.of(x.data), x.data
    y = home.max_pool2d(v, window)
    return record(y, (x, lambda g: home.max_pool2d_gradient(g, v, y, window)))


def average_pool2d(x: Any, size: Pair, stride: Pair | None = None, padding: Pair = 0) -> Tensor:
    """The mean of each window, a border of zeros counted in. Every pixel of it receives an equal share."""
    x = floating("average_pool2d", x)
    window = _window("average_pool2d", x, size, stride, padding)
    xp, shape = backend.of(x.data).xp, x.shape
    padded = pad(xp, x.data, window.padding)
    rows, columns = window.outputs(*shape[1:3])
    taps = [window.tap(p, q, rows, columns) for p in range(window.size[0]) for q in range(window.size[1])]
    y = padded[taps[0]]
    for tap in taps[1:]:
        y = y + padded[tap]

    def vjp(g: Any) -> Any:
        share = g / len(taps)
        dx = pad(xp, xp.zeros(shape, g.dtype), window.padding)
        for tap in taps:
            dx[tap] += share
        return crop(dx, window.padding)

    return record(y / len(taps), (x, vjp))
