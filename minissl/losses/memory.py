"""Losses against a memory bank: every image is a class of its own, and its row of the bank stands for the class."""

import math
from typing import Any

from minissl import ops
from minissl.losses.rows import class_labels, embeddings, finite, pick, positive_temperature
from minissl.ops.checks import dimensions, floating
from minissl.tensor import Tensor, stop_gradient


def instance_softmax(v: Any, bank: Any, index: Any, temperature: float = 0.07) -> Tensor:
    """−log P(i|v), P(i|v) = e^{v·b_i/τ} / Σ_j e^{v·b_j/τ} over all n rows of the bank; mean over N.

    v: embeddings (N, D). bank: (n, D), a constant. index: (N,) integers, each image's row of the bank. The rows of
    both are meant to have unit length; they are used as they are. It is the cross entropy of a classifier with one
    class per image, whose weights are the bank instead of parameters: "non-parametric". It costs n dot products per
    image, which `nce` avoids. Raises ValueError for shapes that do not fit, an empty batch or bank, an index outside
    0..n−1, NaN or τ ≤ 0, TypeError for an index that is no integer.

    (Wu et al., 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination")
    """
    (v,), (bank,) = embeddings("instance_softmax", v), embeddings("instance_softmax", stop_gradient(bank))
    if v.shape[1] != bank.shape[1]:
        raise ValueError(f"instance_softmax: expected v (N, D) and a bank (n, D), got {v.shape} and {bank.shape}")
    i = class_labels("instance_softmax", index, v).astype("int64")
    if not 0 <= int(i.min()) <= int(i.max()) < len(bank):
        raise ValueError(f"instance_softmax: expected an index from 0 to {len(bank) - 1}, got some outside")
    logits = v @ bank.transpose() / positive_temperature("instance_softmax", temperature)  # (N, n)
    return -pick(ops.log_softmax(logits), i).mean()


def nce(positive: Any, noise: Any, n: int, log_z: Any, temperature: float = 0.07) -> Tensor:
    """−log h(positive) − Σ_m log(1 − h(noise)), h = P/(P + m/n), P = e^{s/τ}/Z; mean over N.

    Noise contrastive estimation: tell an image's own row of the bank from m rows drawn uniformly from all n. h is the
    probability that a row is the image's own when m noise rows come with each, so P need not be summed over the bank.

    positive: dot products s (N,) of each embedding with its own row; noise: (N, m) with the rows drawn for it.
    log_z: log Z, one number for all, a constant; Wu et al. estimate Z as n times the mean of e^{s/τ} over noise rows of
    the first batches. As m grows the gradient becomes that of `instance_softmax`.
    Raises ValueError for shapes that do not fit, no rows, m = 0, n < 1, NaN or τ ≤ 0.

    The slide differs: it does not give Z, and it drops τ and the noise's density 1/n. Without them h is the positive's
    share among the m + 1 rows drawn, a sampled softmax: that form is `info_nce`.
    (Gutmann and Hyvärinen, 2010, "Noise-contrastive estimation"; Wu et al., 2018)
    """
    positive, noise = floating("nce", positive), floating("nce", noise)
    dimensions("nce", positive, "N")
    dimensions("nce", noise, "N m")
    if len(positive) != len(noise) or not noise.size or n < 1:
        raise ValueError(
            "nce: expected dot products (N,) with the positive and (N, m) with the noise, and N, m, n at least 1, "
            f"got {positive.shape}, {noise.shape} and n = {n}"
        )
    if getattr(log_z, "shape", ()) != ():
        raise ValueError(f"nce: expected one number as log_z, got shape {log_z.shape}; average it first")
    finite("nce", positive, noise)
    tau, m = positive_temperature("nce", temperature), noise.shape[1]
    log_z = stop_gradient(log_z) if isinstance(log_z, Tensor) else log_z
    logit = lambda s: s / tau - log_z - math.log(m / n)  # h = P/(P + m/n) = sigmoid(log P − log(m/n))
    return ops.softplus(-logit(positive)).mean() + ops.softplus(logit(noise)).sum(axis=1).mean()
