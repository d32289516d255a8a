"""The one training loop: batches, steps, a progress bar, a line of metrics per epoch, and checkpoints to resume from.

All random numbers of a step come from (seed, epoch, batch), and a checkpoint holds every weight, average and momentum:
a run killed at any moment and resumed ends with the same bits as one that was never interrupted.
"""

import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from minissl import backend, checkpoint, optim, random
from minissl.data import DataSet, Loader
from minissl.nn import Module
from reference.method import Method
from reference.settings import Settings, save_form


class Interrupted(Exception):
    """Ctrl-C was pressed; everything up to the last finished step is saved."""


OPTIMIZERS = {"sgd": optim.SGD, "lars": optim.LARS, "adam": optim.Adam, "adamw": optim.AdamW}


def make_optimizer(method: Module, config: Settings) -> optim.Optimizer:
    groups = optim.decay_groups(method, config.weight_decay)
    return OPTIMIZERS[config.optimizer](groups, config.learning_rate)


class Progress:
    """Where training stands, as a checkpoint keeps it: epoch and batch to do next, this epoch's sums so far, and a line
    of metrics for every epoch done.
    """

    def __init__(self) -> None:
        self.epoch, self.batch = 0, 0
        self.sums: dict[str, float] = {}
        self.history: list[dict[str, float]] = []
        self.seconds, self.loading_seconds = 0.0, 0.0


def train(method: Method, data: DataSet, config: Settings, out: Path, name: str = "") -> Progress:
    """Train `method` on `data` for `config.epochs`, from the checkpoint in `out` if there is one.

    Writes `<name>checkpoint.safetensors` and `<name>metrics.jsonl` to `out`. Raises Interrupted after Ctrl-C.
    """
    loader = Loader(data, config.batch_size, config.seed, config.workers)
    optimizer = make_optimizer(method, config)
    file, metrics = out / f"{name}checkpoint.safetensors", out / f"{name}metrics.jsonl"
    progress = Progress()
    if file.is_file():
        progress = restore(file, method, optimizer)
    # A run killed between checkpoint and metrics has a line too few or too many; the checkpoint knows them all.
    metrics.write_text("".join(json.dumps(line) + "\n" for line in progress.history))
    batches, warmup = len(loader), min(config.warmup_epochs, config.epochs) * len(loader)
    method.train()

    with (
        interruptible() as interrupted,
        backend.current().training_run(),
        progress_bar(config, batches, progress) as bar,
    ):
        for epoch in range(progress.epoch, config.epochs):
            progress.epoch = epoch
            clock = time.perf_counter()
            for batch in islice(loader.epoch(epoch), progress.batch, None):
                if interrupted:
                    save(file, method, optimizer, progress, config)
                    raise Interrupted
                step = epoch * batches + progress.batch
                rng = random.seed(config.seed, epoch, progress.batch + 1)  # 0 would repeat the loader's numbers
                optimizer.learning_rate = config.learning_rate * optim.warmup_cosine(
                    step, batches * config.epochs, warmup
                )

                views = method.views(batch, rng)
                backend.current().synchronize()
                progress.loading_seconds += time.perf_counter() - clock
                logged = method.training_step(views, optimizer)
                check_finite(logged, f"epoch {epoch + 1}, step {progress.batch + 1} of {batches}")

                progress.seconds += time.perf_counter() - clock
                clock = time.perf_counter()
                for key, value in logged.items():
                    progress.sums[key] = progress.sums.get(key, 0.0) + value
                progress.batch += 1
                shown = {key: f"{value:.3f}" for key, value in logged.items()}
                bar.set_postfix(epoch=epoch + 1, **shown, refresh=False)
                bar.update(config.batch_size)
            means = {key: total / batches for key, total in progress.sums.items()}
            line = {"epoch": epoch + 1, **means, "learning_rate": optimizer.learning_rate, "seconds": progress.seconds}
            progress.history.append(line)
            progress.epoch, progress.batch, progress.sums = epoch + 1, 0, {}
            save(file, method, optimizer, progress, config)
            with metrics.open("a") as stream:
                stream.write(json.dumps(line) + "\n")
            if bar.disable:
                print(epoch_line(config, batches, progress, means), flush=True)
        if interrupted:
            raise Interrupted
    return progress


def check_finite(logged: dict[str, float], place: str) -> None:
    """Stop a run that has diverged, before a checkpoint holds its weights."""
    if not all(math.isfinite(value) for value in logged.values()):
        found = ", ".join(f"{key} = {value}" for key, value in logged.items())
        raise FloatingPointError(f"{place}: {found}; start a new run with a lower --learning-rate")


def save(file: Path, method: Method, optimizer: optim.Optimizer, progress: Progress, config: Settings) -> None:
    """Everything that the rest of the run depends on, in one file."""
    arrays = {f"method.{key}": array for key, array in method.state_dict().items()}
    arrays |= {f"optimizer.{key}": array for key, array in optimizer.state_dict().items()}
    inputs = vars(method.inputs)
    state = {
        "progress": vars(progress),
        "optimizer_steps": optimizer.steps,
        "inputs": inputs,
        "config": save_form(config),
    }
    checkpoint.save(file, arrays, state)


def restore(file: Path, method: Method, optimizer: optim.Optimizer) -> Progress:
    """Put a checkpoint's weights and momentum back, and return where it stood."""
    arrays, state = checkpoint.load(file)
    inputs = vars(method.inputs)
    if state["inputs"] | {"classes": tuple(state["inputs"]["classes"])} != inputs:
        raise ValueError(f"{str(file)!r} was trained on other data: {state['inputs']}, now {inputs}; start a new run")
    part = lambda prefix: {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}
    method.load_state_dict(part("method."))
    optimizer.load_state_dict(part("optimizer."), state["optimizer_steps"])
    progress = Progress()
    vars(progress).update(state["progress"])
    return progress


def read_metrics(metrics: Path) -> dict[str, list[Any]]:
    """The lines of metrics.jsonl as columns."""
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    return {key: [row[key] for row in rows] for key in rows[0]} if rows else {}


def progress_bar(config: Settings, batches: int, progress: Progress) -> tqdm:
    """A bar on a terminal; elsewhere (`disable` is true then) `epoch_line` takes its place."""
    done = (progress.epoch * batches + progress.batch) * config.batch_size
    return tqdm(
        total=config.epochs * batches * config.batch_size, initial=done, unit=" images", unit_scale=True, disable=None
    )


def epoch_line(config: Settings, batches: int, progress: Progress, means: dict[str, float]) -> str:
    """What a log keeps of an epoch."""
    rate = progress.epoch * batches * config.batch_size / progress.seconds
    left = tqdm.format_interval(progress.seconds / progress.epoch * (config.epochs - progress.epoch))
    values = "".join(f"  {key} {value:.3f}" for key, value in means.items())
    return f"epoch {progress.epoch}/{config.epochs}{values}  {rate:.0f} images/s  {left} left"


@contextmanager
def interruptible() -> Iterator[list[bool]]:
    """A list that is empty until Ctrl-C, so that a step is never cut in half. Ctrl-C again ends at once."""
    pressed: list[bool] = []

    def note(number: int, frame: Any) -> None:
        pressed.append(True)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
