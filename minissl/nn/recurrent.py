"""Recurrent layers: one step's state depends on the step before. Sequences are (N, T, D_in) -> (N, T, H)."""

from typing import Any

from minissl import backend, ops
from minissl.nn import initializers
from minissl.nn.module import Module, Parameter
from minissl.tensor import Tensor


class Recurrent(Module):
    """What the three share: weights for input and state, and the loop over time. Names follow torch, one layer.

    The inputs' part of all steps is one matrix product before the loop. Weights start uniform within ±1/√H.
    """

    gates: int

    def __init__(self, inputs: int, hidden: int) -> None:
        bound, outputs = hidden**-0.5, self.gates * hidden
        self.weight_ih_l0 = Parameter(initializers.uniform((inputs, outputs), bound))
        self.weight_hh_l0 = Parameter(initializers.uniform((hidden, outputs), bound))
        self.bias_ih_l0 = Parameter(initializers.uniform((outputs,), bound))
        self.bias_hh_l0 = Parameter(initializers.uniform((outputs,), bound))
        self.hidden = hidden

    def forward(self, x: Tensor) -> Tensor:
        N, T, _ = x.shape
        from_input = ops.linear(x, self.weight_ih_l0, self.bias_ih_l0)  # (N, T, gates·H)
        state: Any = self.start(N, x)
        outputs = []
        for t in range(T):
            state = self.step(from_input[:, t], state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return ops.stack(outputs, axis=1)  # (N, T, H)

    def start(self, N: int, x: Tensor) -> Any:
        return Tensor(backend.of(x.data).xp.zeros((N, self.hidden), x.dtype))

    def from_state(self, h: Tensor) -> Tensor:
        return ops.linear(h, self.weight_hh_l0, self.bias_hh_l0)

    def step(self, from_input: Tensor, state: Any) -> Any:
        """The next state, from the input's part (N, gates·H) and the state before."""
        raise TypeError(f"{type(self).__name__} must define step(from_input, state)")


class RNN(Recurrent):
    """h ← tanh(x W + h U + b). (Elman, 1990)"""

    gates = 1

    def step(self, from_input: Tensor, state: Tensor) -> Tensor:
        return ops.tanh(from_input + self.from_state(state))


class LSTM(Recurrent):
    """c ← σ(f) c + σ(i) tanh(g),  h ← σ(o) tanh(c): a cell c that is added to, so that gradients last.

    i, f, g, o (in this order along the weights' outputs) are each x W + h U + b. (Hochreiter and Schmidhuber, 1997)
    """

    gates = 4

    def start(self, N: int, x: Tensor) -> tuple[Tensor, Tensor]:
        zero = super().start(N, x)
        return zero, zero

    def step(self, from_input: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h, c = state
        i, f, g, o = ops.split(from_input + self.from_state(h), 4, axis=1)  # each (N, H)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        return ops.sigmoid(o) * ops.tanh(c), c


class GRU(Recurrent):
    """h ← (1 − z) n + z h,  n = tanh(x W_n + r (h U_n)),  r = σ(x W_r + h U_r),  z = σ(x W_z + h U_z).

    r, z, n in this order along the weights' outputs. (Cho et al., 2014)
    """

    gates = 3

    def step(self, from_input: Tensor, state: Tensor) -> Tensor:
        (x_r, x_z, x_n), (h_r, h_z, h_n) = (
            ops.split(from_input, 3, axis=1),
            ops.split(self.from_state(state), 3, axis=1),
        )
        r, z = ops.sigmoid(x_r + h_r), ops.sigmoid(x_z + h_z)
        n = ops.tanh(x_n + r * h_n)
        return n + z * (state - n)
