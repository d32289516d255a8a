"""What a pre-trained encoder saves: labels. The same training on a part of them, from its weights and from random ones.

All chapters are fine-tuned alike, whatever they were pre-trained with: AdamW, batches of 64, warm-up, half a cosine. An
epoch is as long as with all labels, the few images being repeated (and augmented anew): few labels, but as many steps.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from minissl import backend, evaluation, parallel
from minissl.data import DataSet
from reference.method import Method, build
from reference.settings import Settings
from reference.supervised import Supervised, Target
from reference.trainer import train

BATCH, WEIGHT_DECAY = 64, 0.01
TARGETS: dict[str, Target] = {"accuracy": "labels", "mAP": "multi_labels"}
SUFFIXES: dict[Target, str] = {"labels": "", "multi_labels": ", mAP"}  # of the names of scores
Part = Literal["encoder", "foundation"]  # of a method


def fine_tune(
    chapter: type[Method], method: Method, parts: dict[str, DataSet], config: Settings, out: Path
) -> dict[str, dict[str, float]]:
    """Test scores of encoder and classifier, by part of the labels (`config.labels`) and then by first weights.

    found["10%"]["random"]        accuracy, and so of "10%, mAP" if `config.scores` asks for it

    `config.freeze` says what of the encoder stands still. A part that was trained before is read from its checkpoint.
    """
    found: dict[str, dict[str, float]] = {}
    for target in targets(parts["train"], config):
        for fraction in sorted(config.labels):
            for start, classifier in fine_tuned(chapter, method, parts, config, out, fraction, target):
                found.setdefault(percent(fraction) + SUFFIXES[target], {})[start] = score(classifier, parts["test"])
    return found


def fine_tuned(
    chapter: type[Method],
    method: Method,
    parts: dict[str, DataSet],
    config: Settings,
    out: Path,
    fraction: float,
    target: Target = "labels",
) -> Iterator[tuple[str, Supervised]]:
    """Encoder and classifier, trained on this part of the labels from this run's weights, then from random ones."""
    some = repeated_fraction(parts["train"], fraction, config.seed)
    for start, encoder in starts(chapter, method, parts, config, "foundation"):
        settings = recipe(config, len(some))
        classifier = Supervised(settings, method.inputs, encoder, features(method, parts, "foundation"), target)
        print(f"Fine-tuning on {percent(fraction)} of the {target.replace('_', '-')}, from {start} weights:")
        train(classifier, some, settings, out, f"{target}_{100 * fraction:g}_{start}_{freezing(config)}")
        yield start, classifier


def score(classifier: Supervised, test: DataSet) -> float:
    """The share of test images that get their own class; of several labels the mean average precision."""
    logits, truth = classifier.logits(test["images"]), test[classifier.target]
    if classifier.target == "labels":
        return float((logits.argmax(axis=1) == truth).mean())
    return evaluation.mean_average_precision(logits, truth)


def targets(data: DataSet, config: Settings) -> list[Target]:
    """What `config.scores` asks to predict, of what is there: without classes it is the labels."""
    if "mAP" in config.scores and "multi_labels" not in data:
        raise ValueError(f"--scores mAP: data {data.name!r} has no array 'multi_labels' (N, K) of 0 and 1")
    if has_classes(data):
        return [TARGETS[name] for name in config.scores]
    return ["multi_labels"] if "multi_labels" in data else []


def check(method: Method, config: Settings) -> None:
    """Raise ValueError, before anything is trained, for what cannot be asked of this method afterwards."""
    if config.freeze not in evaluation.freezable(method.encoder):
        known = ", ".join(evaluation.freezable(method.encoder))
        raise ValueError(f"--freeze: expected one of {known} for this encoder, got {config.freeze!r}")
    if config.labels and method.learns_from_labels:
        raise ValueError("--labels: this chapter learns from all labels itself, so there is nothing to fine-tune")


def starts(
    chapter: type[Method], method: Method, parts: dict[str, DataSet], config: Settings, part: Part = "encoder"
) -> Iterator[tuple[str, Any]]:
    """Copies of a method's part, partly frozen: with this run's weights, and with random ones if `config.baselines`.

    Random numbers start anew with each, so that what is put on top of them starts alike.
    """
    x = method.prepare(backend.to_device(parts["test"]["images"][:1]))
    for start in (origin(method), "random") if config.baselines else (origin(method),):
        encoder = getattr(build(chapter, config, method.inputs), part)
        if start != "random":
            encoder.load_state_dict(getattr(method, part).state_dict())
        evaluation.freeze(encoder, config.freeze, x)
        yield start, encoder


def features(method: Method, parts: dict[str, DataSet], part: Part = "encoder") -> int:
    """How many numbers a method's part makes of an image."""
    return evaluation.extract(getattr(method, part), parts["test"]["images"][:1], method.prepare).shape[1]


def origin(method: Method) -> str:
    """What the method's own weights are called in results."""
    return "trained" if method.learns_from_labels else "pretrained"


def recipe(config: Settings, count: int) -> Settings:
    """The settings of fine-tuning on an epoch of `count` images; ranks have equal parts of a batch."""
    ranks = parallel.world().size
    return Settings(
        backend=config.backend,
        epochs=config.fine_tune_epochs,
        batch_size=max(1, min(BATCH, count) // ranks) * ranks,
        optimizer="adamw",
        learning_rate=config.fine_tune_rate,
        weight_decay=WEIGHT_DECAY,
        seed=config.seed,
        sync_bn=config.sync_bn,
        workers=config.workers,
        debug_nan=config.debug_nan,
    )


def repeated_fraction(data: DataSet, fraction: float, seed: int) -> DataSet:
    """The rows of `labelled_rows`, repeated until they are as many as those of `data`."""
    return data.select(np.resize(labelled_rows(data, fraction, seed), len(data)))


def labelled_rows(data: DataSet, fraction: float, seed: int) -> np.ndarray:
    """Rows that are a part of every class, or of all rows, where there are no classes."""
    labels = data["labels"] if has_classes(data) else np.zeros(len(data), np.int64)
    return evaluation.label_fraction(labels, fraction, seed)


def has_classes(data: DataSet) -> bool:
    """Whether every image has one class."""
    return "labels" in data and data["labels"].ndim == 1


def percent(fraction: float) -> str:
    return f"{100 * fraction:g}%"


def freezing(config: Settings) -> str:
    """The part of a checkpoint's name that tells what was frozen."""
    return "" if config.freeze == "none" else f"frozen_{config.freeze}_"
