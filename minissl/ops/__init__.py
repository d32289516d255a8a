"""Differentiable functions of tensors, each an equation beside its derivatives.

Every function takes tensors, arrays or numbers, and returns a Tensor; shapes broadcast as in NumPy. This module also
binds the operators and the common methods onto Tensor: `x @ W + b` calls `matmul` and `add`.
"""

from minissl.ops.arithmetic import add, add_relu, divide, maximum, minimum, multiply, negative, power, subtract, where
from minissl.ops.attention import scaled_dot_product_attention
from minissl.ops.control import dropout, gradient_reversal, recompute, straight_through
from minissl.ops.convolution import conv1d, conv2d, conv_transpose2d
from minissl.ops.distance import squared_distances
from minissl.ops.elementwise import (
    absolute,
    clip,
    elu,
    exp,
    gelu,
    leaky_relu,
    log,
    log1p,
    relu,
    sigmoid,
    silu,
    softplus,
    sqrt,
    tanh,
)
from minissl.ops.indexing import embedding, scatter_add, take_along_axis
from minissl.ops.linear import einsum, linear, matmul, outer
from minissl.ops.normalization import batch_norm, group_norm, instance_norm, l2_normalize, layer_norm
from minissl.ops.patches import fold, unfold
from minissl.ops.pooling import average_pool2d, max_pool2d
from minissl.ops.reduction import cumsum, logsumexp, max, mean, min, norm, sum, var
from minissl.ops.resampling import adaptive_average_pool2d, upsample_bilinear, upsample_nearest
from minissl.ops.shaping import (
    astype,
    broadcast_to,
    concatenate,
    flip,
    getitem,
    pad,
    reshape,
    roll,
    split,
    stack,
    tile,
    transpose,
)
from minissl.ops.softmax import log_softmax, softmax
from minissl.tensor import Tensor

__all__ = [
    "absolute",
    "adaptive_average_pool2d",
    "add",
    "add_relu",
    "astype",
    "average_pool2d",
    "batch_norm",
    "broadcast_to",
    "clip",
    "concatenate",
    "conv1d",
    "conv2d",
    "conv_transpose2d",
    "cumsum",
    "divide",
    "dropout",
    "einsum",
    "elu",
    "embedding",
    "exp",
    "flip",
    "fold",
    "gelu",
    "getitem",
    "gradient_reversal",
    "group_norm",
    "instance_norm",
    "l2_normalize",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log",
    "log1p",
    "log_softmax",
    "logsumexp",
    "matmul",
    "max",
    "max_pool2d",
    "maximum",
    "mean",
    "min",
    "minimum",
    "multiply",
    "negative",
    "norm",
    "outer",
    "pad",
    "power",
    "recompute",
    "relu",
    "reshape",
    "roll",
    "scaled_dot_product_attention",
    "scatter_add",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "split",
    "sqrt",
    "squared_distances",
    "stack",
    "straight_through",
    "subtract",
    "sum",
    "take_along_axis",
    "tanh",
    "tile",
    "transpose",
    "unfold",
    "upsample_bilinear",
    "upsample_nearest",
    "var",
    "where",
]

_methods = {
    "__add__": add,
    "__radd__": lambda a, b: add(b, a),
    "__sub__": subtract,
    "__rsub__": lambda a, b: subtract(b, a),
    "__mul__": multiply,
    "__rmul__": lambda a, b: multiply(b, a),
    "__truediv__": divide,
    "__rtruediv__": lambda a, b: divide(b, a),
    "__matmul__": matmul,
    "__rmatmul__": lambda a, b: matmul(b, a),
    "__pow__": power,
    "__neg__": negative,
    "__abs__": absolute,
    "__getitem__": getitem,
    "sum": sum,
    "mean": mean,
    "max": max,
    "min": min,
    "var": var,
    "exp": exp,
    "log": log,
    "sqrt": sqrt,
    "reshape": lambda x, *shape: reshape(x, shape[0] if isinstance(shape[0], tuple) else shape),
    "transpose": lambda x, *axes: transpose(x, axes or None),
    "T": property(transpose),
    "astype": astype,
}
for _name, _method in _methods.items():
    setattr(Tensor, _name, _method)
# An array on the left, `array + tensor`, must leave the operation to Tensor instead of looping over its elements.
Tensor.__array_ufunc__ = None  # type: ignore[attr-defined]
