"""Sliding windows over images: the geometry that convolution and pooling share."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Window:
    """Size, stride, padding and dilation of a sliding window, each (vertical, horizontal), in pixels."""

    size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    @property
    def span(self) -> tuple[int, int]:
        """Height and width that one window covers, the gaps of its dilation included."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.size, self.dilation, strict=True))  # type: ignore[return-value]

    def outputs(self, height: int, width: int) -> tuple[int, int]:
        """How many windows fit into an image, vertically and horizontally.  (H + 2p − span) // s + 1"""
        return tuple(
            (n + 2 * p - span) // s + 1
            for n, p, span, s in zip((height, width), self.padding, self.span, self.stride, strict=True)
        )  # type: ignore[return-value]

    def tap(self, p: int, q: int, rows: int, columns: int) -> tuple[slice, slice, slice]:
        """The index of the pixels (N, rows, columns) that sit at (p, q) of every window, in padded images."""
        (sh, sw), (dh, dw) = self.stride, self.dilation
        vertical = slice(p * dh, p * dh + sh * (rows - 1) + 1, sh)
        horizontal = slice(q * dw, q * dw + sw * (columns - 1) + 1, sw)
        return slice(None), vertical, horizontal

    def backward(self) -> "Window | None":
        """The window in which dx = conv2d(g, flipped(w)), or None: larger strides, and wider borders, have none."""
        border = tuple(span - 1 - p for span, p in zip(self.span, self.padding, strict=True))
        if self.stride != (1, 1) or min(border) < 0:
            return None
        return Window(self.size, (1, 1), border, self.dilation)  # type: ignore[arg-type]

    def view(self, xp: Any, padded: Any) -> Any:
        """All windows of padded images (N, H, W, C) as a view (N, OH, OW, kh, kw, C); nothing is copied."""
        N, H, W, C = padded.shape
        (sh, sw), (dh, dw), (kh, kw) = self.stride, self.dilation, self.size
        OH, OW = Window(self.size, self.stride, (0, 0), self.dilation).outputs(H, W)
        n, h, w, c = padded.strides
        strides = (n, h * sh, w * sw, h * dh, w * dw, c)
        return xp.lib.stride_tricks.as_strided(padded, (N, OH, OW, kh, kw, C), strides)


def flipped(w: Any) -> Any:
    """The kernel that takes output gradients back to the input: (kh, kw, C, O) -> (kh, kw, O, C), a view."""
    return w[::-1, ::-1].transpose(0, 1, 3, 2)


def pad(xp: Any, x: Any, padding: tuple[int, int], value: float = 0.0) -> Any:
    """Images with a border of `value`: (N, H, W, C) -> (N, H + 2ph, W + 2pw, C)."""
    ph, pw = padding
    if not (ph or pw):
        return x
    N, H, W, C = x.shape
    padded = xp.full((N, H + 2 * ph, W + 2 * pw, C), value, x.dtype)
    padded[:, ph : ph + H, pw : pw + W] = x
    return padded


def crop(padded: Any, padding: tuple[int, int]) -> Any:
    """The inverse of `pad`: a view without the border."""
    ph, pw = padding
    return padded[:, ph : padded.shape[1] - ph, pw : padded.shape[2] - pw]
