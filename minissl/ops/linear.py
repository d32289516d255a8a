"""Matrix products."""

from typing import Any

from minissl.ops.checks import broadcast_shape, floating, one_backend
from minissl.tensor import Tensor, as_tensor, record


def matmul(a: Any, b: Any) -> Tensor:
    """Y = A B over the last two axes, leading axes broadcast; vectors as in NumPy.  dA = dY Bᵀ, dB = Aᵀ dY.

    (..., M, K) @ (..., K, N) -> (..., M, N). Raises ValueError when the inner sizes or the leading axes do not match.
    """
    a, b = floating("matmul", a), floating("matmul", b)
    home = one_backend("matmul", a, b)
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
    A, B = a.data, b.data
    return record(
        home.matmul(A, B),
        (a, lambda g: home.matmul(g, B.swapaxes(-1, -2))),
        (b, lambda g: home.matmul(A.swapaxes(-1, -2), g)),
    )


def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """y = x W + b for x (..., D_in), W (D_in, D_out), b (D_out,).  dx = dy Wᵀ, dW = xᵀ dy, db = Σ dy over the rows.

    Leading axes are flattened into one tall matrix: one large product, and no stack of small weight gradients.
    """
    x, weight = floating("linear", x), floating("linear", weight)
    if weight.ndim != 2 or not x.ndim or x.shape[-1] != weight.shape[0]:
        raise ValueError(f"linear: expected x (..., D_in) and W (D_in, D_out), got {x.shape} and {weight.shape}")
    if x.ndim != 2:
        return linear(x.reshape(-1, x.shape[-1]), weight, bias).reshape(*x.shape[:-1], weight.shape[1])
    if bias is None:
        return matmul(x, weight)
    bias = floating("linear", bias)
    if bias.shape != weight.shape[1:]:
        raise ValueError(f"linear: expected a bias {weight.shape[1:]} for W {weight.shape}, got {bias.shape}")
    home, X, W = one_backend("linear", x, weight, bias), x.data, weight.data
    return record(
        home.linear(X, W, bias.data),
        (x, lambda g: home.matmul(g, W.T)),
        (weight, lambda g: home.matmul(X.T, g)),
        (bias, lambda g: home.column_sum(g)),
    )


def outer(a: Any, b: Any) -> Tensor:
    """y_ij = a_i b_j for vectors (M,) and (N,)."""
    a, b = as_tensor(a), as_tensor(b)
    if a.ndim != 1 or b.ndim != 1:
        raise ValueError(f"outer: expected two vectors, got shapes {a.shape} and {b.shape}")
    return a.reshape(-1, 1) * b


def einsum(subscripts: str, *factors: Any) -> Tensor:
    """Sum of products in Einstein's notation, such as "nd,kd->nk"; the result's letters must be given.

    The gradient of an operand is an einsum again: of the result's gradient and all other operands, to its own letters.
    """
    tensors = tuple(floating("einsum", factor) for factor in factors)
    xp, arrays = one_backend("einsum", *tensors).xp, [tensor.data for tensor in tensors]
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    letters = inputs.split(",")
    if not arrow or "." in subscripts or len(letters) != len(tensors):
        raise ValueError(f"einsum: expected letters for {len(tensors)} operands and '->', got {subscripts!r}")
    sizes: dict[str, int] = {}
    for own, tensor in zip(letters, tensors, strict=True):
        if len(own) != tensor.ndim or len(set(own)) != len(own):
            raise ValueError(f"einsum: expected one letter for each axis, each once, got {own!r} for {tensor.shape}")
        for letter, n in zip(own, tensor.shape, strict=True):
            if sizes.setdefault(letter, n) != n:
                raise ValueError(f"einsum: axis {letter!r} of {subscripts!r} has sizes {sizes[letter]} and {n}")
    if len(set(output)) != len(output) or not set(output) <= set(sizes):
        raise ValueError(f"einsum: expected result letters that occur in an operand, each once, got {output!r}")

    def gradient(i: int) -> Any:
        others = [letters[j] for j in range(len(letters)) if j != i]
        known = "".join(letter for letter in letters[i] if letter in output or letter in "".join(others))
        spread = tuple(n if letter in known else 1 for letter, n in zip(letters[i], arrays[i].shape, strict=True))

        def vjp(g: Any) -> Any:
            part = xp.einsum(",".join([output, *others]) + "->" + known, g, *arrays[:i], *arrays[i + 1 :])
            return part.reshape(spread) + xp.zeros_like(arrays[i])  # a letter summed alone: the same for each value

        return vjp

    return record(xp.einsum(subscripts, *arrays), *((tensor, gradient(i)) for i, tensor in enumerate(tensors)))
