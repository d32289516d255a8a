"""The training loop: progress on a screen, divergence, and the picture of the loss."""

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from minissl import augment, random, viz
from minissl.data import DataSet, scenes
from minissl.tensor import Tensor
from reference import report
from reference.contrastive.simclr import Config, SimCLR
from reference.method import Inputs
from reference.trainer import train

CONFIG = Config(batch_size=16, epochs=2, width=4, embedding=16, workers=0)  # two steps an epoch


@pytest.fixture(scope="module")
def data() -> DataSet:
    return scenes.generate(32, 16)


def make(data: DataSet, chapter: type[SimCLR] = SimCLR) -> SimCLR:
    random.seed(0)
    return chapter(CONFIG, Inputs(3, *augment.channel_statistics(data["images"]), data.classes))


def test_a_terminal_shows_epoch_loss_speed_and_remaining_time(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", terminal)
    train(make(data), data, CONFIG, tmp_path)
    last = terminal.getvalue().strip().split("\r")[-1]
    assert re.search(r"64\.0/64\.0 \[00:\d\d<00:00, .*images/s, .*epoch=2, loss=\d\.\d{3}, .*\]", last), last
    assert capsys.readouterr().out == ""  # the bar is enough


def test_a_log_gets_a_line_per_epoch_and_no_bar(
    data: DataSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(make(data), data, CONFIG, tmp_path)
    shown = capsys.readouterr()
    losses = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    lines = [
        rf"epoch {epoch}/2  loss {loss:.3f}  std.*uniformity \S+  \d+ images/s  \d\d:\d\d left\n"
        for epoch, loss in enumerate(losses, start=1)
    ]
    assert re.fullmatch("".join(lines), shown.out), shown.out
    assert shown.err == ""


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy notes on the way what it computes with
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(bad: float, data: DataSet, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    seen: list[bytes] = []

    class Diverging(SimCLR):
        def compare(self, z1: Tensor, z2: Tensor) -> Tensor:
            seen.append(checkpoint.read_bytes() if checkpoint.exists() else b"")
            return super().compare(z1, z2) * (bad if len(seen) == 4 else 1.0)

    with pytest.raises(FloatingPointError, match=rf"^epoch 2, step 2 of 2: loss = {bad}, .*--learning-rate"):
        train(make(data, Diverging), data, CONFIG, tmp_path)
    assert seen[0] == b"" and seen[3] and checkpoint.read_bytes() == seen[3]
    assert [json.loads(line)["epoch"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [1]


def test_the_curve_shows_the_loss_of_a_collapsed_encoder(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "loss": 3.5, "learning_rate": 0.1, "seconds": 2.0}\n')
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(viz, "curves", lambda history, *_, **options: drawn.update(history=history, **options))
    report.curve(tmp_path, "simclr", make(data).references)
    assert drawn["history"] == {"loss": [3.5]}
    [(name, value)] = drawn["references"].items()
    assert name.startswith("log(2N − 1)") and value == pytest.approx(math.log(31))
