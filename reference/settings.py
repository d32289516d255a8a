"""The settings that every chapter shares. Each becomes a flag of the command and a line of its --help."""

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

DEFAULT_BACKEND: Any = os.environ.get("MINISSL_BACKEND", "numpy")


@dataclass(kw_only=True)
class Settings:
    """What a run is made of. A chapter's Config adds its own fields and changes defaults."""

    # Images to learn from: "scenes" (generated), "eurosat" (downloaded), or a path to class folders or a stack
    data: str = "scenes"
    # How many scenes to generate; other data come as they are
    scenes: int = 2000
    # Side of an image in pixels; folders are resized to it, scenes generated at it
    image_size: int = 64
    # What --data holds, where its names do not tell: images, stack, series, eurosat, bigearthnet, sen12ms or seco
    layout: str | None = None
    # Options of its reader, as JSON: {"names": {"images": "s2"}, "scale": 10000}
    options: str = "{}"
    # Leave out files that cannot be used, and list them, instead of stopping
    skip_bad_files: bool = False
    # Where arrays live: NumPy on the CPU or CuPy on a GPU; MINISSL_BACKEND sets the default
    backend: Literal["numpy", "cupy"] = DEFAULT_BACKEND
    # How often every training image is seen
    epochs: int = 15
    # Images in a step
    batch_size: int = 64
    # Update rule
    optimizer: Literal["sgd", "lars", "adam", "adamw"] = "sgd"
    # Peak of the learning rate, reached after the warm-up; then half a cosine down to 0
    learning_rate: float = 0.1
    # Epochs of linear warm-up
    warmup_epochs: int = 1
    # L2 penalty on matrices and kernels (biases and norm layers have none)
    weight_decay: float = 1e-4
    # Decides initial weights, order and augmentations; the same seed gives the same run
    seed: int = 0
    # Compare with the same encoder untrained, and trained on the labels
    baselines: bool = True
    # Linear probes of every stage of the encoder, too: a minute or more
    layer_probes: bool = False
    # Fine-tune encoder and classifier in the end, on these parts of the labels, such as 0.01 0.1 1.0
    labels: tuple[float, ...] = ()
    # What probes and fine-tuning are scored by: accuracy of an image's class, mean average precision of several labels
    scores: tuple[Literal["accuracy", "mAP"], ...] = ("accuracy",)
    # Learn segmentation in the end, from the land-cover masks of these parts of the images, such as 0.1 1.0
    segment: tuple[float, ...] = ()
    # What of the encoder stands still in fine-tuning and segmentation: none, all, or all up to and including a stage
    freeze: str = "none"
    # Epochs of fine-tuning and of segmentation, each as long as with all labels
    fine_tune_epochs: int = 10
    # Peak of the learning rate of fine-tuning and of segmentation, by AdamW for every chapter
    fine_tune_rate: float = 1e-3
    # Under mpiexec: batch norm has the statistics of the whole batch, as in one process; otherwise of each one's part
    sync_bn: bool = True
    # Threads that read data ahead
    workers: int = 1
    # Stop at the first operation that gives NaN or infinity, and name it (slow)
    debug_nan: bool = False
    # Folder for what the run leaves; by default runs/<chapter>/<time>
    out: Path | None = None
    # Folder of an interrupted run to continue; its own settings are used
    resume: Path | None = None

    def __post_init__(self) -> None:
        for key, value in vars(self).items():
            least = 1 if isinstance(value, int) and key not in MAY_BE_ZERO else 0
            if isinstance(value, int | float) and not isinstance(value, bool) and not value >= least:
                raise ValueError(f"--{key.replace('_', '-')}: expected at least {least}, got {value}")
        for key in ("labels", "segment"):
            if not all(0 < part <= 1 for part in getattr(self, key)):
                raise ValueError(f"--{key}: expected parts above 0 and at most 1, got {getattr(self, key)}")
        options_of(self.options)


def options_of(text: str) -> dict[str, Any]:
    """The setting `options` as a dict; raises ValueError where it is none."""
    try:
        options = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f'--options: expected JSON, such as {{"scale": 10000}}, got {text!r} ({error})') from error
    if not isinstance(options, dict):
        raise ValueError(f'--options: expected names and values, such as {{"scale": 10000}}, got {text!r}')
    return options


MAY_BE_ZERO = {"warmup_epochs", "seed", "workers"}
# These change nothing in the result, and those nothing in the training: a resumed run may have others.
FREE_ON_RESUME = {"resume", "out", "workers", "debug_nan"}
ASKED_AFTERWARDS = {"baselines", "layer_probes", "labels", "scores", "segment", "freeze"}


def save_form(settings: Settings) -> dict[str, Any]:
    """The settings as JSON holds them, without those that only say where and how to run."""
    values = {key: value for key, value in dataclasses.asdict(settings).items() if key not in FREE_ON_RESUME}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def resumed(settings: Settings, given: set[str], chapter: str) -> Settings:
    """The settings of the run of `chapter` in `settings.resume`, to continue it exactly.

    given: the fields that the user set on the command line. Raises ValueError when one contradicts the run, since a
    run continued under other settings would be neither the old one nor a new one. Only what is measured after training
    may be asked for anew.
    """
    folder = Path(settings.resume)  # type: ignore[arg-type]
    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(f"--resume: expected the folder of an earlier run, with config.json, got {str(folder)!r}")
    saved = json.loads(file.read_text())
    if saved.get("chapter") != chapter:
        raise ValueError(f"--resume: {str(folder)!r} holds a run of {saved.get('chapter')!r}, not of {chapter!r}")
    if "out" in given:
        raise ValueError(f"--resume continues in {str(folder)!r} itself; leave --out out")
    new = save_form(settings)
    for key in sorted(given - FREE_ON_RESUME - ASKED_AFTERWARDS):
        if new[key] != saved.get(key):
            raise ValueError(
                f"--resume continues {str(folder)!r} as it was, with {key} = {saved.get(key)!r}, "
                f"not {new[key]!r}; leave the flag out, or start a new run"
            )
    known = {field.name for field in dataclasses.fields(settings)}
    if unknown := set(saved) - {"chapter", *known}:
        raise ValueError(f"--resume: {str(file)!r} has settings that this version does not know: {sorted(unknown)}")
    values = {key: value for key, value in saved.items() if key in known - (given & ASKED_AFTERWARDS)}
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return dataclasses.replace(settings, **values, out=folder)
