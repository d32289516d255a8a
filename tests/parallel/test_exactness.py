"""One, two and four ranks with the same batches take the same steps: in float64, but for the order of sums."""

import numpy as np
import pytest

from tests.parallel.launching import needs_mpi, run, together
from tests.parallel.steps import CASES, MUTATIONS

pytestmark = needs_mpi
TOLERANCE = 1e-9


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, np.ndarray]]:
    """Losses and weights by the number of ranks."""
    folder = tmp_path_factory.mktemp("steps")
    together([(ranks, ["-m", "tests.parallel.steps", folder / f"{ranks}.npz"]) for ranks in (1, 2)])
    together([(4, ["-m", "tests.parallel.steps", folder / "4.npz"])])
    return {ranks: dict(np.load(folder / f"{ranks}.npz")) for ranks in (1, 2, 4)}


def difference(a: dict[str, np.ndarray], b: dict[str, np.ndarray], first: str, second: str) -> float:
    """The largest, of losses and of all weights of a case in `a` and one in `b`, relative to an array's largest."""
    names = [name.removeprefix(first + "/") for name in a if name.startswith(first + "/")]
    assert "loss" in names and len(names) > 10
    pairs = [(a[f"{first}/{name}"], b[f"{second}/{name}"]) for name in names]
    return max(float(np.abs(x - y).max() / max(1.0, np.abs(x).max())) for x, y in pairs)


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("case", CASES)
def test_ranks_take_the_steps_of_one_process(case: str, ranks: int, found: dict[int, dict[str, np.ndarray]]) -> None:
    assert found[1][f"{case}/loss"].dtype == np.float64
    assert len(np.unique(found[1][f"{case}/loss"])) == 5  # it learns
    assert difference(found[1], found[ranks], case, case) < TOLERANCE


@pytest.fixture(scope="module")
def mutated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    out = tmp_path_factory.mktemp("mutated") / "2.npz"
    done = run(2, "-m", "tests.parallel.steps", out, "--mutations")
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(np.load(out))


@pytest.mark.parametrize("bug", MUTATIONS)
def test_known_bugs_would_be_seen(
    bug: str, mutated: dict[str, np.ndarray], found: dict[int, dict[str, np.ndarray]]
) -> None:
    assert difference(found[1], mutated, MUTATIONS[bug][0], bug) > 1e3 * TOLERANCE
