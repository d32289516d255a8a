"""The sequence classifier against PyTorch's recurrent layers."""

from typing import Any

import numpy as np
import pytest

from minissl import random
from minissl.models.recurrent import SequenceClassifier
from tests.models.torch_parity.harness import assert_equal_networks

pytest.importorskip("torch", reason="torch is not installed")


def twin(cell: str) -> Any:
    import torch

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
            self.recurrent, self.head = layer(3, 6, batch_first=True), torch.nn.Linear(6, 4)

        def forward(self, x: Any) -> Any:
            return self.head(self.recurrent(x)[0][:, -1])

    return Classifier()


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_equals_pytorch(cell: Any) -> None:
    random.seed(1)
    sequences = np.random.default_rng(2).normal(size=(5, 7, 3))
    make = lambda: SequenceClassifier(3, 6, 4, cell)
    assert_equal_networks(make(), twin(cell), sequences, make())
