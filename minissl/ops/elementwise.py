"""Functions of one number, applied to every element. Where the derivative is shortest in y = f(x), y is kept."""

from typing import Any

from minissl import backend
from minissl.ops.checks import floating
from minissl.tensor import Tensor, as_tensor, record


def exp(x: Any) -> Tensor:
    """y = eˣ.  dy = y dx."""
    x = floating("exp", x)
    y = backend.of(x.data).xp.exp(x.data)
    return record(y, (x, lambda g: g * y))


def log(x: Any) -> Tensor:
    """y = ln x, for x > 0.  dy = dx/x."""
    x = floating("log", x)
    v = x.data
    return record(backend.of(v).xp.log(v), (x, lambda g: g / v))


def log1p(x: Any) -> Tensor:
    """y = ln(1 + x), exact also where x is tiny.  dy = dx/(1 + x)."""
    x = floating("log1p", x)
    v = x.data
    return record(backend.of(v).xp.log1p(v), (x, lambda g: g / (1 + v)))


def sqrt(x: Any) -> Tensor:
    """y = √x.  dy = dx/2y; infinite at 0, as the slope is."""
    x = floating("sqrt", x)
    y = backend.of(x.data).xp.sqrt(x.data)
    return record(y, (x, lambda g: g / (2 * y)))


def absolute(x: Any) -> Tensor:
    """y = |x|.  dy = sign(x) dx, 0 at 0."""
    x = as_tensor(x)
    xp, v = backend.of(x.data).xp, x.data
    return record(xp.abs(v), (x, lambda g: g * xp.sign(v)))


def clip(x: Any, low: float, high: float) -> Tensor:
    """x kept between low and high. No gradient where x was outside."""
    if low > high:
        raise ValueError(f"clip: expected low <= high, got {low} and {high}")
    x = as_tensor(x)
    v = x.data
    return record(backend.of(v).xp.clip(v, low, high), (x, lambda g: g * ((v >= low) & (v <= high))))


def tanh(x: Any) -> Tensor:
    """y = tanh x.  dy = (1 − y²) dx."""
    x = floating("tanh", x)
    y = backend.of(x.data).xp.tanh(x.data)
    return record(y, (x, lambda g: g * (1 - y * y)))


def sigmoid(x: Any) -> Tensor:
    """y = 1/(1 + e⁻ˣ) = ½ + ½ tanh(x/2), which never overflows.  dy = y (1 − y) dx."""
    x = floating("sigmoid", x)
    y = 0.5 + 0.5 * backend.of(x.data).xp.tanh(0.5 * x.data)
    return record(y, (x, lambda g: g * (y * (1 - y))))


def softplus(x: Any) -> Tensor:
    """y = ln(1 + eˣ) = max(x, 0) + ln(1 + e^−|x|), which never overflows.  dy = sigmoid(x) dx."""
    x = floating("softplus", x)
    xp, v = backend.of(x.data).xp, x.data
    y = xp.maximum(v, 0) + xp.log1p(xp.exp(-xp.abs(v)))
    return record(y, (x, lambda g: g * (0.5 + 0.5 * xp.tanh(0.5 * v))))


def relu(x: Any) -> Tensor:
    """y = max(x, 0).  dy = dx where y > 0: the output tells, no mask is kept."""
    x = as_tensor(x)
    home = backend.of(x.data)
    y = home.elementwise(home.xp.maximum, x.data, 0)
    return record(y, (x, lambda g: home.elementwise(lambda g, y: g * (y > 0), g, y)))
