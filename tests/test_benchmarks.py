"""benchmarks: operations against a hand count, and the harness from end to end on a tiny step. Nothing is timed."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import __main__, flops, harness, steps
from benchmarks.workloads import Size
from minissl import nn
from minissl.tensor import Tensor

TINY = ["simclr", "--backends=numpy", "--images=4", "--width=4", "--rounds=2", "--steps=1", "--warmup=0"]


def run(path: Path, *more: str) -> dict[str, Any]:
    """The tiny measurement; what it wrote."""
    steps.main([*TINY, "--json", str(path), *more])
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def test_flops_equal_a_hand_count() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU(), nn.GlobalAveragePool(), nn.Linear(2, 5))
    with flops.counting(network) as counts:
        network(Tensor(np.ones((2, 4, 4, 3), np.float32)))
    convolution = (2 * 4 * 4 * 2) * (3 * 3 * 3) * 2  # outputs, products in each, multiplication and addition
    linear = (2 * 5) * 2 * 2
    assert counts == [2 * convolution, 3 * linear]  # the images' gradient is not computed
    network(Tensor(np.ones((2, 4, 4, 3), np.float32)))
    assert len(counts) == 2


def test_a_frozen_layer_has_no_weight_gradient() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5))
    for parameter in network.parameters():
        parameter.requires_grad = False
    with flops.counting(network) as counts:
        network(Tensor(np.ones((2, 3), np.float32)))
    assert counts == [2 * 2 * 3 * 4, 2 * 2 * 4 * 5]


def test_minissl_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "torch_installed", lambda: False)
    report = run(tmp_path / "new" / "steps.json")
    printed = capsys.readouterr().out
    assert "pip install torch" in printed and "ratio" not in printed

    assert report["machine"]["processor"] and report["machine"]["cores"] >= 1
    assert {"python", "numpy", "torch", "minissl"} == set(report["versions"])
    assert report["settings"] == {"rounds": 2, "steps": 1, "warmup": 0, "keep_blas_pin": False}
    step = report["steps"]["simclr"]
    assert step["size"] == {"images": 4, "width": 4, "side": 32}
    assert step["flops"] == simclr_flops(images=4, width=4)
    assert list(step["engines"]) == ["minissl numpy"]
    engine = step["engines"]["minissl numpy"]
    assert "ratio" not in engine
    assert engine["facts"]["blas"] and engine["facts"]["threads"] >= 1
    assert len(engine["seconds"]) == len(engine["product_gflops"]) == 2
    assert engine["min"] <= engine["median"] <= engine["max"]
    assert engine["gflops"] > 0 and engine["peak_gflops"] > 0
    assert engine["memory_peak"] is None or engine["memory_at_import"] < engine["memory_peak"]


def simclr_flops(images: int, width: int) -> int:
    """Counted by hand: ResNet-18 on 32x32 pixels and the head 8w-8w-128, on two views of each image."""
    stem = 27 * width * 32**2
    products = stem + 4 * 9 * width**2 * 32**2
    for stage in (1, 2, 3):  # 3x3 that halves the image, three more, and the 1x1 shortcut
        narrow, wide, pixels = width * 2 ** (stage - 1), width * 2**stage, (32 // 2**stage) ** 2
        products += (9 * narrow * wide + 3 * 9 * wide * wide + narrow * wide) * pixels
    products += (8 * width) ** 2 + 8 * width * 128
    return 2 * images * 2 * (3 * products - stem)


@pytest.mark.skipif(not steps.torch_installed(), reason="torch is not installed")
def test_beside_torch(tmp_path: Path) -> None:
    engines = run(tmp_path / "steps.json")["steps"]["simclr"]["engines"]
    ratio = engines["minissl numpy"]["ratio"]
    assert list(engines) == ["minissl numpy", "torch cpu channels_first", "torch cpu channels_last"]
    assert ratio["to"] in engines and len(ratio["rounds"]) == 2
    for ours, theirs, quotient in zip(
        engines["minissl numpy"]["seconds"], engines[ratio["to"]]["seconds"], ratio["rounds"], strict=True
    ):
        assert quotient == pytest.approx(ours / theirs)
    assert "ratio" not in engines[ratio["to"]]


def test_torch_can_be_left_out() -> None:
    assert steps.choose_engines(["numpy"], torch=False) == ["minissl numpy"]


def test_the_faster_layout_counts() -> None:
    figures = {
        "minissl numpy": [4.0, 6.0],
        "torch cpu channels_first": [3.0, 3.0],
        "torch cpu channels_last": [2.0, 2.0],
    }
    results = {name: {"seconds": s} | harness.spread(s) for name, s in figures.items()}
    harness.add_ratios(results)
    expected = {"to": "torch cpu channels_last", "rounds": [2.0, 3.0], "median": 2.5, "min": 2.0, "max": 3.0}
    assert results["minissl numpy"]["ratio"] == expected


@pytest.mark.parametrize("other", [1.001, float("nan")])
def test_losses_that_differ_are_an_error(other: float) -> None:
    harness.check_losses({"a": 1.0, "b": 1.00001})
    with pytest.raises(ValueError, match="initial losses differ"):
        harness.check_losses({"a": 1.0, "b": other})


@pytest.mark.parametrize("keep_pin", [False, True])
def test_the_blas_pin_is_removed_unless_kept(monkeypatch: pytest.MonkeyPatch, keep_pin: bool) -> None:
    monkeypatch.setenv(harness.PIN, "Haswell")
    given = []

    class Recorded:
        def __init__(self, workload: str, size: Size, engine: str, environment: dict[str, str]) -> None:
            given.append(environment)

        def close(self) -> None:
            pass

    monkeypatch.setattr(harness, "Child", Recorded)
    with harness.children("simclr", Size(), ["minissl numpy"], keep_pin):
        pass
    expected = dict(os.environ)
    if not keep_pin:
        del expected[harness.PIN]
    assert given == [expected]


def test_an_engine_that_fails_is_named() -> None:
    with pytest.raises(RuntimeError, match="minissl abacus ended"):
        harness.measure("simclr", Size(4, 4), ["minissl abacus"], 1, 1, 0, False)


def test_the_command_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    __main__.main([])
    assert all(name in capsys.readouterr().out for name in __main__.COMMANDS)
    with pytest.raises(SystemExit, match="choose one of"):
        __main__.main(["speed"])
    with pytest.raises(SystemExit, match="choose from: simclr"):
        __main__.main(["steps", "nothing"])
