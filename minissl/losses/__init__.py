"""The losses of the tutorial. Each returns a scalar Tensor."""

from minissl.losses.adversarial import gan_discriminator, gan_generator
from minissl.losses.classification import binary_cross_entropy_with_logits, cross_entropy, distillation
from minissl.losses.clustering import sinkhorn, swapped_prediction
from minissl.losses.consistency import consistency
from minissl.losses.memory import instance_softmax, nce
from minissl.losses.negatives import debiased, hard_negative
from minissl.losses.non_contrastive import byol
from minissl.losses.pairs import contrastive, lifted_structured, mine_triplets, triplet
from minissl.losses.reconstruction import colorization, gaussian_kl, inpainting, l1, masked_mse, mse
from minissl.losses.softmax import info_nce, n_pair, n_pair_mc, nt_xent, soft_nearest_neighbor, sup_con
from minissl.losses.two_way import capped_scale, clip, cmc, cross_sensor

__all__ = [
    "binary_cross_entropy_with_logits",
    "byol",
    "capped_scale",
    "clip",
    "cmc",
    "colorization",
    "consistency",
    "contrastive",
    "cross_entropy",
    "cross_sensor",
    "debiased",
    "distillation",
    "gan_discriminator",
    "gan_generator",
    "gaussian_kl",
    "hard_negative",
    "info_nce",
    "inpainting",
    "instance_softmax",
    "l1",
    "lifted_structured",
    "masked_mse",
    "mine_triplets",
    "mse",
    "n_pair",
    "n_pair_mc",
    "nce",
    "nt_xent",
    "sinkhorn",
    "soft_nearest_neighbor",
    "sup_con",
    "swapped_prediction",
    "triplet",
]
