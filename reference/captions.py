"""Captions of places: what their masks say covers the ground, in words, and the words as numbers.

"a satellite picture of crop and road and trees": the covers in order of their area, in one of a few templates. Some
captions also name the class, "highway with crop and road and trees".
"""

import re

import numpy as np

from minissl import evaluation
from minissl.data import DataSet
from minissl.data.scenes import COVERS
from reference.transfer import has_classes

TEMPLATES = ("a satellite picture of {}", "{} from above", "a place with {}")
LENGTH = 24  # words of a caption; those of longer ones are cut off
VISIBLE = 0.03  # a cover that has less of the image than this is not worth a word


def compose(data: DataSet, source: str, named: float, seed: int) -> np.ndarray:
    """A caption for each image: (N, LENGTH) numbers of words, 0 after the last. `named`: the part that names the class.

    source: the setting `data`, which decides what masks mean. Raises ValueError where there are no masks.
    """
    if "masks" not in data:
        raise ValueError(
            f"captions: data {data.name!r} have no array 'masks' (N, H, W), of which captions are composed; "
            "use scenes, or a stack with land-cover masks"
        )
    words, covers = vocabulary(source, data.classes), cover_names(source)
    tells = np.zeros(len(data), bool)
    if named and has_classes(data):
        tells[evaluation.label_fraction(data["labels"], named, seed)] = True
    templates = np.random.default_rng(seed).integers(0, len(TEMPLATES), len(data))
    found = []
    for i, mask in enumerate(data["masks"]):
        area = np.bincount(mask.ravel(), minlength=len(covers)) / mask.size
        order = np.argsort(-area, kind="stable")
        subject = " and ".join(covers[k] for k in order if area[k] >= VISIBLE)
        if tells[i]:
            subject = f"{plain(data.classes[data['labels'][i]])} with {subject}"
        found.append(encode(TEMPLATES[templates[i]].format(subject), words))
    return np.stack(found)


def vocabulary(source: str, classes: tuple[str, ...]) -> list[str]:
    """Every word that a caption can have; number 0 is no word."""
    text = " ".join([*TEMPLATES, "and with", *cover_names(source), *map(plain, classes)]).replace("{}", "")
    return ["", *sorted(set(text.split()))]


def encode(caption: str, words: list[str]) -> np.ndarray:
    """The numbers of a caption's words, (LENGTH,), with zeros at the end."""
    numbers = [words.index(word) for word in caption.split()][:LENGTH]
    return np.array(numbers + [0] * (LENGTH - len(numbers)))


def decode(caption: np.ndarray, words: list[str]) -> str:
    """The caption that numbers (LENGTH,) stand for."""
    return " ".join(words[number] for number in caption if number)


def cover_names(source: str) -> tuple[str, ...]:
    """What the numbers in a mask are called: their names in scenes, elsewhere themselves."""
    return COVERS if source == "scenes" else tuple(map(str, range(256)))


def plain(name: str) -> str:
    """A class name as words: "SeaLake" and "sea_lake" are "sea lake"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[_\W]+", " ", name).lower().strip()
