"""`python -m benchmarks scaling --ranks`, and the model on paper."""

import json
import math
from pathlib import Path

import pytest

from benchmarks import paper, ranks, scaling
from tests.parallel.launching import needs_mpi


@needs_mpi
def test_ranks_are_measured_beside_one_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "SIZE", {"images": 8, "side": 16, "width": 4, "stem": "halving"})
    file = tmp_path / "ranks.json"
    scaling.main(["--ranks", "1", "2", "--rounds", "1", "--steps", "2", "--warmup", "1", "--json", str(file)])
    found = json.loads(file.read_text())["ranks"]
    both, apart = found["2 ranks"], found["2 ranks, --no-sync-bn"]
    assert found["1 rank"]["step"] > 0 and found["1 rank"]["share"] < 0.05
    assert 0 < both["share"] < 1 and both["computing"] > 0
    assert both["calls"] == apart["calls"] + 2 * 21 == 2 + 1 + 2 * 21  # two views, one bucket, 20 + 1 batch norms
    assert "2 ranks, --no-sync-bn" in capsys.readouterr().out


def test_on_paper_one_gpu_only_computes_and_what_is_shared_out_shrinks() -> None:
    one, two, many = (paper.seconds(paper.Work(4096), paper.Machine(gpus)) for gpus in (1, 2, 512))
    assert [part for part, cost in one.items() if cost] == ["networks", "comparison"]
    assert one["networks"] == 2 * two["networks"] == 512 * many["networks"]
    assert one["comparison"] == many["comparison"]
    # A ring: each GPU sends and receives its bytes almost twice.
    slow = paper.Machine(512, hop=0)
    assert math.isclose(paper.seconds(paper.Work(4096), slow)["all-reduce"], 2 * 4 * 28e6 * 511 / 512 / 50e9)
