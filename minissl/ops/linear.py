"""Matrix products."""

from typing import Any

from minissl import backend
from minissl.ops.checks import broadcast_shape, floating, operands
from minissl.tensor import Tensor, record


def matmul(a: Any, b: Any) -> Tensor:
    """Y = A B over the last two axes, leading axes broadcast; vectors as in NumPy.  dA = dY Bᵀ, dB = Aᵀ dY.

    (..., M, K) @ (..., K, N) -> (..., M, N). Raises ValueError when the inner sizes or the leading axes do not match.
    """
    a, b = floating("matmul", a), floating("matmul", b)
    operands("matmul", a.data.reshape(-1)[:0], b.data.reshape(-1)[:0])  # one backend
    if not (a.ndim and b.ndim) or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise ValueError(
            f"matmul: expected (..., M, K) @ (..., K, N), got {a.shape} @ {b.shape}; transpose one of them?"
        )
    broadcast_shape("matmul", a.shape[:-2], b.shape[:-2])
    if a.ndim == 1 or b.ndim == 1:  # a vector is a matrix of one row, or of one column
        row, column = (a.reshape(1, -1) if a.ndim == 1 else a), (b.reshape(-1, 1) if b.ndim == 1 else b)
        product = matmul(row, column)
        shape = product.shape[: -2 if a.ndim == 1 else -1] + (product.shape[-1:] if b.ndim > 1 else ())
        return product.reshape(shape)
    home, A, B = backend.of(a.data), a.data, b.data
    return record(
        home.matmul(A, B),
        (a, lambda g: home.matmul(g, B.swapaxes(-1, -2))),
        (b, lambda g: home.matmul(A.swapaxes(-1, -2), g)),
    )


def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """y = x W + b for x (..., D_in), W (D_in, D_out), b (D_out,).

    Leading axes are flattened into one tall matrix: one large product, and no stack of small weight gradients.
    """
    x, weight = floating("linear", x), floating("linear", weight)
    if weight.ndim != 2 or not x.ndim or x.shape[-1] != weight.shape[0]:
        raise ValueError(f"linear: expected x (..., D_in) and W (D_in, D_out), got {x.shape} and {weight.shape}")
    y = matmul(x.reshape(-1, x.shape[-1]), weight) if x.ndim != 2 else matmul(x, weight)
    y = y if x.ndim == 2 else y.reshape(*x.shape[:-1], weight.shape[1])
    return y if bias is None else y + bias
