"""Max pooling, one thread per output pixel; its gradient, one thread per input pixel."""

from typing import Any

from minissl.backend.base import Array
from minissl.backend.gpu.kernels import GEOMETRY, INSIDE, LOWEST, READER, Kernel, alike, geometry
from minissl.backend.windows import Window

# y[n, oh, ow, c] = max over the taps of a window. The second test lets a NaN win, as in NumPy; it then stays.
MAX_POOL = Kernel(
    "max_pool",
    f"raw T x, T lowest, {GEOMETRY}",
    "T y",
    """
    const int c = i % C;
    const ptrdiff_t at = i / C;                  // (n, oh, ow)
    const int ow = at % OW, oh = at / OW % OH;
    const ptrdiff_t n = at / OW / OH;
    T largest = lowest;
    for (int p = 0; p < kh; ++p) {
        for (int q = 0; q < kw; ++q) {
            const int h = oh * sh + p * dh - ph, w = ow * sw + q * dw - pw;
            if (!inside(h, w, H, W)) continue;
            const T value = x[((n * H + h) * W + w) * C + c];
            if (value > largest || value != value) largest = value;
        }
    }
    y = largest;
    """,
    INSIDE,
)

# dx[n, h, w, c] = Σ g over the windows that this pixel won: those whose largest value it has, unless a tap that comes
# earlier in reading order has that value too.
MAX_POOL_GRADIENT = Kernel(
    "max_pool_gradient",
    f"raw T g, raw T x, raw T y, T lowest, {GEOMETRY}",
    "T dx",
    """
    const int c = i % C;
    const ptrdiff_t pixel = i / C;               // (n, h, w)
    const int w = pixel % W, h = pixel / W % H;
    const ptrdiff_t n = pixel / W / H;
    T total = 0;
    for (int tap = 0; tap < kh * kw; ++tap) {
        const int oh = reader(h, tap / kw, sh, ph, dh, OH), ow = reader(w, tap % kw, sw, pw, dw, OW);
        if (oh < 0 || ow < 0) continue;
        const ptrdiff_t at = ((n * OH + oh) * OW + ow) * C + c;
        bool won = x[i] == y[at];
        for (int other = 0; won && other < tap; ++other) {
            const int u = oh * sh + other / kw * dh - ph, v = ow * sw + other % kw * dw - pw;
            const T earlier = inside(u, v, H, W) ? x[((n * H + u) * W + v) * C + c] : lowest;
            won = earlier != y[at];
        }
        if (won) total += g[at];
    }
    dx = total;
    """,
    INSIDE + READER,
)


def max_pool2d(xp: Any, x: Array, window: Window) -> Array:
    """See `Backend.max_pool2d`."""
    (x,) = alike(xp, x)
    N, H, W, C = x.shape
    y = xp.empty((N, *window.outputs(H, W), C), x.dtype)
    MAX_POOL(xp, x, LOWEST, *geometry(x.shape, window), y)
    return y


def max_pool2d_gradient(xp: Any, g: Array, x: Array, y: Array, window: Window) -> Array:
    """See `Backend.max_pool2d_gradient`."""
    g, x, y = alike(xp, g, x, y)
    dx = xp.empty(x.shape, x.dtype)
    MAX_POOL_GRADIENT(xp, g, x, y, LOWEST, *geometry(x.shape, window), dx)
    return dx
