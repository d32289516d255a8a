"""Module: a part of a network, which finds its parameters by looking at its own attributes."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from minissl import backend
from minissl.backend import Array
from minissl.tensor import Tensor

Self = TypeVar("Self", bound="Module")


class Parameter(Tensor):
    """A tensor that an optimizer learns. Set `requires_grad = False` to freeze it."""

    __slots__ = ()

    def __init__(self, data: Any) -> None:
        super().__init__(data, requires_grad=True)


class Buffer(Tensor):
    """A tensor that belongs to the module's state and is not learned: running statistics, queues, banks."""

    __slots__ = ()


class Module:
    """A part of a network. Subclasses set parameters, buffers and other modules as attributes, and write `forward`.

    Parameters and buffers are found in the order in which they were set; the name of one inside another is dotted, as
    in "layer1.0.conv1.weight". `training` tells layers such as BatchNorm how to behave.
    """

    training: bool = True

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, list | tuple | set | dict):
            inside = value.values() if isinstance(value, dict) else value
            if any(isinstance(element, Module | Parameter | Buffer) for element in inside):
                raise TypeError(
                    f"{type(self).__name__}.{name}: modules and parameters inside a {type(value).__name__} would not "
                    "be found; use ModuleList or Sequential, or one attribute each"
                )
        super().__setattr__(name, value)

    def forward(self, *inputs: Any) -> Any:
        raise TypeError(f"{type(self).__name__} has no forward; write def forward(self, ...)")

    def __call__(self, *inputs: Any) -> Any:
        return self.forward(*inputs)

    def children(self) -> Iterator[tuple[str, "Module"]]:
        """The modules directly inside this one, by name."""
        return ((name, value) for name, value in vars(self).items() if isinstance(value, Module))

    def modules(self) -> Iterator["Module"]:
        """This module and all inside it."""
        yield self
        for _, child in self.children():
            yield from child.modules()

    def named_tensors(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """All parameters and buffers with their dotted names."""
        for name, value in vars(self).items():
            if isinstance(value, Parameter | Buffer):
                yield prefix + name, value
            elif isinstance(value, Module):
                yield from value.named_tensors(f"{prefix}{name}.")

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        return ((name, value) for name, value in self.named_tensors() if isinstance(value, Parameter))

    def parameters(self) -> list[Parameter]:
        """All parameters, each once, also one that several names share."""
        return list({id(parameter): parameter for _, parameter in self.named_parameters()}.values())

    def parameter_count(self) -> int:
        return sum(parameter.size for parameter in self.parameters())

    def zero_grad(self) -> None:
        for parameter in self.parameters():
            parameter.grad = None

    def train(self: Self, mode: bool = True) -> Self:
        """Training behaviour for this module and all inside it; `eval` is the opposite."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: Self) -> Self:
        return self.train(False)

    def state_dict(self) -> dict[str, Array]:
        """The arrays of all parameters and buffers by name. They are the arrays in use, not copies."""
        return {name: tensor.data for name, tensor in self.named_tensors()}

    def load_state_dict(self, state: Mapping[str, Array], strict: bool = True) -> None:
        """Copy arrays into the parameters and buffers of the same names, onto their backend and type.

        Raises ValueError that lists every missing, unexpected and misshapen name, before anything is changed;
        with strict=False only misshapen ones are errors.
        """
        own = dict(self.named_tensors())
        problems = [
            f"{name}: expected shape {own[name].shape}, got {tuple(state[name].shape)}"
            for name in own
            if name in state and own[name].shape != tuple(state[name].shape)
        ]
        if strict:
            problems += [f"{name}: missing" for name in own if name not in state]
            problems += [f"{name}: unexpected" for name in state if name not in own]
        if problems:
            raise ValueError(f"load_state_dict of {type(self).__name__}: " + "; ".join(problems))
        for name, tensor in own.items():
            if name in state:
                home = backend.of(tensor.data)
                tensor.data = home.xp.array(home.to_device(backend.to_host(state[name])), tensor.dtype)

    def _convert(self: Self, change: Callable[[Array], Array]) -> Self:
        for _, tensor in self.named_tensors():
            tensor.data, tensor.grad = change(tensor.data), None
        return self

    def to(self: Self, name: str) -> Self:
        """Move every parameter and buffer to the backend of this name."""
        home = backend.get(name)
        return self._convert(lambda array: home.to_device(backend.to_host(array)))

    def astype(self: Self, dtype: str) -> Self:
        """Convert every floating-point parameter and buffer, e.g. to "float64" for a gradient check."""
        return self._convert(lambda array: array.astype(dtype) if array.dtype.kind == "f" else array)
