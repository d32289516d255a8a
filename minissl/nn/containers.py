"""Modules that hold modules."""

from collections.abc import Iterable, Iterator

from minissl.nn.module import Module
from minissl.tensor import Tensor


class ModuleList(Module):
    """Modules in a list, named "0", "1", ...; what is done with them is up to the module around it."""

    def __init__(self, modules: Iterable[Module]) -> None:
        vars(self).update({str(i): module for i, module in enumerate(modules)})

    def __len__(self) -> int:
        return len(list(self.children()))

    def __iter__(self) -> Iterator[Module]:
        return (module for _, module in self.children())

    def __getitem__(self, i: int) -> Module:
        return list(self)[i]


class Sequential(ModuleList):
    """Modules one after another, named "0", "1", ... or by keyword in the order given."""

    def __init__(self, *modules: Module, **named: Module) -> None:
        super().__init__(modules)
        vars(self).update(named)

    def forward(self, x: Tensor) -> Tensor:
        for module in self:
            x = module(x)
        return x
