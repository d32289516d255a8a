"""LSTM: a network that reads date after date of a season, and keeps in a state what it will need later.

At each step t the cell c forgets a part of itself, adds a part of what is new, and shows a part as the state h. What
part each time is decided by gates, which see the input and the state before:

    c_t = σ(f) c_{t−1} + σ(i) tanh(g)     h_t = σ(o) tanh(c_t)     (i, f, g, o) = x_t W + h_{t−1} U + b
    p = softmax(h_T V + b)     loss = −log p[label]

Here x_t is the spectrum of one place at one date, and the label its land cover; `examples.png` shows such years, a
stripe for each date. Notice in `dates.png` that no date alone tells the label (wheat, maize and meadow are all green
once, and a third of the dates are cloudy), that a bag of dates, which forgets their order, stops learning in spring,
and that the state passes both by midsummer: WHEN a place is green tells its crop. A linear classifier of all dates side
by side ("pixels" in the table) is no worse, 93% beside 90%: it knows the order too, since all years here begin on the
same day and none lacks a date. The cell is added to and not replaced, so that a gradient from December still reaches
March. On photographs (--sequence rows) the same network reads an image from top to bottom.

(Hochreiter and Schmidhuber, 1997, "Long Short-Term Memory"; on series of satellite images: Russwurm and Koerner, 2017,
"Temporal Vegetation Modelling using Long Short-Term Memory Networks")

Differs from the papers: a forget gate (Gers et al., 2000) that starts open, one layer, and generated series; clouds
are in the data as they come, and not masked.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from minissl import augment, backend, evaluation, models, viz
from minissl.data import DataSet, scenes
from minissl.data.loader import Batch
from minissl.data.scenes.render import BANDS, RED_GREEN_BLUE, true_colour
from minissl.tensor import Tensor, no_grad
from minissl.viz.curves import COLOURS
from reference.method import Inputs
from reference.settings import Settings
from reference.supervised import Supervised

RED, INFRARED = BANDS.index("B4"), BANDS.index("B8")


@dataclass(kw_only=True)
class Config(Settings):
    """The LSTM's settings."""

    # What a step is: a date of a pixel's season, or a row of an image; auto takes seasons for "scenes", else rows
    sequence: Literal["auto", "seasons", "rows"] = "auto"
    # Dates in a year, for generated seasons
    dates: int = 24
    # Side in pixels to which images are reduced before their rows are read
    side: int = 32
    # What carries the state: lstm, or the simpler rnn and gru
    cell: Literal["lstm", "rnn", "gru"] = "lstm"
    # Size of the state h
    hidden: int = 64
    # How many scenes to generate: for seasons, pixels, which cost little; other data come as they are
    scenes: int = 4000
    # How often every training image is seen
    epochs: int = 20
    # Update rule
    optimizer: Literal["sgd", "lars", "adam", "adamw"] = "adamw"
    # Peak of the learning rate, reached after the warm-up; then half a cosine down to 0
    learning_rate: float = 3e-3
    # L2 penalty on matrices and kernels (biases and norm layers have none)
    weight_decay: float = 0.01

    @property
    def seasons(self) -> bool:
        return self.sequence == "seasons" or (self.sequence == "auto" and self.data == "scenes")


class LSTM(Supervised):
    """The encoder gives the state after the last step, h_T, which alone the classifier reads."""

    settings = Config
    config: Config
    encoder: models.SequenceClassifier
    learns_from_labels = True

    def __init__(self, config: Config, inputs: Inputs) -> None:
        step = inputs.channels if config.seasons else config.side * inputs.channels
        encoder = models.SequenceClassifier(step, config.hidden, cell=config.cell)
        if config.cell == "lstm":  # b_f = 1: a cell keeps what it holds until training says otherwise
            encoder.recurrent.bias_ih_l0.data[config.hidden : 2 * config.hidden] = 1
        super().__init__(config, inputs, encoder, config.hidden)

    @classmethod
    def open_data(cls, config: Config) -> DataSet:
        if config.seasons and config.data == "scenes":
            return scenes.pixel_series(config.scenes, config.dates, config.seed)  # (N, T, 1, 13)
        return super().open_data(config)

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[backend.Array, backend.Array]:
        images = self.raw(batch)
        if not self.config.seasons:  # no turns and no vertical flips: they would change the order of the rows
            images = augment.horizontal_flip(augment.random_resized_crop(images, rng, scale=(0.5, 1.0)), rng)
        return self.standardize(images), backend.to_device(batch["labels"])

    def standardize(self, images: backend.Array) -> backend.Array:
        """Images (N, H, W, C), or seasons (N, T, 1, C), as sequences (N, T, D): D = W·C numbers at each step."""
        if not self.config.seasons:
            images = augment.resize(images, self.config.side)
        images = super().standardize(images)
        return images.reshape(*images.shape[:2], -1)

    def picture(self, images: np.ndarray) -> np.ndarray:
        """A season as stripes in true colour, one for each date from top to bottom."""
        if not self.config.seasons or images.shape[-1] != len(BANDS):
            return super().picture(images)
        return true_colour(np.repeat(images, images.shape[1], axis=2)[..., RED_GREEN_BLUE])  # (N, T, T, 3)

    def measure(self, parts: dict[str, DataSet], out: Path) -> dict[str, float]:
        if self.config.seasons and self.inputs.channels == len(BANDS):
            draw_seasons(parts["test"], out / "seasons.png")
        x, h = {}, {}  # by part: the sequences (N, T, D), and the state after every step (N, T, hidden)
        for name, part in parts.items():
            steps = self.prepare(backend.to_device(part["images"]))
            with no_grad():
                states = self.encoder.recurrent(Tensor(steps)).data
            x[name], h[name] = backend.to_host(steps), backend.to_host(states)

        def probe(features: Any) -> float:
            rows = (evaluation.Labelled(features(name), part["labels"]) for name, part in parts.items())
            train, validation, test = rows
            return 100 * evaluation.linear_probe(train, validation, test).score

        T, word = x["test"].shape[1], "date" if self.config.seasons else "row"
        seen = sorted({max(1, round(T * i / 8)) for i in range(1, 9)})
        found: dict[str, list[float]] = {
            f"state after {word} t": [probe(lambda name, t=t: h[name][:, t - 1]) for t in seen],
            f"bag of {word}s up to t: mean, deviation": [probe(lambda name, t=t: bag(x[name][:, :t])) for t in seen],
            f"{word} t alone": [probe(lambda name, t=t: x[name][:, t - 1]) for t in seen],
        }
        title = f"What is known after t {word}s: linear probes on the test set"
        viz.curves(found, out / f"{word}s.png", title, f"{word}s seen, t", seen, dict.fromkeys(found, "accuracy, %"))
        accuracy = float((self.predict(parts["test"]["images"]) == parts["test"]["labels"]).mean())
        last = {re.sub(r"\bt\b", str(T), name): values[-1] for name, values in found.items()}
        return {"classifier, accuracy in %": 100 * accuracy} | {f"probe, {name}": v for name, v in last.items()}


def bag(x: np.ndarray) -> np.ndarray:
    """Sequences (N, T, D) without their order: mean and deviation of each number, (N, 2D)."""
    return np.concatenate([x.mean(axis=1), x.std(axis=1)], axis=1)


def draw_seasons(test: DataSet, path: Path) -> None:
    """The vegetation index of each class over the year: its median, and where the middle half of the places lies."""
    from matplotlib.figure import Figure

    spectra = test["images"][:, :, 0]  # (N, T, 13)
    red, infrared = spectra[..., RED], spectra[..., INFRARED]
    index = (infrared - red) / np.maximum(infrared + red, 1e-6)  # (N, T)
    T = index.shape[1]
    month = (np.arange(T) + 0.5) * 12 / T
    figure = Figure(figsize=(10, 5.5), layout="constrained")
    figure.suptitle("A year of each land cover: NDVI = (B8 − B4)/(B8 + B4), median and middle half of the test places")
    panels = figure.subplots(2, -(-len(test.classes) // 2), sharex=True, sharey=True).ravel()
    for k, (panel, name) in enumerate(zip(panels, test.classes, strict=False)):
        low, middle, high = np.percentile(index[test["labels"] == k], (25, 50, 75), axis=0)
        panel.fill_between(month, low, high, color=COLOURS[k % len(COLOURS)], alpha=0.3, linewidth=0)
        panel.plot(month, middle, color=COLOURS[k % len(COLOURS)])
        panel.set_title(name)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("months since midwinter")
    figure.supylabel("NDVI, clouds included")
    figure.savefig(path, dpi=120)
