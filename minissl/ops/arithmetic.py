"""Sums, products and choices of two tensors, broadcasting. The sum over broadcast axes is taken in `record`'s walk."""

from typing import Any

from minissl import backend
from minissl.backend import Array
from minissl.ops.checks import broadcast_shape, floating, operands
from minissl.tensor import Tensor, as_tensor, record


def add(a: Any, b: Any) -> Tensor:
    """a + b.  d(a + b) = da + db."""
    a, b = operands("add", a, b)
    home = backend.of(a.data)
    return record(home.elementwise(home.xp.add, a.data, b.data), (a, lambda g: g), (b, lambda g: g))


def add_relu(a: Any, b: Any) -> Tensor:
    """max(a + b, 0), the end of a residual block, in one pass.  d = da + db where the sum is above 0."""
    a, b = operands("add_relu", a, b)
    home = backend.of(a.data)
    y = home.elementwise(lambda a, b: home.xp.maximum(a + b, 0), a.data, b.data)

    def vjp(g: Array) -> tuple[Array, Array]:
        through = home.elementwise(lambda g, y: g * (y > 0), g, y)[...]  # a view: both parents share it
        return through, through

    return record(y, ((a, b), vjp))


def subtract(a: Any, b: Any) -> Tensor:
    """a − b.  d(a − b) = da − db."""
    a, b = operands("subtract", a, b)
    return record(a.data - b.data, (a, lambda g: g), (b, lambda g: -g))


def multiply(a: Any, b: Any) -> Tensor:
    """a·b.  d(a·b) = b·da + a·db."""
    a, b = operands("multiply", a, b)
    x, y = a.data, b.data
    return record(x * y, (a, lambda g: g * y), (b, lambda g: g * x))


def divide(a: Any, b: Any) -> Tensor:
    """a/b.  d(a/b) = da/b − a/b² db."""
    a, b = operands("divide", a, b)
    x, y = a.data, b.data
    return record(x / y, (a, lambda g: g / y), (b, lambda g: -g * x / (y * y)))


def negative(a: Any) -> Tensor:
    """−a."""
    a = as_tensor(a)
    return record(-a.data, (a, lambda g: -g))


def power(a: Any, exponent: float) -> Tensor:
    """aᵏ for a constant number k.  d(aᵏ) = k aᵏ⁻¹ da; at k = 0 the gradient is 0 everywhere."""
    if isinstance(exponent, Tensor) or not isinstance(exponent, int | float):
        raise TypeError(f"power: expected a number as exponent, got {type(exponent).__name__}; use exp(b * log(a))")
    a = as_tensor(a) if isinstance(exponent, int) and exponent >= 0 else floating("power", a)
    x = a.data
    return record(x**exponent, (a, lambda g: g * (exponent * x ** (exponent - 1)) if exponent else g * 0))


def maximum(a: Any, b: Any) -> Tensor:
    """max(a, b). The gradient goes to the larger; where they are equal, half to each."""
    return _larger("maximum", a, b, 1)


def minimum(a: Any, b: Any) -> Tensor:
    """min(a, b). The gradient goes to the smaller; where they are equal, half to each."""
    return _larger("minimum", a, b, -1)


def _larger(op: str, a: Any, b: Any, sign: int) -> Tensor:
    a, b = operands(op, a, b)
    xp, x, y = backend.of(a.data).xp, a.data, b.data

    def share(g: Any, mine: Any, other: Any) -> Any:
        won, tied = sign * mine > sign * other, mine == other
        return g * (won + 0.5 * tied).astype(g.dtype)

    value = (xp.maximum if sign > 0 else xp.minimum)(x, y)
    return record(value, (a, lambda g: share(g, x, y)), (b, lambda g: share(g, y, x)))


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """a where the (constant, boolean) condition holds, else b. Each receives the gradient where it was chosen."""
    condition = as_tensor(condition)
    if condition.dtype.kind != "b":
        raise TypeError(f"where: expected a boolean condition, got {condition.dtype}; compare first, as in x.data > 0")
    a, b = operands("where", a, b)
    broadcast_shape("where", condition.shape, a.shape, b.shape)
    xp, chosen = backend.of(a.data).xp, condition.data
    return record(xp.where(chosen, a.data, b.data), (a, lambda g: g * chosen), (b, lambda g: g * ~chosen))
