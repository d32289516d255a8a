"""What features are worth, measured the same way for every method."""

from minissl.evaluation.collapse import spread
from minissl.evaluation.features import Labelled, by_batch, extract, standardize
from minissl.evaluation.freezing import eval_frozen, freezable, freeze
from minissl.evaluation.knn import knn
from minissl.evaluation.labels import label_fraction
from minissl.evaluation.layers import layer_probes
from minissl.evaluation.linear import Probe, linear_probe
from minissl.evaluation.metrics import accuracy, confusion_matrix, iou, mean_average_precision, mean_iou

__all__ = [
    "Labelled",
    "Probe",
    "accuracy",
    "by_batch",
    "confusion_matrix",
    "eval_frozen",
    "extract",
    "freezable",
    "freeze",
    "iou",
    "knn",
    "label_fraction",
    "layer_probes",
    "linear_probe",
    "mean_average_precision",
    "mean_iou",
    "spread",
    "standardize",
]
