"""Each kind of layer takes its twin's weights and gives its output; sizes are equal where a mix-up would not show."""

from typing import Any

import numpy as np
import pytest

from minissl import nn
from minissl.models.torch_state import load_torch_state, torch_state
from minissl.tensor import Tensor
from tests.models.torch_parity.harness import assert_close

torch = pytest.importorskip("torch", reason="torch is not installed")
T: Any = torch.nn


class First(T.Module):
    """The outputs of a recurrent layer, without its last state."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any) -> Any:
        return self.layer(x)[0]


LAYERS: dict[str, tuple[nn.Module, Any, tuple[int, ...]]] = {
    "Linear": (nn.Linear(4, 4), T.Linear(4, 4), (3, 4)),
    "Conv1d": (nn.Conv1d(4, 4, 4), T.Conv1d(4, 4, 4), (2, 9, 4)),
    "Conv2d": (nn.Conv2d(3, 3, 3), T.Conv2d(3, 3, 3), (2, 6, 5, 3)),
    "Conv2d in groups": (nn.Conv2d(4, 6, 2, groups=2), T.Conv2d(4, 6, 2, groups=2), (2, 6, 5, 4)),
    "ConvTranspose2d": (nn.ConvTranspose2d(3, 3, 3, 2), T.ConvTranspose2d(3, 3, 3, 2), (2, 4, 5, 3)),
    "RNN": (nn.RNN(4, 4), First(T.RNN(4, 4, batch_first=True)), (2, 5, 4)),
    "LSTM": (nn.LSTM(4, 4), First(T.LSTM(4, 4, batch_first=True)), (2, 5, 4)),
    "GRU": (nn.GRU(4, 4), First(T.GRU(4, 4, batch_first=True)), (2, 5, 4)),
    "LayerNorm": (nn.LayerNorm(4), T.LayerNorm(4, 1e-6), (2, 5, 4)),
    "GroupNorm": (nn.GroupNorm(2, 4), T.GroupNorm(2, 4), (2, 5, 5, 4)),
}


def channels_first(x: Any) -> Any:
    return x.movedim(-1, 1)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_with_its_twins_weights(name: str) -> None:
    ours, theirs, shape = LAYERS[name]
    theirs = theirs.double()
    state = getattr(theirs, "layer", theirs).state_dict()
    load_torch_state(ours.astype("float64"), state)
    x = np.random.default_rng(0).normal(size=shape)
    if name.startswith(("Conv", "GroupNorm")):
        expected = theirs(channels_first(torch.from_numpy(x))).movedim(1, -1)
    else:
        expected = theirs(torch.from_numpy(x))
    assert_close(ours(Tensor(x)).data, expected.detach().numpy(), name)
    for key, array in torch_state(ours).items():
        np.testing.assert_array_equal(array, state[key].numpy())


def test_an_embedding_with_its_twins_weights() -> None:
    ours, theirs, index = nn.Embedding(4, 4), T.Embedding(4, 4), np.array([[3, 0], [1, 3]])
    load_torch_state(ours, theirs.state_dict())
    np.testing.assert_array_equal(ours(index).data, theirs(torch.from_numpy(index)).detach().numpy())
