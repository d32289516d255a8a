"""The multilayer perceptron, and the projection heads that are one."""

import itertools

from minissl import nn


def mlp(*sizes: int, batch_norm: bool = False) -> nn.Sequential:
    """Linear layers of these sizes with ReLU between them: (N, sizes[0]) -> (N, sizes[-1]).

    batch_norm puts a BatchNorm before each ReLU, as SimCLR's projection head has it.
    """
    if len(sizes) < 2:
        raise ValueError(f"mlp: expected an input and an output size at least, got {sizes}")
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        last = i == len(sizes) - 2
        layers.append(nn.Linear(inputs, outputs, bias=last or not batch_norm))  # a BatchNorm brings its own bias
        if not last:
            layers.append(nn.BatchNorm(outputs, relu=True) if batch_norm else nn.ReLU())
    return nn.Sequential(*layers)
