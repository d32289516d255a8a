"""The one training loop: batches, steps, a progress bar, a line of metrics per epoch, and checkpoints to resume from.

All random numbers of a step come from (seed, epoch, batch), and a checkpoint holds every weight, average and momentum:
a run killed at any moment and resumed ends with the same bits as one that was never interrupted. Several processes
(`minissl.parallel`) share every batch, and step along the mean of their gradients.
"""

import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from minissl import backend, checkpoint, nn, optim, parallel, random
from minissl.data import DataSet, Loader
from minissl.tensor import debug_nan
from reference.chapters import find
from reference.method import Inputs, Method, build
from reference.settings import Settings, resumed, save_form

CHECKPOINT = "checkpoint.safetensors"
COLLAPSED = 0.1  # deviation of embeddings, of 1, below which a run is warned


class Interrupted(Exception):
    """Ctrl-C was pressed; everything up to the last finished step is saved."""


OPTIMIZERS = {"sgd": optim.SGD, "lars": optim.LARS, "adam": optim.Adam, "adamw": optim.AdamW}


def make_optimizer(method: Method, config: Settings) -> optim.Optimizer:
    groups = optim.decay_groups(method, config.weight_decay)
    return OPTIMIZERS[config.optimizer](groups, config.learning_rate, **method.optimizer_options)


class Progress:
    """Where training stands, as a checkpoint keeps it: the epoch and batch to do next, this epoch's sums so far, and a
    line of metrics for every epoch done.
    """

    def __init__(self) -> None:
        self.epoch, self.batch = 0, 0
        self.sums: dict[str, float] = {}
        self.history: list[dict[str, float]] = []
        self.seconds, self.loading_seconds = 0.0, 0.0

    def add_step(self, logged: dict[str, float], loading: float, computing: float) -> None:
        for key, value in logged.items():
            self.sums[key] = self.sums.get(key, 0.0) + value
        self.batch += 1
        self.loading_seconds += loading
        self.seconds += loading + computing

    def close_epoch(self, learning_rate: float) -> dict[str, float]:
        """Means over the epoch's batches, as a line of metrics; the next epoch begins."""
        means = {key: total / self.batch for key, total in self.sums.items()}
        line = {"epoch": self.epoch + 1, **means, "learning_rate": learning_rate, "seconds": self.seconds}
        self.history.append(line)
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, {}
        return line


def train(method: Method, data: DataSet, config: Settings, out: Path, name: str = "") -> Progress:
    """Train `method` on `data` for `config.epochs`, from the checkpoint in `out` if there is one.

    Writes `<name>checkpoint.safetensors` and `<name>metrics.jsonl` to `out`. Raises Interrupted after Ctrl-C.
    """
    world = parallel.world()
    loader = Loader(data, config.batch_size, config.seed, config.workers, part=(world.rank, world.size))
    nn.synchronize(method, config.sync_bn)
    optimizer = make_optimizer(method, config)
    optimizer.before_step = lambda: average_over_ranks(method)
    file, metrics = out / f"{name}checkpoint.safetensors", out / f"{name}metrics.jsonl"
    progress = restore(file, method, optimizer) if file.is_file() else Progress()
    # A run killed between checkpoint and metrics has a line too few or too many; the checkpoint knows them all.
    metrics.write_text("".join(json.dumps(line) + "\n" for line in progress.history))
    batches = len(loader)
    method.before_training(data, out)
    method.train()
    stop = False

    with (
        interruptible() as interrupted,
        backend.current().training_run(),
        debug_nan() if config.debug_nan else nullcontext(),
        progress_bar(config, batches, progress) as bar,
    ):
        while progress.epoch < config.epochs:
            method.start_epoch(progress.epoch)
            clock = time.perf_counter()
            for batch in islice(loader.epoch(progress.epoch), progress.batch, None):
                if stop:
                    save(file, method, optimizer, progress, config)
                    raise Interrupted
                random.seed(config.seed, progress.epoch, progress.batch + 1)  # 0 is the loader's
                optimizer.learning_rate = learning_rate(config, progress, batches)

                views = method.views(batch, random.rows(config.batch_size // world.size))
                backend.current().synchronize()
                loaded = time.perf_counter()
                logged, stop = agreed(method.training_step(views, optimizer), bool(interrupted))
                finished = time.perf_counter()

                check_finite(logged, f"epoch {progress.epoch + 1}, step {progress.batch + 1} of {batches}")
                progress.add_step(logged, loading=loaded - clock, computing=finished - loaded)
                clock = finished
                shown = {key: f"{value:.3f}" for key, value in logged.items()}
                bar.set_postfix(epoch=progress.epoch + 1, **shown, refresh=False)
                bar.update(config.batch_size)
            line = progress.close_epoch(optimizer.learning_rate)
            save(file, method, optimizer, progress, config)
            with metrics.open("a") as stream:
                stream.write(json.dumps(line) + "\n")
            warn_of_collapse(line)
            method.end_epoch(progress.epoch - 1, out)
            if bar.disable:
                print(epoch_line(config, batches, progress), flush=True)
        if agreed({}, bool(interrupted))[1]:
            raise Interrupted
    return progress


def average_over_ranks(method: Method) -> None:
    """Gradients become the mean of all ranks', and so do averages of batch norm that saw a part of the batch."""
    if parallel.world().size == 1:
        return
    learned = [parameter for parameter in method.parameters() if parameter.grad is not None]
    norms = [m for m in method.modules() if isinstance(m, nn.BatchNorm) and not m.synchronized]
    running = [average for norm in norms for average in (norm.running_mean, norm.running_var)]
    means = iter(parallel.mean([p.grad for p in learned] + [average.data for average in running]))
    for parameter in learned:
        parameter.grad = next(means)
    for average in running:
        average.data = next(means)


def agreed(logged: dict[str, float], interrupted: bool) -> tuple[dict[str, float], bool]:
    """What all ranks log, the mean, and whether any was interrupted: they stop after the same step."""
    [means] = parallel.mean([np.array([*logged.values(), interrupted], np.float64)])
    return dict(zip(logged, means[:-1].tolist(), strict=True)), bool(means[-1] > 0)


def learning_rate(config: Settings, progress: Progress, batches: int) -> float:
    """Linear warm-up, then half a cosine down to 0 at the end of training."""
    step, warmup = progress.epoch * batches + progress.batch, min(config.warmup_epochs, config.epochs) * batches
    return config.learning_rate * optim.warmup_cosine(step, config.epochs * batches, warmup)


def check_finite(logged: dict[str, float], place: str) -> None:
    """Stop a run that has diverged, before a checkpoint holds its weights."""
    if not all(math.isfinite(value) for value in logged.values()):
        found = ", ".join(f"{key} = {value}" for key, value in logged.items())
        raise FloatingPointError(f"{place}: {found}; --debug-nan names the operation, a lower --learning-rate may help")


def warn_of_collapse(line: dict[str, float]) -> None:
    """Say so when an epoch's embeddings, if the method logs them (`evaluation.spread`), were nearly all the same."""
    if line.get("std", 1.0) < COLLAPSED:
        tqdm.write(
            f"epoch {line['epoch']}: the embeddings have collapsed: std {line['std']:.3f} (1 is spread evenly, 0 one "
            f"point), mean cosine of different images {line['cosine']:.3f}"
        )


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
    inputs, saved = vars(method.inputs), saved_inputs(state)
    if inputs | saved != inputs:
        raise ValueError(f"{str(file)!r} was trained on other data: {state['inputs']}, now {inputs}; start a new run")
    method.load_state_dict(within(arrays, "method."))
    optimizer.load_state_dict(within(arrays, "optimizer."), state["optimizer_steps"])
    progress = Progress()
    vars(progress).update(state["progress"])
    return progress


def load_run(path: Path) -> tuple[str, Method, Progress]:
    """A run's chapter, its method with the weights of its checkpoint, and where training stood.

    path: the folder of the run, or its checkpoint.safetensors. Raises ValueError when there is no such run, or nothing
    of it is trained yet.
    """
    folder = path.parent if path.name == CHECKPOINT else path
    if not (folder / "config.json").is_file():
        raise ValueError(f"expected the folder of a run, with config.json, or its {CHECKPOINT}, got {str(path)!r}")
    name = json.loads((folder / "config.json").read_text()).get("chapter")
    chapter = find(name)
    config = resumed(replace(chapter.settings(), resume=folder), set(), name)
    if not (folder / CHECKPOINT).is_file():
        raise ValueError(
            f"{str(folder)!r} holds a run without {CHECKPOINT}: not one epoch is done; "
            f"continue it with python -m reference {name} --resume {folder}"
        )
    arrays, state = checkpoint.load(folder / CHECKPOINT)
    method = build(chapter, config, Inputs(**saved_inputs(state)))
    method.load_state_dict(within(arrays, "method."))
    progress = Progress()
    vars(progress).update(state["progress"])
    return name, method, progress


def saved_inputs(state: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint's state says of the data, as `Inputs` has it: JSON turns tuples into lists."""
    return {key: tuple(value) if key in ("classes", "tags") else value for key, value in state["inputs"].items()}


def within(arrays: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The arrays whose names start with `prefix`, by what follows it."""
    return {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}


def read_metrics(metrics: Path) -> dict[str, list[Any]]:
    """The lines of metrics.jsonl as columns, NaN where a line lacks what others have."""
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    return {key: [row.get(key, math.nan) for row in rows] for row in rows for key in row}


def progress_bar(config: Settings, batches: int, progress: Progress) -> tqdm:
    """A bar on a terminal; elsewhere (`disable` is true then) `epoch_line` takes its place."""
    done = (progress.epoch * batches + progress.batch) * config.batch_size
    return tqdm(
        total=config.epochs * batches * config.batch_size, initial=done, unit=" images", unit_scale=True, disable=None
    )


def epoch_line(config: Settings, batches: int, progress: Progress) -> str:
    """What a log keeps of an epoch."""
    rate = progress.epoch * batches * config.batch_size / progress.seconds
    left = tqdm.format_interval(progress.seconds / progress.epoch * (config.epochs - progress.epoch))
    values = {k: v for k, v in progress.history[-1].items() if k not in ("epoch", "learning_rate", "seconds")}
    shown = "".join(f"  {key} {value:.3f}" for key, value in values.items())
    return f"epoch {progress.epoch}/{config.epochs}{shown}  {rate:.0f} images/s  {left} left"


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
