"""Weights from outside, and for outside: PyTorch's names and layouts to ours, and back. PyTorch itself is not needed.

    model = resnet50(classes=1000)
    load_torch_state(model, "resnet50.safetensors")                                   published weights
    safetensors.numpy.save_file(torch_state(model), "mine.safetensors")               for PyTorch to load

Names are torchvision's and timm's; a class that names a part otherwise says so: torch_names = {"conv1": "features.0"}.
The layout follows from the layer that holds a tensor, never from its shape:

    layer                           PyTorch               here
    convolution                     (O, C, kh, kw)        (kh, kw, C, O)         C: of one group
    transposed convolution          (C, O, kh, kw)        (kh, kw, O, C)
    one-dimensional convolution     (O, C, k)             (k, C, O)
    linear, recurrent               (D_out, D_in)         (D_in, D_out)
    linear, of a flattened image    (D_out, C·h·w)        (h·w·C, D_out)
    all others                      the same
"""

import logging
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import safetensors
import safetensors.numpy

from minissl import backend, nn
from minissl.backend import Array
from minissl.models.alexnet import FlattenedLinear
from minissl.nn.recurrent import Recurrent
from minissl.tensor import Tensor

Adaptation = Literal["mean", "repeat"]

# Entries that PyTorch's layers keep and that no result depends on.
DERIVED = ("num_batches_tracked", "relative_position_index", "attn_mask")


class Report(NamedTuple):
    """What became of the names, all of them PyTorch's: copied, or only in the model, only in the source, or no fit."""

    loaded: list[str]
    missing: list[str]
    unexpected: list[str]
    misshapen: list[str]  # each with both shapes

    def problems(self) -> str:
        lines = [*self.misshapen, *(f"{name}: missing" for name in self.missing)]
        return "; ".join(lines + [f"{name}: unexpected" for name in self.unexpected])


def load_torch_state(
    model: nn.Module,
    source: Mapping[str, Any] | str | os.PathLike[str],
    *,
    channels: Adaptation | None = None,
    strict: bool = True,
) -> Report:
    """Copy a PyTorch state into the parameters and buffers of `model`, onto their backend and type.

    source: a .safetensors or .npz file, or arrays (or PyTorch tensors) by name. Pickles (.pth, .pt, .bin) are never
    opened. channels: how the first convolution is made to fit images of C' channels where the source had C. Either
    keeps the size of its response, by C/C':

        "mean"      every channel has the mean of all the source's filters
        "repeat"    channel c has the filter of the source's channel c mod C

    Raises ValueError that lists every missing, unexpected and misshapen name, before anything is changed; with
    strict=False these are skipped, logged as a warning and returned (a classifier for other classes, say), and only a
    source of which nothing fits is an error. ValueError too for a file of another kind or a damaged one.
    """
    if channels not in ("mean", "repeat", None):
        raise ValueError(f'load_torch_state: expected channels to be "mean", "repeat" or None, got {channels!r}')
    arrays = read(source) if isinstance(source, str | os.PathLike) else source
    arrays = {name: array for name, array in arrays.items() if name.rpartition(".")[2] not in DERIVED}
    entries = {entry.torch_name: entry for entry in torch_entries(model)}
    first = next((name for name, entry in entries.items() if isinstance(entry.module, nn.Conv2d)), None)
    report = Report([], [n for n in entries if n not in arrays], [n for n in arrays if n not in entries], [])
    state = {}
    for name, entry in entries.items():
        if name not in arrays:
            continue
        array, shape = on_host(arrays[name]), entry.torch_shape()
        if name == first and channels and (*array.shape[:1], *array.shape[2:]) == (*shape[:1], *shape[2:]):
            array = adapt_channels(array, shape[1], channels, name)
        if array.shape != shape:
            remedy = ' (channels="mean" or "repeat" adapts it)' if name == first and not channels else ""
            report.misshapen.append(f"{name}: expected shape {shape}, got {array.shape}{remedy}")
        else:
            state[entry.name] = from_torch(entry.module, array)
            report.loaded.append(name)
    title, problems = f"load_torch_state of {type(model).__name__}", report.problems()
    if problems and (strict or not state):
        raise ValueError(f"{title}: {problems}" + ("; strict=False skips these" if state else ""))
    if problems:
        logging.getLogger("minissl").warning("%s skipped: %s", title, problems)
    model.load_state_dict(state, strict=False)
    return report


def torch_state(model: nn.Module) -> dict[str, Array]:
    """Copies of all parameters and buffers, on the host, under PyTorch's names and in its layouts, in C order.

    `net.load_state_dict({name: torch.from_numpy(array) for name, array in torch_state(model).items()})` loads them.
    """
    return {e.torch_name: to_torch(e.module, backend.to_host(e.tensor.data)) for e in torch_entries(model)}


class Entry(NamedTuple):
    """A parameter or buffer, its two names, and the layer that holds it."""

    name: str
    torch_name: str
    module: nn.Module
    tensor: Tensor

    def torch_shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape[axis] for axis in torch_axes(self.module, self.tensor.ndim))


def torch_entries(module: nn.Module) -> Iterator[Entry]:
    """All parameters and buffers of a module, in its own order; keys of `torch_names` are paths from the module."""
    renamed: dict[str, str] = getattr(module, "torch_names", {})

    def rename(path: str) -> str:
        for ours, theirs in renamed.items():
            if path == ours or path.startswith(f"{ours}."):
                return theirs + path[len(ours) :]
        return path

    for name, value in vars(module).items():
        if isinstance(value, nn.Parameter | nn.Buffer):
            yield Entry(name, rename(name), module, value)
        elif isinstance(value, nn.Module):
            for inner in torch_entries(value):
                path, torch_path = f"{name}.{inner.name}", f"{name}.{inner.torch_name}"
                yield inner._replace(name=path, torch_name=rename(torch_path))


def torch_axes(module: nn.Module, ndim: int) -> tuple[int, ...]:
    """The axes of our array in PyTorch's order."""
    if ndim == 4 and isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        return (3, 2, 0, 1)
    if ndim == 3 and isinstance(module, nn.Conv1d):
        return (2, 1, 0)
    if ndim == 2 and isinstance(module, nn.Linear | Recurrent):
        return (1, 0)
    return tuple(range(ndim))


def to_torch(module: nn.Module, array: Array) -> Array:
    """A copy of a layer's array in PyTorch's layout, in C order."""
    if isinstance(module, FlattenedLinear) and array.ndim == 2:
        pixels = array.reshape(module.size, module.size, -1, array.shape[1])  # (h, w, C, D_out)
        array = pixels.transpose(2, 0, 1, 3).reshape(array.shape)  # (C·h·w, D_out)
    return array.transpose(torch_axes(module, array.ndim)).copy()


def from_torch(module: nn.Module, array: Array) -> Array:
    """The inverse of `to_torch`."""
    axes = torch_axes(module, array.ndim)
    array = array.transpose(sorted(range(array.ndim), key=axes.__getitem__))  # the inverse permutation
    if isinstance(module, FlattenedLinear) and array.ndim == 2:
        planes = array.reshape(-1, module.size, module.size, array.shape[1])  # (C, h, w, D_out)
        array = planes.transpose(1, 2, 0, 3).reshape(array.shape)  # (h·w·C, D_out)
    return array.copy()


def adapt_channels(weight: Array, channels: int, how: Adaptation, name: str) -> Array:
    """A convolution's weight (O, C, kh, kw) of PyTorch for another number of channels: (O, C', kh, kw)."""
    C = weight.shape[1]
    if channels == C:
        return weight
    logging.getLogger("minissl").info(
        "%s: %d channels made of %d by %r, times %d/%d", name, channels, C, how, C, channels
    )
    filters = weight.mean(axis=1, keepdims=True) if how == "mean" else weight
    return filters[:, [c % filters.shape[1] for c in range(channels)]] * (C / channels)


def on_host(value: Any) -> Array:
    """An array of a backend, or a PyTorch tensor, as a NumPy array."""
    return value.detach().cpu().numpy() if hasattr(value, "detach") else backend.to_host(value)


def read(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The arrays of a .safetensors or .npz file by name. Nothing that could run code is opened."""
    path = Path(path)
    if path.suffix not in (".safetensors", ".npz"):
        raise ValueError(
            f"load_torch_state: expected a .safetensors or .npz file, got {str(path)!r}; .pth, .pt and .bin are "
            "pickles, which can run any code when opened, so they never are. Convert one that you trust, with PyTorch: "
            'safetensors.torch.save_file(torch.load(path, weights_only=True), "weights.safetensors")'
        )
    if not path.is_file():
        raise FileNotFoundError(f"load_torch_state: there is no file {str(path)!r}")
    try:
        if path.suffix == ".safetensors":
            return safetensors.numpy.load_file(path)
        with path.open("rb") as file, backend.get("numpy").xp.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (safetensors.SafetensorError, zipfile.BadZipFile, zlib.error, EOFError, TypeError, ValueError) as error:
        raise ValueError(
            f"load_torch_state: {str(path)!r} is damaged, or holds other things than NumPy arrays ({error})"
        ) from error
