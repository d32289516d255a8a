"""A network as a table."""

from collections.abc import Iterator
from typing import Any

from minissl import backend, random
from minissl.nn.costs import multiply_adds, watching
from minissl.nn.module import Module, Parameter
from minissl.tensor import Tensor, no_grad

HEAD = ("layer", "type", "output", "parameters", "multiply-adds")


def summary(model: Module, input_shape: tuple[int, ...]) -> str:
    """Every layer with its name, type, output shape, parameters and multiply-adds (see `nn.multiply_adds`), and totals.

    The model is applied once to zeros of this shape, batch included, in evaluation mode and without a graph; its modes
    and the random numbers are afterwards as they were. A layer that is applied several times shows its last output and
    the products of all; one that is not applied shows "-". Modules that only hold others are left out.
    """
    outputs: dict[int, str] = {}
    products: dict[int, int] = {}

    def report(module: Module, inputs: tuple[Any, ...], output: Any) -> None:
        outputs[id(module)] = _shape(output)
        if inputs:
            products[id(module)] = products.get(id(module), 0) + multiply_adds(module, inputs[0], output)

    _apply_to_zeros(model, input_shape, report)
    rows, known = [], set()
    for name, module in _named_modules(model):
        own = {id(p): p.size for p in vars(module).values() if isinstance(p, Parameter) and id(p) not in known}
        known |= {*own, id(module)}
        if own or products.get(id(module)) or not any(module.children()):
            shape, cost = outputs.get(id(module), "-"), products.get(id(module), 0)
            rows.append((name, type(module).__name__, shape, f"{sum(own.values()):,}", f"{cost:,}"))
    total = ("total", "", "", f"{model.parameter_count():,}", f"{sum(products.values()):,}")
    return _table([HEAD, *rows, total])


def _apply_to_zeros(model: Module, shape: tuple[int, ...], report: Any) -> None:
    floats = [tensor.data for _, tensor in model.named_tensors() if tensor.dtype.kind == "f"]
    home, dtype = (backend.of(floats[0]), floats[0].dtype) if floats else (backend.current(), "float32")
    modes = [(module, module.training) for module in model.modules()]
    state = random.generator().bit_generator.state
    try:
        with watching(model.eval(), report), no_grad():
            model(Tensor(home.xp.zeros(shape, dtype)))
    finally:
        random.generator().bit_generator.state = state
        for module, mode in modes:
            module.training = mode


def _named_modules(module: Module) -> Iterator[tuple[str, Module]]:
    """This module and all inside it, each once, with their dotted names."""
    todo, seen = [("", module)], set()
    while todo:
        name, module = todo.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        yield name or "(the model)", module
        todo += [(f"{name}.{child}".lstrip("."), inner) for child, inner in reversed(list(module.children()))]


def _shape(output: Any) -> str:
    if isinstance(output, Tensor):
        return str(output.shape)
    return ", ".join(map(_shape, output)) if isinstance(output, tuple | list) else type(output).__name__


def _table(rows: list[tuple[str, ...]]) -> str:
    """Columns as wide as their widest entry, text to the left and numbers to the right; lines around the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(row: tuple[str, ...]) -> str:
        cells = [text.ljust(n) if i < 3 else text.rjust(n) for i, (text, n) in enumerate(zip(row, widths, strict=True))]
        return "  ".join(cells).rstrip()

    rule = "-" * len(line(rows[0]))
    return "\n".join([line(rows[0]), rule, *map(line, rows[1:-1]), rule, line(rows[-1])])
