"""The sequence classifier against PyTorch's recurrent layers."""

from typing import Any

import numpy as np
import pytest

from minissl import random
from minissl.models.recurrent import SequenceClassifier
from tests.models.torch_parity.harness import assert_equal_networks

pytest.importorskip("torch", reason="torch is not installed")


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_equals_pytorch(cell: Any) -> None:
    from benchmarks import torch_networks

    random.seed(1)
    sequences = np.random.default_rng(2).normal(size=(5, 7, 3))
    make = lambda: SequenceClassifier(3, 6, 4, cell)
    assert_equal_networks(make(), torch_networks.SequenceClassifier(3, 6, 4, cell), sequences, make())
