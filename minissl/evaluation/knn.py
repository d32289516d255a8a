"""k nearest neighbours: what a feature space holds before anything is learned on top of it."""

import numpy as np

from minissl.evaluation.features import Labelled, standardize


def knn(train: Labelled, test: Labelled, k: int = 20, temperature: float = 0.07) -> float:
    """The accuracy, in [0, 1], of a vote among the k nearest training rows, each weighted e^{cos/τ}.

    Features are standardised by the training rows, then compared by their cosine. The vote is that of Wu et al.,
    2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination".
    """
    if not 1 <= k <= len(train.x):
        raise ValueError(f"knn: expected k between 1 and the {len(train.x)} training rows, got {k}")
    bank, queries = (
        x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in standardize(train.x, test.x)
    )
    one_hot = np.eye(int(max(train.y.max(), test.y.max())) + 1)[train.y]  # (N, K)
    correct = 0
    for i in range(0, len(queries), 512):
        similarity = queries[i : i + 512] @ bank.T  # (n, N)
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        weight = np.exp((np.take_along_axis(similarity, nearest, axis=1) - 1) / temperature)  # cosine <= 1: no overflow
        votes = np.einsum("nk,nkc->nc", weight, one_hot[nearest])
        correct += int((votes.argmax(axis=1) == test.y[i : i + 512]).sum())
    return correct / len(queries)
