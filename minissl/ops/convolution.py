"""Convolution over images (N, H, W, C)."""

from typing import Any

from minissl.backend.windows import Window
from minissl.ops.checks import dimensions, floating, one_backend, pair
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
    home = one_backend("conv2d", x, weight)
    C, O = x.shape[3], weight.shape[3]
    if 0 in weight.shape or groups < 1 or weight.shape[2] * groups != C or O % groups:
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
    v, w = x.data, weight.data
    return record(
        home.conv2d(v, w, window, groups),
        (x, lambda g: home.conv2d_input_gradient(g, w, v.shape, window, groups)),
        (weight, lambda g: home.conv2d_weight_gradient(v, g, window, groups)),
    )


def conv1d(x: Any, weight: Any, stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1) -> Tensor:
    """y[n,i,o] = Σ_pc x[n, i·s + p·d, c] w[p,c,o]: (N, L, C) and (k, C/groups, O) -> (N, OL, O)."""
    x, weight = floating("conv1d", x), floating("conv1d", weight)
    dimensions("conv1d", x, "N L C")
    dimensions("conv1d", weight, "k C O")
    image, kernel = x.reshape(len(x), 1, *x.shape[1:]), weight.reshape(1, *weight.shape)  # one row of pixels
    y = conv2d(image, kernel, (1, stride), (0, padding), (1, dilation), groups)
    return y.reshape(len(y), *y.shape[2:])


def conv_transpose2d(
    x: Any,
    weight: Any,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    output_padding: int | tuple[int, int] = 0,
) -> Tensor:
    """The adjoint of conv2d, ⟨conv(x), y⟩ = ⟨x, convᵀ(y)⟩: each value spreads a copy of the kernel, a stride apart.

    x (N, H, W, C), weight (kh, kw, O, C), the shape of a convolution from O to C channels; -> (N, OH, OW, O) with
    OH = (H − 1) s − 2p + kh + output_padding (< s, since several sizes have a convolution of size H).
    """
    x, weight = floating("conv_transpose2d", x), floating("conv_transpose2d", weight)
    dimensions("conv_transpose2d", x, "N H W C")
    dimensions("conv_transpose2d", weight, "kh kw O C")
    home = one_backend("conv_transpose2d", x, weight)
    if 0 in weight.shape or x.shape[3] != weight.shape[3]:
        raise ValueError(f"conv_transpose2d: expected weight (kh, kw, O, C) for C = {x.shape[3]}, got {weight.shape}")
    window = Window(
        weight.shape[:2],
        pair("conv_transpose2d", "stride", stride, 1),
        pair("conv_transpose2d", "padding", padding, 0),
    )
    extra = pair("conv_transpose2d", "output_padding", output_padding, 0)
    sizes = [
        (n - 1) * s - 2 * p + k + e
        for n, s, p, k, e in zip(x.shape[1:3], window.stride, window.padding, window.size, extra, strict=True)
    ]
    if min(sizes) < 1 or any(e >= s for e, s in zip(extra, window.stride, strict=True)):
        raise ValueError(
            f"conv_transpose2d: expected output_padding below the stride and a result of at least one pixel, "
            f"got {output_padding} and {tuple(sizes)}"
        )
    v, w = x.data, weight.data
    return record(
        home.conv2d_input_gradient(v, w, (len(x), *sizes, weight.shape[2]), window),
        (x, lambda g: home.conv2d(g, w, window)),
        (weight, lambda g: home.conv2d_weight_gradient(g, v, window)),
    )
