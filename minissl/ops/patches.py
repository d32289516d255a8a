"""Images as windows and back: unfold copies every window out, fold adds it in. Each is the other's adjoint."""

from typing import Any

from minissl import backend
from minissl.backend import Array, Backend
from minissl.backend.windows import Window
from minissl.ops.checks import dimensions, floating, pair
from minissl.tensor import Tensor, record

Pair = int | tuple[int, int]


def unfold(x: Any, size: Pair, stride: Pair | None = None) -> Tensor:
    """All windows of images: (N, H, W, C) -> (N, OH, OW, kh, kw, C); stride = size (patches) unless given."""
    x = floating("unfold", x)
    dimensions("unfold", x, "N H W C")
    window = Window(pair("unfold", "size", size, 1), pair("unfold", "stride", size if stride is None else stride, 1))
    if min(window.outputs(*x.shape[1:3])) < 1:
        raise ValueError(
            f"unfold: images {x.shape[1:3]} are smaller than the window {window.size}; pad or enlarge them"
        )
    home, shape = backend.of(x.data), x.shape
    windows = window.view(home.xp, home.xp.asarray(x.data, order="C")).copy()
    return record(windows, (x, lambda g: _add_in(home, g, shape, window)))


def fold(windows: Any, height: int, width: int, stride: Pair | None = None) -> Tensor:
    """Images in which every window is added at its place: (N, OH, OW, kh, kw, C) -> (N, height, width, C).

    With stride = size (the default) it inverts `unfold`; with a smaller stride, pixels are sums over their windows.
    """
    windows = floating("fold", windows)
    dimensions("fold", windows, "N OH OW kh kw C")
    N, OH, OW, kh, kw, C = windows.shape
    window = Window((kh, kw), pair("fold", "stride", (kh, kw) if stride is None else stride, 1))
    if window.outputs(height, width) != (OH, OW):
        raise ValueError(
            f"fold: expected {window.outputs(height, width)} windows for images of {(height, width)}, got {(OH, OW)}"
        )
    home = backend.of(windows.data)
    images = _add_in(home, windows.data, (N, height, width, C), window)
    return record(images, (windows, lambda g: window.view(home.xp, home.xp.asarray(g, order="C")).copy()))


def _add_in(home: Backend, windows: Array, shape: tuple[int, ...], window: Window) -> Array:
    images = home.xp.zeros(shape, windows.dtype)
    for p in range(window.size[0]):
        for q in range(window.size[1]):
            images[window.tap(p, q, *windows.shape[1:3])] += windows[:, :, :, p, q]
    return images
