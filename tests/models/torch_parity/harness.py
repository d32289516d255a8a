"""What every comparison with PyTorch does."""

from typing import Any

import numpy as np

from minissl import losses, nn
from minissl.models.torch_state import load_torch_state, to_torch, torch_entries, torch_state
from minissl.tensor import Tensor

TOLERANCE = 1e-6


def assert_equal_networks(ours: nn.Module, theirs: Any, x: np.ndarray, other: nn.Module | None = None) -> None:
    """Our network and its twin in PyTorch give the same numbers, in float64, from the same random weights.

    The twin loads our exported state strictly. Then equal: outputs in training mode, the gradient of every parameter
    under cross entropy over the last axis of the output, running statistics after that, outputs in evaluation mode.
    Dropout must be off. x: images (N, H, W, C) or tokens (N, T, D); 4-D outputs are images too. `other`, a second
    instance of ours, loads the twin's state strictly and must then hold the very numbers of ours.
    """
    import torch

    numbers = np.random.default_rng(0)
    shake(ours.astype("float64"), numbers)
    theirs = theirs.double()
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in torch_state(ours).items()})

    x_torch = torch.from_numpy(np.ascontiguousarray(channels_first(x)))
    y, y_torch = ours(Tensor(x)), theirs(x_torch)
    assert_close(y.data, channels_last(y_torch.detach().numpy()), "output")
    K = y.shape[-1]
    labels = numbers.integers(0, K, y.size // K)
    losses.cross_entropy(y.reshape(-1, K), labels).backward()
    logits = y_torch.permute(0, 2, 3, 1) if y_torch.ndim == 4 else y_torch
    torch.nn.functional.cross_entropy(logits.reshape(-1, K), torch.from_numpy(labels)).backward()
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for entry in torch_entries(ours):
        if isinstance(entry.tensor, nn.Parameter):
            assert entry.tensor.grad is not None, entry.name
            mine, its = to_torch(entry.module, entry.tensor.grad), gradients[entry.torch_name].numpy()
            assert np.abs(its).max() > 1e-12, f"{entry.name}: no gradient to compare"
            assert_close(mine, its, f"gradient of {entry.name}")
    for name, array in torch_state(ours).items():
        assert_close(array, theirs.state_dict()[name].numpy(), name)

    evaluated = channels_last(theirs.eval()(x_torch).detach().numpy())
    assert_close(ours.eval()(Tensor(x)).data, evaluated, "output in evaluation")
    if other is not None:
        report = load_torch_state(other.astype("float64"), theirs.state_dict())
        assert len(report.loaded) == len(ours.state_dict())
        assert_close(other.eval()(Tensor(x)).data, evaluated, "output of the state loaded back")
        for name, tensor in other.state_dict().items():
            assert tensor.flags.c_contiguous, name


def shake(model: nn.Module, numbers: np.random.Generator) -> None:
    """Move what starts as zeros or ones, so that every γ, β, bias and running statistic counts."""
    for name, tensor in model.named_tensors():
        if tensor.ndim == 1:
            tensor.data = tensor.data + numbers.uniform(-0.2, 0.4, tensor.shape)
            assert "running_var" not in name or (tensor.data > 0).all()


def channels_first(x: np.ndarray) -> np.ndarray:
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x


def channels_last(x: np.ndarray) -> np.ndarray:
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def assert_close(ours: np.ndarray, theirs: np.ndarray, what: str) -> None:
    """Equal up to 10⁻⁶ of the largest number."""
    atol = TOLERANCE * float(np.abs(theirs).max())
    np.testing.assert_allclose(ours, theirs, rtol=TOLERANCE, atol=atol, err_msg=what)
