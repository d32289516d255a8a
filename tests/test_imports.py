"""Who may import whom, read from the source; what an import loads; how long a file may be."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = sorted((ROOT / "minissl").rglob("*.py"))
REFERENCE = sorted((ROOT / "reference").rglob("*.py"))

ROOMS = {
    "random": 0,
    "backend": 1,
    "graph": 2,
    "tensor": 2,
    "parallel": 3,
    "ops": 3,
    "gradcheck": 4,
    "nn": 5,
    "models": 6,
    "losses": 6,
    "optim": 6,
    "augment": 6,
    "data": 6,
    "evaluation": 7,
    "checkpoint": 7,
    "viz": 7,
}
WITHOUT_NUMPY = {"ops", "nn", "losses", "augment", "models", "optim"}
ON_ARRAYS_ONLY = {"augment": {"augment", "backend", "random"}, "data": {"data", "augment", "backend", "random"}}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def room(path: Path) -> str:
    """The part of the library that a file belongs to; the package's own __init__ is "minissl"."""
    parts = path.relative_to(ROOT / "minissl").with_suffix("").parts
    return "minissl" if parts == ("__init__",) else parts[0]


def imports(path: Path) -> set[str]:
    """The full names of all that a file imports, wherever in it; `from minissl import ops` counts as minissl.ops."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{name(path)}: imports are written in full, from minissl on"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def packages(path: Path) -> set[str]:
    return {module.split(".")[0] for module in imports(path)}


def rooms_used(path: Path) -> set[str]:
    return {module.split(".")[1] for module in imports(path) if module.startswith("minissl.")}


def test_the_reader_of_imports_finds_every_kind(tmp_path: Path) -> None:
    source = "import numpy as np\nfrom minissl import ops, nn\ndef f():\n    from minissl.data.loader import Loader\n"
    (tmp_path / "some.py").write_text(source)
    assert rooms_used(tmp_path / "some.py") == {"ops", "nn", "data"}
    assert packages(tmp_path / "some.py") == {"numpy", "minissl"}
    assert len(LIBRARY) > 30 and len(REFERENCE) > 3


@pytest.mark.parametrize("path", LIBRARY + REFERENCE, ids=name)
def test_only_the_backend_imports_cupy(path: Path) -> None:
    if not path.is_relative_to(ROOT / "minissl" / "backend"):
        assert not packages(path) & {"cupy", "cupyx", "cupy_backends"}


@pytest.mark.parametrize("path", [path for path in LIBRARY if room(path) in WITHOUT_NUMPY], ids=name)
def test_code_for_both_backends_does_not_import_numpy(path: Path) -> None:
    assert "numpy" not in packages(path)


@pytest.mark.parametrize("path", LIBRARY, ids=name)
def test_lower_rooms_do_not_import_higher_ones(path: Path) -> None:
    here = room(path)
    assert here == "minissl" or here in ROOMS, f"{here} is a new room: give it its number above"
    used = rooms_used(path) - {"__version__"}
    assert "minissl" not in imports(path) or here == "minissl"
    assert used <= ROOMS.keys(), f"not rooms of the library: {used - ROOMS.keys()}"
    if here != "minissl":
        too_high = {other for other in used if ROOMS[other] > ROOMS[here]}
        assert not too_high, f"{name(path)} imports {too_high}"
        assert used <= ON_ARRAYS_ONLY.get(here, used), f"{here} works on arrays, without gradients"


@pytest.mark.parametrize("path", LIBRARY, ids=name)
def test_the_library_does_not_import_its_readers(path: Path) -> None:
    assert not packages(path) & {"reference", "benchmarks", "tests"}


def test_importing_the_whole_library_loads_nothing_optional_or_slow() -> None:
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in LIBRARY if path.stem != "__main__"]
    heavy = [
        "mpi4py",
        "matplotlib",
        "scipy",
        "cupy",
        "tyro",
        "tqdm",
        "torch",
        "pooch",
        "tifffile",
        "imagecodecs",
        "sklearn",
    ]
    program = (
        f"import importlib, sys\nfor module in {modules}:\n    importlib.import_module(module)\n"
        f"print('loaded', *[m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["loaded"], done.stdout + done.stderr


@pytest.mark.parametrize("path", LIBRARY + REFERENCE, ids=name)
def test_no_file_is_too_long_to_read(path: Path) -> None:
    limit = 299 if name(path) == "minissl/tensor.py" else 400
    assert len(path.read_text().splitlines()) <= limit
