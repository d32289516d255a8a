"""What a finished run is worth: probes beside honest baselines, pictures, and results.json."""

from pathlib import Path
from typing import Any

import numpy as np

from minissl import augment, backend, evaluation, random, viz
from minissl.data import DataSet
from minissl.evaluation import Labelled
from reference.method import Inputs, Method
from reference.settings import Settings
from reference.supervised import Supervised
from reference.trainer import read_metrics, train

PIXELS = 16  # side to which images are reduced when their raw pixels are the features


def probes(
    chapter: type[Method], method: Method, parts: dict[str, DataSet], config: Settings, out: Path
) -> dict[str, Any]:
    """Accuracy of a linear probe and of nearest neighbours, on features of four origins, all on the same test images.

    pretrained: this run's encoder.  random: the same encoder untrained.  pixels: the images themselves, at 16x16.
    supervised: the same encoder trained on the training labels for as many epochs (its linear probe only). A chapter
    that learns from labels itself has "trained" in the place of the first and the last.
    """

    def labelled(features: Any) -> list[Labelled]:
        return [Labelled(features(part["images"]), part["labels"]) for part in parts.values()]

    def under(encoder: Any) -> list[Labelled]:
        return labelled(lambda images: evaluation.extract(encoder, images, method.prepare))

    untrained = build(chapter, config, method.inputs)
    own = "trained" if method.learns_from_labels else "pretrained"
    features = {
        own: under(method.encoder),
        "random": under(untrained.encoder),
        "pixels": labelled(raw_pixels),
    }
    if not method.learns_from_labels:
        supervised = build(chapter, config, method.inputs)
        width = features[own][0].x.shape[1]
        classifier = Supervised(config, method.inputs, supervised.encoder, width)
        print("The same encoder on the labels, for comparison:")
        train(classifier, parts["train"], config, out, "supervised_")
        features["supervised"] = under(classifier.encoder)
    linear = {origin: evaluation.linear_probe(rows[0], rows[1], rows[2]).accuracy for origin, rows in features.items()}
    k = min(20, len(parts["train"]))
    knn = {origin: evaluation.knn(rows[0], rows[2], k) for origin, rows in features.items() if origin != "supervised"}
    test = features[own][2]
    title = f"Test images in the {own} encoder's features"
    viz.embedding_plot(test.x, test.y, method.inputs.classes, out / "embedding.png", title)
    return {"linear": linear, "knn": knn}


def build(chapter: type[Method], config: Settings, inputs: Inputs) -> Method:
    """The method as it starts: the seed alone decides its weights."""
    random.seed(config.seed)
    return chapter(config, inputs)


def raw_pixels(images: np.ndarray) -> np.ndarray:
    """Images (N, H, W, C) reduced to 16x16 pixels, and no side enlarged to it, as rows (N, 256·C)."""
    H, W = images.shape[1:3]
    return reduced(images, (min(H, PIXELS), min(W, PIXELS))).reshape(len(images), -1)


def reduced(images: np.ndarray, side: int | tuple[int, int]) -> np.ndarray:
    """Stored images (N, H, W, C) as float32 (N, side, side, C) on the host; or of the (height, width) `side`."""
    small = []
    for i in range(0, len(images), 512):
        full = augment.to_float(backend.to_device(images[i : i + 512]))
        resized = augment.resize(full, side).clip(full.min(), full.max())  # rounding may leave the range by 1e-7
        small.append(backend.to_host(resized))
    return np.concatenate(small)


def table(results: dict[str, Any]) -> str:
    """The probes as a person reads them, accuracies in per cent."""
    origins = list(results["linear"])
    lines = ["".join([f"{'accuracy, %':14}", *(f"{origin:>12}" for origin in origins)])]
    for probe, found in results.items():
        cells = (f"{100 * found[origin]:12.1f}" if origin in found else f"{'':>12}" for origin in origins)
        lines.append("".join([f"{probe:14}", *cells]))
    return "\n".join(lines)


def curve(out: Path, chapter: str, references: dict[str, float]) -> None:
    """What was logged over the epochs, with the value that no learning would give."""
    history = read_metrics(out / "metrics.jsonl")
    columns = {key: values for key, values in history.items() if key not in ("epoch", "seconds", "learning_rate")}
    viz.curves(columns, out / "curve.png", f"Training: {chapter}", x_values=history["epoch"], references=references)


def examples(method: Method, data: DataSet, out: Path, count: int = 8) -> None:
    """What goes into the network: some images, each above its views."""
    batch = {key: array[:count] for key, array in data.arrays.items()}
    shown = method.shown(method.views(batch, random.seed(method.config.seed)))
    rows = {"image": method.picture(backend.to_host(method.raw(batch))), **shown}
    viz.image_grid(
        [list(row) for row in rows.values()], out / "examples.png", list(rows), title="What the network sees"
    )
