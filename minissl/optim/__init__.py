"""Optimizers and learning-rate schedules."""

from minissl.optim.optimizers import LARS, SGD, Adam, AdamW, Optimizer, decay_groups
from minissl.optim.schedules import warmup_cosine

__all__ = ["LARS", "SGD", "Adam", "AdamW", "Optimizer", "decay_groups", "warmup_cosine"]
