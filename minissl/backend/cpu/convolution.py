"""Convolution as matrix products over columns, a few megabytes at a time, each thread on its share of the images.

The columns of a chunk of images are copied into a scratch array that stays in the outer cache, multiplied, and written
over by the next chunk; whole-batch columns would be nine times the input and would live in main memory.
x is saved for the backward pass, never the columns: copying them again is cheaper than keeping them.
"""

import math

import numpy as np

from minissl.backend.cpu.memory import empty
from minissl.backend.cpu.threads import chunks, split, workspace
from minissl.backend.windows import Window, flipped

COLUMN_BYTES = 4 << 20  # of one chunk; under 1 MB the products get small, above 16 MB the columns leave the cache


def column_elements(shape: tuple[int, ...], window: Window) -> int:
    """Elements of one image's columns."""
    _, H, W, C = shape
    return math.prod(window.outputs(H, W)) * math.prod(window.size) * C


def images_per_chunk(shape: tuple[int, ...], window: Window, itemsize: int) -> int:
    """How many images fill a chunk of columns."""
    return max(1, COLUMN_BYTES // (column_elements(shape, window) * itemsize))


def columns(x: np.ndarray, window: Window) -> np.ndarray:
    """Every window of these images as a row: (n, H, W, C) -> (n·OH·OW, kh·kw·C), in this thread's scratch memory."""
    n, H, W, C = x.shape
    kh, kw = window.size
    ph, pw = window.padding
    if (kh, kw, ph, pw) == (1, 1, 0, 0):
        sh, sw = window.stride
        return x[:, ::sh, ::sw].reshape(-1, C)
    if ph or pw:
        padded = workspace("padded", (n, H + 2 * ph, W + 2 * pw, C), x.dtype)
        padded[:, :ph] = padded[:, H + ph :] = 0
        padded[:, :, :pw] = padded[:, :, W + pw :] = 0
        padded[:, ph : ph + H, pw : pw + W] = x
        x = padded
    windows = window.view(np, x)  # (n, OH, OW, kh, kw, C)
    rows = workspace("columns", windows.shape, x.dtype)
    np.copyto(rows, windows)
    return rows.reshape(-1, kh * kw * C)


def conv2d(x: np.ndarray, w: np.ndarray, window: Window) -> np.ndarray:
    """See `Backend.conv2d`."""
    N, H, W, _ = x.shape
    O = w.shape[-1]
    matrix = w.reshape(-1, O)  # (kh·kw·C, O)
    y = empty((N, *window.outputs(H, W), O), np.result_type(x, w))
    step = images_per_chunk(x.shape, window, x.itemsize)

    def work(start: int, stop: int) -> None:
        for s in chunks(start, stop, step):
            np.matmul(columns(x[s], window), matrix, out=y[s].reshape(-1, O))

    split(work, N, N * column_elements(x.shape, window))
    return y


def weight_gradient(x: np.ndarray, g: np.ndarray, window: Window) -> np.ndarray:
    """dw = Σ over chunks of columnsᵀ g. See `Backend.conv2d_weight_gradient`."""
    C, O = x.shape[-1], g.shape[-1]
    if O < C and math.prod(window.size) > 1 and (backward := window.backward()) is not None:
        return flipped(weight_gradient(g, x, backward))  # the columns of g are narrower than those of x
    shape = (*window.size, C, O)
    step = images_per_chunk(x.shape, window, x.itemsize)

    def work(start: int, stop: int) -> np.ndarray:
        total = np.zeros((shape[0] * shape[1] * shape[2], O), g.dtype)
        product = workspace("product", total.shape, g.dtype)
        for s in chunks(start, stop, step):
            np.matmul(columns(x[s], window).T, g[s].reshape(-1, O), out=product)
            total += product
        return total

    return sum(split(work, len(x), len(x) * column_elements(x.shape, window))).reshape(shape)  # type: ignore[union-attr]


def input_gradient(g: np.ndarray, w: np.ndarray, shape: tuple[int, ...], window: Window) -> np.ndarray:
    """dx, at stride 1 as a convolution of g with the flipped kernel. See `Backend.conv2d_input_gradient`."""
    backward = window.backward()
    if backward is not None:
        return conv2d(g, flipped(w), backward)
    return _scatter_gradient(g, w, shape, window)


def _scatter_gradient(g: np.ndarray, w: np.ndarray, shape: tuple[int, ...], window: Window) -> np.ndarray:
    """dx for larger strides: the columns' gradient g wᵀ, each tap added back where it was read."""
    N, H, W, C = shape
    _, OH, OW, O = g.shape
    (kh, kw), (ph, pw) = window.size, window.padding
    matrix = w.reshape(-1, O).T  # (O, kh·kw·C)
    dx = empty(shape, g.dtype)
    step = images_per_chunk(shape, window, g.itemsize)

    def work(start: int, stop: int) -> None:
        for s in chunks(start, stop, step):
            n = s.stop - s.start
            taps = workspace("columns", (n, OH, OW, kh, kw, C), g.dtype)
            np.matmul(g[s].reshape(-1, O), matrix, out=taps.reshape(n * OH * OW, -1))
            padded = workspace("padded", (n, H + 2 * ph, W + 2 * pw, C), g.dtype)
            padded[...] = 0
            for p in range(kh):
                for q in range(kw):
                    padded[window.tap(p, q, OH, OW)] += taps[:, :, :, p, q]
            dx[s] = padded[:, ph : ph + H, pw : pw + W]

    split(work, N, N * column_elements(shape, window))
    return dx
