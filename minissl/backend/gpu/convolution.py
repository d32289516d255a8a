"""Convolution as matrix products over columns: one kernel lays the windows out as rows, cuBLAS multiplies.

Columns are kh·kw times the input, so they are made for a chunk of images at a time, in memory that the next chunk
takes again. x is saved for the backward pass, never the columns.
"""

from collections.abc import Iterator
from typing import Any

from minissl.backend.base import Array
from minissl.backend.gpu.kernels import GEOMETRY, INSIDE, READER, Kernel, alike, geometry
from minissl.backend.windows import Window, flipped

COLUMN_BYTES = 256 << 20  # of one chunk: large enough to fill the device, small beside its memory
WORD = 16  # bytes that one thread copies at once

# columns[n, oh, ow, p, q, c] = x[n, oh·s + p·d − padding, ow·s + q·d − padding, c], and 0 in the border.
COLUMNS = Kernel(
    "columns",
    f"raw T x, {GEOMETRY}",
    "T column",
    """
    const int row_size = kh * kw * C;
    const ptrdiff_t row = i / row_size;          // (n, oh, ow)
    const int rest = i - row * row_size;         // (p, q, c)
    const int c = rest % C, q = rest / C % kw, p = rest / C / kw;
    const int ow = row % OW, oh = row / OW % OH;
    const ptrdiff_t n = row / OW / OH;
    const int h = oh * sh + p * dh - ph, w = ow * sw + q * dw - pw;
    column = inside(h, w, H, W) ? x[((n * H + h) * W + w) * C + c] : T(0);
    """,
    INSIDE,
)

# dx[n, h, w, c] = Σ_pq of the columns' gradients at those (oh, ow) whose tap (p, q) read the pixel (h, w).
GATHER = Kernel(
    "gather_columns",
    f"raw T columns, {GEOMETRY}",
    "T dx",
    """
    const int c = i % C;
    const ptrdiff_t pixel = i / C;               // (n, h, w)
    const int w = pixel % W, h = pixel / W % H;
    const ptrdiff_t n = pixel / W / H;
    T total = 0;
    for (int p = 0; p < kh; ++p) {
        const int oh = reader(h, p, sh, ph, dh, OH);
        for (int q = 0; oh >= 0 && q < kw; ++q) {
            const int ow = reader(w, q, sw, pw, dw, OW);
            if (ow >= 0) total += columns[((((n * OH + oh) * OW + ow) * kh + p) * kw + q) * C + c];
        }
    }
    dx = total;
    """,
    READER,
)


def conv2d(xp: Any, x: Array, w: Array, window: Window) -> Array:
    """See `Backend.conv2d`."""
    x, w = alike(xp, x, w)
    N, H, W, _ = x.shape
    O = w.shape[-1]
    matrix = w.reshape(-1, O)  # (kh·kw·C, O)
    y = xp.empty((N, *window.outputs(H, W), O), x.dtype)
    for images, columns in column_chunks(xp, x, window):
        xp.matmul(columns, matrix, out=y[images].reshape(-1, O))
    return y


def weight_gradient(xp: Any, x: Array, g: Array, window: Window) -> Array:
    """dw = Σ over chunks of columnsᵀ g. See `Backend.conv2d_weight_gradient`."""
    x, g = alike(xp, x, g)
    C, O = x.shape[-1], g.shape[-1]
    kh, kw = window.size
    dw = xp.zeros((kh * kw * C, O), x.dtype)
    for images, columns in column_chunks(xp, x, window):
        dw += xp.matmul(columns.T, g[images].reshape(-1, O))
    return dw.reshape(kh, kw, C, O)


def input_gradient(xp: Any, g: Array, w: Array, shape: tuple[int, ...], window: Window) -> Array:
    """dx, at stride 1 as a convolution of g with the flipped kernel. See `Backend.conv2d_input_gradient`."""
    backward = window.backward()
    if backward is not None:
        return conv2d(xp, g, flipped(w), backward)
    g, w = alike(xp, g, w)
    O = g.shape[-1]
    matrix = w.reshape(-1, O).T  # (O, kh·kw·C)
    dx = xp.empty(shape, g.dtype)
    for images in chunks(shape, window, g.itemsize):
        columns = xp.matmul(g[images].reshape(-1, O), matrix)  # (n·OH·OW, kh·kw·C)
        GATHER(xp, columns, *geometry(shape, window), dx[images])
    return dx


def chunks(shape: tuple[int, ...], window: Window, itemsize: int) -> list[slice]:
    """Slices of images (N, H, W, C) whose columns fill at most COLUMN_BYTES, or one image each if that is larger."""
    N, H, W, C = shape
    OH, OW = window.outputs(H, W)
    kh, kw = window.size
    step = max(1, COLUMN_BYTES // (OH * OW * kh * kw * C * itemsize))
    return [slice(a, min(a + step, N)) for a in range(0, N, step)]


def column_chunks(xp: Any, x: Array, window: Window) -> Iterator[tuple[slice, Array]]:
    """Slices of the images, each with its columns (n·OH·OW, kh·kw·C); the next ones take the same memory."""
    N, H, W, C = x.shape
    OH, OW = window.outputs(H, W)
    kh, kw = window.size
    if window == Window((1, 1)):  # the pixels are the columns
        yield slice(0, N), x.reshape(-1, C)
        return
    word = widest(xp, x)
    words = x.view(word)  # (N, H, W, C·itemsize/word)
    memory = None
    for images in chunks(x.shape, window, x.itemsize):
        rows = (images.stop - images.start) * OH * OW
        memory = xp.empty((rows, kh * kw * C), x.dtype) if memory is None else memory[:rows]
        COLUMNS(xp, words[images], *geometry(words.shape, window), memory.view(word))
        yield images, memory


def widest(xp: Any, x: Array) -> Any:
    """The type as which to copy x: four float32 travel as one complex128, where the channels and the address allow."""
    fits = x.shape[-1] * x.itemsize % WORD == 0 and x.data.ptr % WORD == 0
    return xp.complex128 if fits else x.dtype
