"""benchmarks: operations against hand counts, the same numbers as PyTorch, and every command from end to end on tiny
steps. Nothing is timed."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import __main__, flops, harness, memory, ops, scaling, settings, steps
from benchmarks.op_cases import CASES
from benchmarks.workloads import MODELS, WORKLOADS, Size, build
from minissl import models, nn
from minissl.backend import to_device
from minissl.tensor import Tensor

NUMPY, TORCH = "minissl numpy", "torch cpu channels_first"
TINY = ["--backends=numpy", "--images=4", "--width=4"]
ONCE = ["--rounds=1", "--steps=1", "--warmup=0"]

needs_torch = pytest.mark.skipif(not settings.torch_installed(), reason="torch is not installed")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run beside other work: measured processes that share the cores would wait for each other."""
    monkeypatch.setenv("MINISSL_THREADS", "1")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")


def run(main: Callable[[list[str]], None], path: Path, *arguments: str) -> dict[str, Any]:
    """What a command wrote."""
    main([*arguments, "--json", str(path)])
    report: dict[str, Any] = json.loads(path.read_text())
    return report


# -- operations -------------------------------------------------------------------------------------------------------


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


def test_a_recurrent_layer_has_no_gradient_of_its_inputs_but_of_its_states() -> None:
    network = nn.Sequential(nn.GRU(3, 4), nn.GRU(4, 5))
    with flops.counting(network) as counts:
        network(Tensor(np.ones((2, 6, 3), np.float32)))
    first = 2 * 6 * (2 * 3 * 12 + 3 * 4 * 12)  # sequences, steps, passes times products
    second = 2 * 6 * (3 * 4 * 15 + 3 * 5 * 15)
    assert counts == [2 * first, 2 * second]


def resnet_products(width: int, side: int) -> tuple[int, int]:
    """Products of ResNet-18 on one image: those of its first layer, and all."""
    stem = 27 * width * side**2
    products = stem + 4 * 9 * width**2 * side**2
    for stage in (1, 2, 3):  # 3x3 that halves the image, three more, and the 1x1 shortcut
        narrow, wide, pixels = width * 2 ** (stage - 1), width * 2**stage, (side // 2**stage) ** 2
        products += (9 * narrow * wide + 3 * 9 * wide * wide + narrow * wide) * pixels
    return stem, products


def block_products(tokens: int, width: int) -> int:
    """Products of a transformer block on one image: queries, keys, values, projection and MLP; each with each twice."""
    return tokens * (3 + 1 + 4 + 4) * width**2 + 2 * tokens**2 * width


def hand_count(name: str, size: Size) -> int:
    """Operations of a whole step: three passes through all products, but two through the first layer's."""
    N, width, side = size.images, size.width, size.side
    if name == "resnet":
        first, products = resnet_products(width, side)
        products += 8 * width * 10
    elif name.startswith("simclr"):
        N *= 2
        first, products = resnet_products(width, side)
        products += (8 * width) ** 2 + 8 * width * 128
    elif name == "vit":
        L = (side // 8) ** 2
        first = L * 8 * 8 * 3 * width
        products = first + 12 * block_products(L + 1, width) + width * 10
    elif name == "mae":
        L = (side // 8) ** 2
        K, narrow = L // 4, 4 * max(1, width // 8)
        first = L * 8 * 8 * 3 * width
        products = first + 12 * block_products(K + 1, width) + (K + 1) * width * narrow
        products += 2 * block_products(L + 1, narrow) + L * narrow * 8 * 8 * 3
    elif name == "lstm":
        first = side * 13 * 4 * width
        products = first + side * width * 4 * width + width * 10
    else:
        first = 3 * side**2 * width
        products = first + width**2 + width * 10
    return N * 2 * (3 * products - first)


@pytest.mark.parametrize("name", WORKLOADS)
def test_flops_of_a_whole_step_equal_a_hand_count(name: str) -> None:
    size = Size(images=2, width=4, side=16)
    method = build(name, size)
    arrays = tuple(to_device(array) for array in WORKLOADS[name].inputs(size))
    if WORKLOADS[name].views:
        arrays = method.views({"images": arrays[0]}, np.random.default_rng(0))
    with flops.counting(method) as counts:
        method.loss(arrays)
    assert sum(counts) == hand_count(name, size)


def test_operations_and_bytes_of_ops() -> None:
    stem = CASES["conv2d_stem"](2)
    outputs = 2 * 32 * 32 * 64
    assert stem.flops(outputs) == 2 * outputs * 27 * 2  # forward and the weight's gradient
    assert CASES["conv2d_c16"](1).flops(64 * 64 * 16) == 2 * 64 * 64 * 16 * 9 * 16 * 3
    assert CASES["attention"](1).flops(3 * 65 * 64) == 2 * (3 * 65 * 65 * 64 * 2) * 3
    assert CASES["matmul_tokens"](1).flops(65 * 768) == 2 * 65 * 192 * 768 * 3
    assert CASES["nt_xent"](1).flops(1) == 2 * 16 * 16 * 128 * 3
    gelu = CASES["gelu"](1)
    assert gelu.flops(65 * 768) == 0
    assert gelu.bytes(65 * 768) == 4 * 65 * 768 * 4  # x, y and their gradients


def test_the_transformer_is_vit_tiny() -> None:
    network = build("vit", WORKLOADS["vit"].size).network
    shapes = [{name: p.shape for name, p in m.named_parameters()} for m in (network, models.vit_tiny(classes=10))]
    assert shapes[0] == shapes[1]


# -- the same numbers as PyTorch --------------------------------------------------------------------------------------


@needs_torch
def test_all_steps_and_ops_agree_with_torch() -> None:
    with harness.children([NUMPY, "torch cpu channels_last"], keep_pin=False) as started:
        for name in WORKLOADS:
            harness.begin(started, name, Size(images=4, width=4, side=16))  # raises where losses differ
            after = [child.ask("steps 2")["loss"] for child in started]
            assert after[0] == pytest.approx(after[1], rel=2e-3), name  # gradients and updates agree too
        for name in CASES:
            harness.begin(started, name, Size(images=1))


@needs_torch
def test_all_networks_agree_with_torch() -> None:
    with harness.children([NUMPY, "torch cpu channels_last"], keep_pin=False) as started:
        for name in MODELS:
            harness.begin(started, name, Size(images=4, width=6, side=48))
            after = [child.ask("steps 1")["loss"] for child in started]  # rounding grows fast in ResNet-50's BatchNorm
            assert after[0] == pytest.approx(after[1], rel=2e-3), name


@pytest.mark.parametrize("other", [1.001, float("nan")])
def test_results_that_differ_are_an_error(other: float) -> None:
    harness.check_agreement({"a": [1.0, 0.001], "b": [1.00001, 0.001]})
    with pytest.raises(ValueError, match="first results differ"):
        harness.check_agreement({"a": [1.0, 1.0], "b": [1.0, other]})
    with pytest.raises(ValueError, match="first results differ"):
        harness.check_agreement({"a": [other, 1.0], "b": [1.0, 1.0]})


# -- commands ---------------------------------------------------------------------------------------------------------


def test_steps_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "torch_installed", lambda: False)
    report = run(steps.main, tmp_path / "new" / "steps.json", "simclr", "lstm", *TINY, *ONCE, "--rounds=2")
    printed = capsys.readouterr().out
    assert "pip install torch" in printed and "ratio" not in printed

    assert report["machine"]["processor"] and report["machine"]["cores"] >= 1
    assert {"python", "numpy", "torch", "minissl"} == set(report["versions"])
    assert report["environment"]["MINISSL_THREADS"] == "1"
    given = {"names": ["simclr", "lstm"], "backends": ["numpy"], "images": 4, "width": 4, "side": None, "rounds": 2}
    flags = {"steps": 1, "warmup": 0, "keep_blas_pin": False, "without_torch": False, "models": False}
    assert report["settings"] == given | flags
    assert list(report["steps"]) == ["simclr", "lstm"]
    assert report["steps"]["lstm"]["size"] == {"images": 4, "width": 4, "side": 12}
    step = report["steps"]["simclr"]
    assert step["size"] == {"images": 4, "width": 4, "side": 32}
    assert step["flops"] == hand_count("simclr", Size(**step["size"]))
    assert list(step["engines"]) == [NUMPY]
    engine = step["engines"][NUMPY]
    assert "ratio" not in engine
    assert engine["facts"]["blas"] and engine["facts"]["threads"] == 1
    assert len(engine["seconds"]) == len(engine["product_gflops"]) == 2
    assert engine["min"] <= engine["median"] <= engine["max"]
    assert engine["gflops"] > 0 and engine["peak_gflops"] > 0
    assert engine["memory_peak"] is None or engine["memory_at_import"] < engine["memory_peak"]


@needs_torch
def test_steps_beside_torch(tmp_path: Path) -> None:
    report = run(steps.main, tmp_path / "steps.json", "resnet", *TINY, "--side=8", *ONCE)
    engines = report["steps"]["resnet"]["engines"]
    ratio = engines[NUMPY]["ratio"]
    assert list(engines) == [NUMPY, TORCH, "torch cpu channels_last"]
    assert ratio["to"] in engines and len(ratio["rounds"]) == 1
    for ours, theirs, quotient in zip(
        engines[NUMPY]["seconds"], engines[ratio["to"]]["seconds"], ratio["rounds"], strict=True
    ):
        assert quotient == pytest.approx(ours / theirs)
    assert "ratio" not in engines[ratio["to"]]


@pytest.mark.parametrize("beside_torch", [False, pytest.param(True, marks=needs_torch)])
def test_steps_of_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str], beside_torch: bool) -> None:
    flags = [*TINY, "--side=16", *ONCE, *["--without-torch"] * (not beside_torch)]
    report = run(steps.main, tmp_path / "models.json", "--models", "unet", *flags)
    measured = report["steps"]["unet"]
    assert measured["size"] == {"images": 4, "width": 4, "side": 16}
    for engine in measured["engines"].values():
        assert engine["images_per_second"] == pytest.approx(4 / engine["median"])
    heading, row = (line for line in capsys.readouterr().out.splitlines() if "images/s" in line or "unet" in line)
    figures = [measured["engines"][NUMPY]["images_per_second"]]
    assert ("torch" in heading) == ("ratio" in measured["engines"][NUMPY]) == beside_torch
    if beside_torch:
        figures.append(measured["engines"][measured["engines"][NUMPY]["ratio"]["to"]]["images_per_second"])
    assert row.split()[:6] == ["unet", "4", "16", "4", *NUMPY.split()]
    assert row.split()[6 : 6 + len(figures)] == [f"{figure:.1f}" for figure in figures]
    with pytest.raises(ValueError, match="no model mae"):
        steps.main(["--models", "mae"])


@needs_torch
def test_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = run(memory.main, tmp_path / "memory.json", "mlp", *TINY, "--steps=1")
    measured = report["memory"]["mlp"]
    engines = measured["engines"]
    assert measured["size"] == {"images": 4, "width": 4, "side": 32}
    assert list(engines) == [NUMPY, TORCH]  # no images: one layout
    assert "flops" not in engines[NUMPY] and "seconds" not in engines[NUMPY]
    if engines[NUMPY]["memory_peak"] is None:
        assert "unknown" in capsys.readouterr().out
        return
    for r in engines.values():
        assert r["memory_step"] == r["memory_peak"] - r["memory_at_import"]
    ratio = engines[NUMPY]["memory_step"] / engines[TORCH]["memory_step"]
    assert engines[NUMPY]["memory_ratio"] == {"to": TORCH, "ratio": ratio}
    assert "ratio to torch" in capsys.readouterr().out


def test_scaling(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [
        "--backends=numpy",
        "--without-torch",
        "--images",
        "8",
        "4",
        "--side",
        "--width",
        "4",
        "8",
        "--plot",
        *ONCE,
    ]
    report = run(scaling.main, tmp_path / "curves.json", "lstm", *flags)
    curves = report["scaling"]["lstm"]["curves"]
    assert list(curves) == ["images", "width"]  # the side was left out
    assert curves["images"]["values"] == [4, 8] and curves["width"]["values"] == [4, 8]
    assert [point["size"]["width"] for point in curves["images"]["points"]] == [128, 128]
    costs = curves["images"]["costs"]
    assert list(costs) == ["operations", NUMPY]
    assert costs["operations"]["exponent"] == pytest.approx(1)
    assert costs[NUMPY]["cost"] == [point["engines"][NUMPY]["median"] for point in curves["images"]["points"]]
    assert all(len(cost["cost"]) == 2 for cost in costs.values())
    assert (tmp_path / "curves_lstm.png").stat().st_size > 1000
    assert "exponent" in capsys.readouterr().out


def test_the_exponent_of_a_power_law() -> None:
    x = [1, 2, 4, 8]
    exact = scaling.power_law(x, [3 * v**1.5 for v in x])
    assert exact == pytest.approx({"exponent": 1.5, "factor": 3, "off": 1})
    noisy = scaling.power_law(x, [v**2 * e for v, e in zip(x, (1.1, 1 / 1.1, 1 / 1.1, 1.1), strict=True)])
    assert noisy["exponent"] == pytest.approx(2) and noisy["off"] == pytest.approx(1.1)


def test_values_to_scale_over() -> None:
    assert scaling.values_of("width", None, Size(width=64)) == [16, 32, 48, 64]
    assert scaling.values_of("width", [8, 4, 8], Size()) == [4, 8]
    assert scaling.values_of("width", [], Size()) == []
    with pytest.raises(ValueError, match="two different values"):
        scaling.values_of("width", [8, 8], Size())
    with pytest.raises(ValueError, match="nothing to measure"):
        scaling.main(["mlp", "--images", "--side", "--width"])


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_default_size_can_be_built(name: str) -> None:
    usual = WORKLOADS[name].size
    assert all(len(scaling.values_of(dimension, None, usual)) == 4 for dimension in scaling.FACTORS)
    assert name not in ("vit", "mae") or not any(side % 8 for side in scaling.values_of("side", None, usual))


@pytest.mark.parametrize("beside_torch", [False, pytest.param(True, marks=needs_torch)])
def test_ops(tmp_path: Path, capsys: pytest.CaptureFixture[str], beside_torch: bool) -> None:
    names = ["gelu", "matmul_square"] if beside_torch else ["max_pool2d", "gelu", "matmul_square"]
    flags = ["--backends=numpy", "--images=1", "--rounds=2", "--seconds=0.001"]
    report = run(ops.main, tmp_path / "ops.json", *names, *flags, *["--without-torch"] * (not beside_torch))
    expected = [NUMPY, TORCH] if beside_torch else [NUMPY]
    assert list(report["ops"]) == names and list(report["engines"]) == expected
    assert all(engine["peak_gflops"] > 0 and engine["facts"]["blas"] for engine in report["engines"].values())
    for name, result in report["ops"].items():
        assert list(result["engines"]) == expected
        engine = result["engines"][NUMPY]
        assert len(engine["seconds"]) == 2 and ("ratio" in engine) == beside_torch
        assert ("gflops" in engine) == (name == "matmul_square") == ("gbytes" not in engine)
    assert report["ops"]["gelu"]["inputs"] == [[1, 65, 768]]
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)


# -- choices ----------------------------------------------------------------------------------------------------------


def test_torch_can_be_left_out() -> None:
    assert settings.choose_engines(["numpy"], torch=False) == [NUMPY]


def test_the_second_layout_is_for_images() -> None:
    engines = [NUMPY, TORCH, "torch cpu channels_last"]
    assert settings.suited(engines, layout=True) == engines
    assert settings.suited(engines, layout=False) == engines[:2]


def test_the_faster_layout_counts() -> None:
    figures = {NUMPY: [4.0, 6.0], TORCH: [3.0, 3.0], "torch cpu channels_last": [2.0, 2.0]}
    results = {name: {"seconds": s} | harness.spread(s) for name, s in figures.items()}
    harness.add_ratios(results)
    expected = {"to": "torch cpu channels_last", "rounds": [2.0, 3.0], "median": 2.5, "min": 2.0, "max": 3.0}
    assert results[NUMPY]["ratio"] == expected


@pytest.mark.parametrize("keep_pin", [False, True])
def test_the_blas_pin_is_removed_unless_kept(monkeypatch: pytest.MonkeyPatch, keep_pin: bool) -> None:
    monkeypatch.setenv(harness.PIN, "Haswell")
    given = []

    class Recorded:
        def __init__(self, engine: str, environment: dict[str, str]) -> None:
            given.append(environment)

        def close(self) -> None:
            pass

    monkeypatch.setattr(harness, "Child", Recorded)
    with harness.children([NUMPY], keep_pin):
        pass
    expected = dict(os.environ)
    if not keep_pin:
        del expected[harness.PIN]
    assert given == [expected]


def test_an_engine_that_fails_is_named() -> None:
    with pytest.raises(RuntimeError, match="minissl abacus ended"):
        harness.measure("simclr", Size(4, 4), ["minissl abacus"], harness.Plan(1, 1, 0), False)


def test_the_command_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    __main__.main([])
    printed = capsys.readouterr().out
    assert all(name in printed for name in __main__.COMMANDS)
    with pytest.raises(SystemExit, match="choose one of"):
        __main__.main(["speed"])
    for command in __main__.COMMANDS:
        with pytest.raises(SystemExit, match="nothing; choose from"):
            __main__.main([command, "nothing"])
