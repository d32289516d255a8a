"""The chapters, found by being there: every file in the folder of a part of the tutorial."""

import ast
import importlib
import pkgutil
from pathlib import Path

from reference.method import Method

PARTS = {
    "foundations": "Representation learning",
    "pretext": "Pretext tasks",
    "contrastive": "Contrastive learning",
    "earth": "Earth observation",
}


def chapters() -> dict[str, list[tuple[str, str]]]:
    """For each part of the tutorial its chapters: (module name, first line of its docstring)."""
    found: dict[str, list[tuple[str, str]]] = {}
    for part in PARTS:
        folder = Path(__file__).parent / part
        for module in pkgutil.iter_modules([str(folder)]):
            text = ast.get_docstring(ast.parse((folder / f"{module.name}.py").read_text())) or ""
            found.setdefault(part, []).append((module.name, text.splitlines()[0] if text else ""))
    return found


def find(name: str) -> type[Method]:
    """The method of a chapter: the subclass of Method that its file defines."""
    for part, entries in chapters().items():
        if name in dict(entries):
            module = importlib.import_module(f"reference.{part}.{name}")
            for value in vars(module).values():
                if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__:
                    return value
    known = ", ".join(name for entries in chapters().values() for name, _ in entries)
    raise ValueError(f"there is no chapter {name!r}; choose one of: {known}")
