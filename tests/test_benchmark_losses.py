"""`python -m benchmarks losses` on tiny batches: all losses run, as in PyTorch where it is beside. Nothing is timed."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import harness, losses, settings
from benchmarks.engines import MinisslOp
from benchmarks.loss_cases import BESIDE_TORCH, LOSSES, case
from benchmarks.workloads import Size

NUMPY, TORCH = "minissl numpy", "torch cpu channels_first"

needs_torch = pytest.mark.skipif(not settings.torch_installed(), reason="torch is not installed")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINISSL_THREADS", "1")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_runs_and_reaches_all_that_is_learned(name: str) -> None:
    engine = MinisslOp(case(name, 16), "numpy")
    first = engine.first()
    assert engine.learned and len(first["gradients"]) == len(engine.learned)
    assert first["output"] > 0 and all(gradient > 0 for gradient in first["gradients"])


@needs_torch
def test_losses_agree_with_torch() -> None:
    from benchmarks import peers

    assert {f"losses.{name}" for name in BESIDE_TORCH} == {name for name in peers.OPS if name.startswith("losses.")}
    with harness.children([NUMPY, TORCH], keep_pin=False) as started:
        for name in BESIDE_TORCH:
            harness.begin(started, f"losses.{name}", Size(24))  # raises where values or gradients differ


def run(path: Path, *arguments: str) -> dict[str, Any]:
    flags = ["--backends=numpy", "--rounds=2", "--seconds=0.001", f"--json={path}"]
    losses.main([*arguments, *flags])
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def test_a_table_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "most_memory", lambda results: {16: 1.0, 32: 4.0}[results[NUMPY]["N"]])
    measure = losses.measure
    marked = lambda started, name, N, options: {NUMPY: measure(started, name, N, options)[NUMPY] | {"N": N}}
    monkeypatch.setattr(losses, "measure", marked)
    flags = ["--without-torch", "--sizes", "32", "16", "320", "--limit", "300"]
    report = run(tmp_path / "losses.json", "nt_xent_chunked", *flags)
    sizes = report["losses"]["nt_xent_chunked"]
    assert list(sizes) == ["16", "32", "320"]
    assert sizes["320"] == {"skipped": "about 301 MB"}  # 1 + 3·10²
    engine = sizes["16"]["engines"][NUMPY]
    assert len(engine["seconds"]) == 2 and engine["min"] <= engine["median"] <= engine["max"]
    assert engine["memory_step"] is None or engine["memory_step"] > 0
    assert report["engines"][NUMPY]["facts"]["blas"]
    assert "skipped: about 301 MB, above --limit 300" in capsys.readouterr().out


@needs_torch
def test_a_table_beside_torch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = run(tmp_path / "losses.json", "triplet", "sup_con", "--sizes", "16")
    engines = report["losses"]["triplet"]["16"]["engines"]
    assert list(engines) == [NUMPY, TORCH] and engines[NUMPY]["ratio"]["to"] == TORCH
    assert list(report["losses"]["sup_con"]["16"]["engines"]) == [NUMPY]  # no plain formula of a line or two
    lines = capsys.readouterr().out.splitlines()
    assert all(any(line.split()[:2] == [name, "16"] for line in lines) for name in ("triplet", "sup_con"))


def test_memory_is_expected_to_grow_with_the_square() -> None:
    assert losses.expected({64: 40.0}, 256) == 40
    assert losses.expected({64: 40.0, 256: 50.0}, 1024) == 40 + 10 * 16


def test_an_unknown_loss_is_named() -> None:
    with pytest.raises(ValueError, match=r"there is no loss mse; choose from: contrastive"):
        losses.main(["mse"])
