"""Sequences read step by step: a recurrent layer, and a class from its last state."""

from typing import Literal

from minissl import nn
from minissl.tensor import Tensor


class SequenceClassifier(nn.Module):
    """The state after the last step -> features (N, hidden), or logits (N, classes): sequences (N, T, D), any T >= 1.

    A step may be a row of an image's pixels (N, H, W·C) or a place's spectrum at one date (N, dates, C).
    cell: "rnn", "lstm" or "gru"; see `nn.RNN`, `nn.LSTM`, `nn.GRU`.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int = 128,
        classes: int | None = None,
        cell: Literal["rnn", "lstm", "gru"] = "lstm",
    ) -> None:
        cells = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
        if cell not in cells:
            raise ValueError(f"SequenceClassifier: expected a cell among {', '.join(cells)}, got {cell!r}")
        self.recurrent = cells[cell](inputs, hidden)
        self.head = None if classes is None else nn.Linear(hidden, classes)
        self.inputs, self.out_features = inputs, hidden

    def features(self, x: Tensor) -> Tensor:
        """The last state (N, hidden)."""
        if x.ndim != 3 or x.shape[2] != self.inputs or not x.shape[1]:
            raise ValueError(
                f"SequenceClassifier: expected sequences (N, T, {self.inputs}) of a step at least, got {x.shape}"
            )
        return self.recurrent(x)[:, -1]

    def forward(self, x: Tensor) -> Tensor:
        h = self.features(x)
        return h if self.head is None else self.head(h)
