"""What frozen features are worth, measured the same way for every method."""

from minissl.evaluation.features import Labelled, extract, standardize
from minissl.evaluation.knn import knn
from minissl.evaluation.linear import Probe, linear_probe

__all__ = ["Labelled", "Probe", "extract", "knn", "linear_probe", "standardize"]
