"""Optimizers, learning-rate schedules, limits on gradients, and averages of weights."""

from minissl.optim.clipping import clip_gradients
from minissl.optim.ema import WeightAverage, copy_module
from minissl.optim.optimizers import LAMB, LARS, SGD, Adam, AdamW, Optimizer, decay_groups
from minissl.optim.schedules import step_decay, warmup_cosine

__all__ = [
    "LAMB",
    "LARS",
    "SGD",
    "Adam",
    "AdamW",
    "Optimizer",
    "WeightAverage",
    "clip_gradients",
    "copy_module",
    "decay_groups",
    "step_decay",
    "warmup_cosine",
]
