"""Sets of rasters in each layout, written once for all tests of their readers."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.geotiffs import MAKERS


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One set of each layout, not to be changed."""
    folder = tmp_path_factory.mktemp("rasters")
    return {layout: make(folder / layout) for layout, make in MAKERS.items()}


@pytest.fixture
def copy(made: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """Of a set, to break."""
    return lambda layout: Path(shutil.copytree(made[layout], tmp_path / layout))
