"""The losses of the tutorial. Each returns a scalar Tensor."""

from minissl.losses.classification import cross_entropy
from minissl.losses.reconstruction import l1, masked_mse, mse
from minissl.losses.softmax import nt_xent

__all__ = ["cross_entropy", "l1", "masked_mse", "mse", "nt_xent"]
