"""Functions of one number, applied to every element. Where the derivative is shortest in y = f(x), y is kept."""

import math
from typing import Any, Literal

from minissl import backend
from minissl.backend import Array
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


def leaky_relu(x: Any, slope: float = 0.01) -> Tensor:
    """y = max(x, 0) + slope·min(x, 0).  dy = dx where x > 0, else slope·dx.  (xp.where takes five times as long)"""
    x = floating("leaky_relu", x)
    home = backend.of(x.data)
    xp, s = home.xp, x.dtype.type(slope)
    y = home.elementwise(lambda x: xp.maximum(x, 0) + s * xp.minimum(x, 0), x.data)
    return record(y, (x, lambda g: home.elementwise(lambda g, x: g * ((x > 0) + s * (x <= 0)), g, x.data)))


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """y = x where x > 0, else α(eˣ − 1).  dy = dx or (y + α) dx. (Clevert et al., 2016)"""
    x = floating("elu", x)
    xp, v = backend.of(x.data).xp, x.data
    y = xp.where(v > 0, v, alpha * xp.expm1(xp.minimum(v, 0)))
    return record(y, (x, lambda g: xp.where(v > 0, g, g * (y + alpha))))


def silu(x: Any) -> Tensor:
    """y = x σ(x).  dy = (σ + y (1 − σ)) dx."""
    x = floating("silu", x)
    v = x.data
    s = 0.5 + 0.5 * backend.of(v).xp.tanh(0.5 * v)
    return record(v * s, (x, lambda g: g * (s + v * s * (1 - s))))


def gelu(x: Any, form: Literal["tanh", "erf"] = "tanh") -> Tensor:
    """y = x Φ(x), with Φ the Gaussian's distribution function.  dy = (Φ + x φ) dx.  (Hendrycks and Gimpel, 2016)

    form "tanh": Φ ≈ ½ + ½ tanh(√(2/π) (x + 0.044715 x³)); "erf": Φ = ½ + ½ erf(x/√2), by a polynomial that is within
    1.5e-7 of erf. Nothing but x is kept for the way back.
    """
    if form not in ("tanh", "erf"):
        raise ValueError(f"gelu: expected form 'tanh' or 'erf', got {form!r}")
    x = floating("gelu", x)
    home, v = backend.of(x.data), x.data
    if form == "tanh":
        return record(home.gelu(v), (x, lambda g: home.gelu_gradient(g, v)))
    value = home.elementwise(lambda v: v * _gaussian_cdf(home.xp, v), v)
    return record(value, (x, lambda g: home.elementwise(lambda g, v: g * _erf_slope(home.xp, v), g, v)))


def _gaussian_cdf(xp: Any, v: Array) -> Array:
    """Φ(v) = ½ + ½ erf(v/√2);  erf(z) = 1 − (a₁t + … + a₅t⁵) e^−z²,  t = 1/(1 + pz),  for z ≥ 0.

    (Abramowitz and Stegun, 1964, formula 7.1.26)
    """
    t = 1 / (1 + 0.3275911 * math.sqrt(0.5) * xp.abs(v))
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return 0.5 + 0.5 * xp.copysign(1 - series * xp.exp(-0.5 * v * v), v)


def _erf_slope(xp: Any, v: Array) -> Array:
    return _gaussian_cdf(xp, v) + v * xp.exp(-0.5 * v * v) / math.sqrt(2 * math.pi)
