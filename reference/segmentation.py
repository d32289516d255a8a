"""Land cover, pixel by pixel: what an encoder's maps know of places, where probes and fine-tuning ask for whole images.

A light decoder joins the maps of all stages of the encoder; both learn from masks, or the decoder alone where the
encoder is frozen. From pre-trained weights and from random ones, with the recipe of `reference.transfer`.
"""

from pathlib import Path
from typing import Any

import numpy as np

from minissl import augment, backend, evaluation, losses, models
from minissl.data import DataSet, evenly
from minissl.data.colours import land_colours
from minissl.data.loader import Batch
from minissl.data.scenes import COVERS
from minissl.models import Backbone
from minissl.tensor import Tensor
from reference.method import Inputs, Method
from reference.settings import Settings
from reference.supervised import Downstream
from reference.trainer import train
from reference.transfer import freezing, percent, recipe, repeated_fraction, starts

WIDTH = 32  # channels of the decoder
SHOWN = 6  # test images in the picture
NO_CLASS = 255  # in masks: pixels that are neither learned from nor counted


class Segmentation(Downstream):
    """Cross entropy of every pixel, with flips and quarter turns."""

    def __init__(
        self, config: Settings, inputs: Inputs, encoder: Backbone, covers: int, image: tuple[int, int, int]
    ) -> None:
        super().__init__(config, inputs)
        self.network = models.SegmentationDecoder(encoder, covers, image, WIDTH)

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[backend.Array, backend.Array]:
        xp = backend.current().xp
        masks = backend.to_device(batch["masks"])[..., None].astype("float32")
        both = xp.concatenate([self.raw(batch), masks], axis=3)  # (N, H, W, C + 1): a mask turns with its image
        both = augment.vertical_flip(augment.horizontal_flip(both, rng), rng)
        if both.shape[1] == both.shape[2]:
            both = augment.quarter_turns(both, rng)
        return self.standardize(both[..., :-1]), both[..., -1].astype("int64")

    def loss(self, views: tuple[Any, ...]) -> Tensor:
        images, masks = views
        logits = self.network(Tensor(images))  # (N, H, W, K)
        logits, masks = logits.reshape(-1, logits.shape[3]), masks.reshape(-1)
        known = masks != NO_CLASS
        return losses.cross_entropy(logits, masks) if known.all() else losses.cross_entropy(logits[known], masks[known])

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The cover (N, H, W) of each pixel of stored images."""

        def covers(x: Tensor) -> np.ndarray:
            return backend.to_host(self.network(x).data.argmax(axis=3))

        return np.concatenate(evaluation.by_batch(self.network, covers, images, self.prepare, 64))


def segment(
    chapter: type[Method], method: Method, parts: dict[str, DataSet], config: Settings, out: Path
) -> dict[str, dict[str, dict[str, float]]]:
    """Figures on the test images, by part of the masks (`config.segment`), then by name, then by first weights.

    `config.freeze` says what of the encoder stands still. Draws `segmentation_<per cent>.png`. A part that was trained
    before is read from its checkpoint. Raises ValueError where `cannot_segment` says why.
    """
    if reason := cannot_segment(method, parts):
        raise ValueError(f"segment: {reason}")
    names, test = covers(parts), parts["test"]
    known = test["masks"] != NO_CLASS
    _, H, W, C = test["images"].shape
    found: dict[str, dict[str, dict[str, float]]] = {}
    for fraction in sorted(config.segment):
        some = repeated_fraction(parts["train"], fraction, config.seed)
        predicted, confusions = {}, {}
        for start, encoder in starts(chapter, method, parts, config):
            settings = recipe(config, len(some))
            network = Segmentation(settings, method.inputs, encoder, len(names), (H, W, C))
            print(f"Segmentation from {percent(fraction)} of the masks, from {start} weights:")
            train(network, some, settings, out, f"masks_{100 * fraction:g}_{start}_{freezing(config)}")
            predicted[start] = network.predict(test["images"])
            confusions[start] = evaluation.confusion_matrix(test["masks"][known], predicted[start][known], len(names))
        found[percent(fraction)] = {
            "mean IoU": {start: evaluation.mean_iou(confusion) for start, confusion in confusions.items()},
            "pixel accuracy": {start: evaluation.accuracy(confusion) for start, confusion in confusions.items()},
        }
        held = {"none": "", "all": ", encoder frozen"}.get(config.freeze, f", encoder frozen up to {config.freeze}")
        title = f"Land cover of test images, from {percent(fraction)} of the masks{held}"
        pictures = method.picture(backend.to_host(method.raw(test.some(SHOWN).arrays)))
        path = out / f"segmentation_{100 * fraction:g}.png"
        draw(pictures, test["masks"], predicted, confusions, names, title, path)
    return found


def cannot_segment(method: Method, parts: dict[str, DataSet]) -> str | None:
    """Why there can be no segmentation, if so."""
    if not isinstance(method.encoder, Backbone):
        return f"this encoder, {type(method.encoder).__name__}, gives no maps"
    data = parts["train"]
    if "masks" not in data:
        return f"data {data.name!r} have no masks"
    if data["masks"].shape != data["images"].shape[:3]:
        return f"masks {data['masks'].shape[1:]} do not fit images {data['images'].shape[1:3]}"
    return None


def covers(parts: dict[str, DataSet]) -> tuple[str, ...]:
    """The names of the classes of pixels: the scenes' own, else their numbers up to the largest."""
    data = parts["train"]
    if data.name == "scenes" or data.tags == COVERS:
        return COVERS
    if data.tags and data.classes == data.tags:  # classes of places and of pixels are the same, as in SEN12MS
        return data.tags
    largest = max(int(part["masks"].max(initial=0, where=part["masks"] != NO_CLASS)) for part in parts.values())
    return tuple(map(str, range(1 + largest)))


def draw(
    pictures: np.ndarray,
    truth: np.ndarray,
    predicted: dict[str, np.ndarray],
    confusions: dict[str, np.ndarray],
    names: tuple[str, ...],
    title: str,
    path: Path,
) -> None:
    """Images, their true masks, and what was predicted from each first weights; the legend has every cover's IoU."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    colours = np.zeros((NO_CLASS + 1, 3))  # pixels without a class stay black
    colours[: len(names)] = land_colours(names) / 255
    shown = evenly(len(truth), SHOWN)
    painted = {f"from {start}\nweights": colours[masks[shown]] for start, masks in predicted.items()}
    rows = {"image": np.broadcast_to(pictures, (*pictures.shape[:3], 3)), "truth": colours[truth[shown]], **painted}
    figure = Figure(figsize=(1.5 * len(pictures) + 3.8, 1.5 * len(rows) + 0.6), layout="constrained")
    figure.suptitle(title, fontsize=13)
    grid = figure.subplots(len(rows), len(pictures), squeeze=False)
    for (name, images), axes in zip(rows.items(), grid, strict=True):
        axes[0].set_ylabel(name)
        for ax, image in zip(axes, images, strict=True):
            ax.imshow(image, interpolation="nearest")
            ax.set(xticks=[], yticks=[])

    each = np.array([100 * evaluation.iou(confusion) for confusion in confusions.values()]).T  # (K, starts)
    listed = [" / ".join(f"{value:.0f}" for value in values) for values in each]
    legend = [
        Patch(facecolor=tuple(colour), edgecolor="0.4", label=f"{name}: {values}")
        for name, colour, values in zip(names, colours, listed, strict=False)
    ]
    heading = "IoU, %\n" + " / ".join(confusions)
    figure.legend(handles=legend, loc="outside right center", frameon=False, title=heading)
    figure.savefig(path, dpi=120)
