"""What a finished run is worth: probes beside honest baselines, what fine-tuning gives, tables and pictures."""

from pathlib import Path
from typing import Any

import numpy as np

from minissl import augment, backend, evaluation, nn, random, viz
from minissl.data import DataSet
from minissl.evaluation import Labelled
from minissl.models import Backbone
from reference.method import Method, build
from reference.segmentation import cannot_segment, segment
from reference.settings import Settings
from reference.supervised import Supervised
from reference.trainer import read_metrics, train
from reference.transfer import SUFFIXES, features, fine_tune, labelled_rows, origin, percent, targets

ORIGINS = ("pretrained", "trained", "random", "pixels", "supervised")  # columns of the tables, where there are
PIXELS = 16  # side to which images are reduced when their raw pixels are the features


def evaluate(
    chapter: type[Method], method: Method, parts: dict[str, DataSet], config: Settings, out: Path
) -> dict[str, Any]:
    """All that is asked of a trained method: "probes", "layers", "fine_tuning" and "segmentation", where they apply.

    found["probes"]["linear"]["pretrained"]              and so of "knn", "linear, 10%", "linear, mAP"
    found["layers"]["layer1"]["pretrained"]              and of the "best" stage
    found["fine_tuning"]["10%"]["random"]
    found["segmentation"]["10%"]["mean IoU"]["random"]   and the "pixel accuracy"

    What trains here keeps checkpoints of its own in `out`: an interrupted evaluation, called again, goes on where it
    stood.
    """
    found: dict[str, Any] = {}
    if targets(parts["train"], config):
        encoders = origins(chapter, method, parts, config, out)
        found["probes"] = probes(encoders, method, parts, config, out)
        if config.layer_probes and isinstance(method.encoder, Backbone) and "linear" in found["probes"]:
            found["layers"] = layers(encoders, method, parts, found["probes"]["linear"]["pixels"], out)
        if config.labels:
            found["fine_tuning"] = fine_tune(chapter, method, parts, config, out)
    else:
        print("No labels, so no probes and no fine-tuning.")
    if config.segment:
        if reason := cannot_segment(method, parts):
            print(f"No segmentation: {reason}.")
        else:
            found["segmentation"] = segment(chapter, method, parts, config, out)
    return found


def origins(
    chapter: type[Method], method: Method, parts: dict[str, DataSet], config: Settings, out: Path
) -> dict[str, nn.Module]:
    """The encoders to compare: this run's, and as `config.baselines` two more.

    pretrained: this run's.  random: the same untrained.  supervised: the same, trained on the training labels for as
    many epochs. A chapter that learns from labels itself has "trained" in the place of the first and the last.
    """
    encoders = {origin(method): method.encoder}
    if config.baselines:
        encoders["random"] = build(chapter, config, method.inputs).encoder
    if config.baselines and not method.learns_from_labels:
        encoder = build(chapter, config, method.inputs).encoder
        target = targets(parts["train"], config)[0]
        classifier = Supervised(config, method.inputs, encoder, features(method, parts), target)
        print("The same encoder on the labels, for comparison:")
        train(classifier, parts["train"], config, out, "supervised_")
        encoders["supervised"] = encoder
    return encoders


def probes(
    encoders: dict[str, nn.Module], method: Method, parts: dict[str, DataSet], config: Settings, out: Path
) -> dict[str, dict[str, float]]:
    """Test scores by probe and origin: linear probes, on all labels and on the parts of `config.labels`, and nearest
    neighbours (not of supervised features).

    Beside the encoders stand "pixels", the images themselves at 16x16.
    """
    rows = {"pixels": [raw_pixels(part["images"]) for part in parts.values()]}
    for name, encoder in encoders.items():
        rows[name] = [evaluation.extract(encoder, part["images"], method.prepare) for part in parts.values()]
    found: dict[str, dict[str, float]] = {}
    own, k = origin(method), min(20, len(parts["train"]))
    for target in targets(parts["train"], config):
        labelled = {
            name: [Labelled(x, part[target]) for x, part in zip(rows[name], parts.values(), strict=True)]
            for name in ORIGINS
            if name in rows
        }
        linear = lambda train, validation, test: evaluation.linear_probe(train, validation, test).score
        found["linear" + SUFFIXES[target]] = {name: linear(*three) for name, three in labelled.items()}
        for fraction in sorted(set(config.labels) - {1.0}):
            some = labelled_rows(parts["train"], fraction, config.seed)
            found[f"linear, {percent(fraction)}{SUFFIXES[target]}"] = {
                name: linear(Labelled(train.x[some], train.y[some]), validation, test)
                for name, (train, validation, test) in labelled.items()
            }
        if target == "labels":
            found["knn"] = {n: evaluation.knn(a, c, k) for n, (a, _, c) in labelled.items() if n != "supervised"}
            x, y = labelled[own][2]
            title = f"Test images in the {own} encoder's features"
            viz.embedding_plot(x, y, method.inputs.classes, out / "embedding.png", title)
    return found


def layers(
    encoders: dict[str, nn.Module], method: Method, parts: dict[str, DataSet], pixels: float, out: Path
) -> dict[str, dict[str, float]]:
    """Test accuracy of a linear probe of every stage, by stage and origin, and a picture of it: `layers.png`.

    The last row, "best", is that of the stage which is best on the validation images.
    """
    train, validation, test = (Labelled(part["images"], part["labels"]) for part in parts.values())
    curves = {
        name: evaluation.layer_probes(encoder, train, validation, test, method.prepare)  # type: ignore[arg-type]
        for name, encoder in encoders.items()
    }
    stages = method.encoder.stages  # type: ignore[attr-defined]
    viz.curves(
        {name: [100 * curve[stage].score for stage in stages] for name, curve in curves.items()},
        out / "layers.png",
        "Linear probe of every stage, on test images",
        x="stage, from shallow to deep",
        x_names=stages,
        units=dict.fromkeys(curves, "accuracy, %"),
        references={"raw pixels": 100 * pixels},
    )
    found = {stage: {name: curve[stage].score for name, curve in curves.items()} for stage in stages}
    best = {name: max(curve.values(), key=lambda probe: probe.validation).score for name, curve in curves.items()}
    return found | {"best": best}


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


def tables(found: dict[str, Any]) -> str:
    """What `evaluate` found, as a person reads it."""
    segmentation = {
        f"{part} of masks, {name}": values
        for part, figures in found.get("segmentation", {}).items()
        for name, values in figures.items()
    }
    of_labels = lambda part: part.replace("%", "% of labels")  # "10%, mAP" is 10% of labels, mAP
    fine_tuning = {of_labels(part): values for part, values in found.get("fine_tuning", {}).items()}
    probes = found.get("probes", {})
    rows = {
        "score, %" if any("mAP" in name for name in probes) else "accuracy, %": probes,
        "linear probe, %": found.get("layers", {}),
        "fine-tuned, %": fine_tuning,
        "segmentation, %": segmentation,
    }
    return "\n\n".join(table(title, values) for title, values in rows.items() if values)


def table(title: str, rows: dict[str, dict[str, float]]) -> str:
    """Figures by row and origin, in per cent."""
    origins = list(next(iter(rows.values())))
    width = max(14, *(len(row) + 2 for row in (title, *rows)))
    lines = [f"{title:{width}}" + "".join(f"{origin:>12}" for origin in origins)]
    for row, values in rows.items():
        cells = (f"{100 * values[origin]:12.1f}" if origin in values else f"{'':>12}" for origin in origins)
        lines.append(f"{row:{width}}" + "".join(cells))
    return "\n".join(lines)


def curve(out: Path, chapter: str, references: dict[str, float]) -> None:
    """What was logged over the epochs, with the value that no learning would give."""
    history = read_metrics(out / "metrics.jsonl")
    columns = {key: values for key, values in history.items() if key not in ("epoch", "seconds", "learning_rate")}
    viz.curves(columns, out / "curve.png", f"Training: {chapter}", x_values=history["epoch"], references=references)


def examples(method: Method, data: DataSet, out: Path, count: int = 8) -> None:
    """What goes into the network: some images, each above its views."""
    batch = data.some(count).arrays
    shown = method.shown(method.views(batch, random.seed(method.config.seed)))
    rows = {"image": method.picture(backend.to_host(method.raw(batch))), **shown}
    viz.image_grid(
        [list(row) for row in rows.values()], out / "examples.png", list(rows), title="What the network sees"
    )
