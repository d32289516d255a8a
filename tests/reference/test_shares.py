"""Every chapter makes views of a part of a batch as it makes them of the whole: see `minissl.random`."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from minissl import augment, backend, random
from minissl.data.scenes import BANDS
from reference import chapters
from reference.method import Inputs, Method, build

N = 8
CHAPTERS = [name for entries in chapters.chapters().values() for name, _ in entries]
CHANNELS = {"sar_optical": len(BANDS) + 2}
IN_ANOTHER_ORDER = {"rotation", "gan", "inpainting"}  # views whose first axis is turns, or draws of noise
OF_THE_BATCH = {"denoising"}  # noise whose size is the batch's own deviation


@pytest.fixture(autouse=True)
def as_one_process() -> Iterator[None]:
    yield
    random.share(0, 1)


def batch(side: int, channels: int) -> dict[str, np.ndarray]:
    """All that any chapter asks for."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, N, side, side, channels), np.uint8)
    return {
        "images": images[0],
        "other_season": images[1],
        "seasons": images.swapaxes(0, 1),
        "labels": np.arange(N),
        "captions": rng.integers(1, 5, (N, 12)),
        "spectra": rng.random((N, 12, channels), np.float32),
        "index": np.arange(N),
    }


def views(method: Method, rows: dict[str, np.ndarray], part: int, parts: int) -> list[np.ndarray]:
    random.share(part, parts)
    random.seed(7)
    n = N // parts
    own = {key: array[part * n : (part + 1) * n] for key, array in rows.items()}
    return [backend.to_host(view) for view in method.views(own, random.rows(n))]


@pytest.mark.parametrize("name", CHAPTERS)
def test_views_of_parts_are_those_of_the_batch(name: str) -> None:
    chapter = chapters.find(name)
    settings: Any = chapter.settings(batch_size=N)
    rows = batch(settings.image_size, CHANNELS.get(name, 3))
    statistics = augment.channel_statistics(rows["images"])
    method = build(chapter, settings, Inputs(rows["images"].shape[-1], *statistics, tuple("abcdefgh"), N))
    whole, *parts = (views(method, rows, *share) for share in ((0, 1), (0, 2), (1, 2)))
    for view, *halves in zip(whole, *parts, strict=True):
        if name in IN_ANOTHER_ORDER:
            assert sum(half.size for half in halves) == view.size
        elif name not in OF_THE_BATCH:
            np.testing.assert_allclose(np.concatenate(halves), view, atol=1e-5)
