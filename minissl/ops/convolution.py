"""Convolution over images (N, H, W, C)."""

from typing import Any

from minissl import backend
from minissl.backend.windows import Window
from minissl.ops.checks import dimensions, floating, operands, pair
from minissl.tensor import Tensor, record


def conv2d(
    x: Any,
    weight: Any,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Tensor:
    """y[n,i,j,o] = Σ_pqc x[n, i·s + p·d, j·s + q·d, c] w[p,q,c,o]: (N, H, W, C) -> (N, OH, OW, O).

    weight: (kh, kw, C/groups, O); padding: pixels of zeros on each side; OH = (H + 2p − d(kh − 1) − 1) // s + 1.
    With groups, output channels see only their own group of input channels (groups = C: depthwise).
    """
    x, weight = floating("conv2d", x), floating("conv2d", weight)
    dimensions("conv2d", x, "N H W C")
    dimensions("conv2d", weight, "kh kw C O")
    operands("conv2d", x.data.reshape(-1)[:0], weight.data.reshape(-1)[:0])  # one backend
    C, O = x.shape[3], weight.shape[3]
    if groups < 1 or weight.shape[2] * groups != C or O % groups:
        raise ValueError(
            f"conv2d: expected weight (kh, kw, C/groups, O) for C = {C} and groups = {groups}, got {weight.shape}"
        )
    window = Window(
        weight.shape[:2],
        pair("conv2d", "stride", stride, 1),
        pair("conv2d", "padding", padding, 0),
        pair("conv2d", "dilation", dilation, 1),
    )
    if min(window.outputs(*x.shape[1:3])) < 1:
        raise ValueError(
            f"conv2d: images {x.shape[1:3]} are smaller than the window {window.span}; pad or enlarge them"
        )
    home, v, w = backend.of(x.data), x.data, weight.data
    return record(
        home.conv2d(v, w, window, groups),
        (x, lambda g: home.conv2d_input_gradient(g, w, v.shape, window, groups)),
        (weight, lambda g: home.conv2d_weight_gradient(v, g, window, groups)),
    )
