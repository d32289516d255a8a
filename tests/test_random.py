"""Draws of a batch that is shared out: each part has its rows of what one process would draw."""

from typing import Any

import numpy as np
import pytest

from minissl import augment, random

N, PARTS = 4, 3  # images of a part, parts
DRAWS = {
    "random": lambda rng, n: rng.random(n),
    "random, float32": lambda rng, n: rng.random((n, 5), dtype="float32"),
    "several rows an image": lambda rng, n: rng.random((2 * n, 3)),
    "standard_normal": lambda rng, n: rng.standard_normal((n, 2, 2), "float32"),
    "uniform": lambda rng, n: rng.uniform(2, 3, (n, 10)),
    "integers": lambda rng, n: rng.integers(0, 7, (n, 2)),
    "integers from 0": lambda rng, n: rng.integers(7, size=n),
    "beta": lambda rng, n: rng.beta(0.5, 0.5, n),
    "permuted": lambda rng, n: rng.permuted(np.tile(np.arange(6), (n, 1)), axis=1),
}


def part(number: int, seed: int = 0) -> random.Rows:
    return random.Rows(np.random.default_rng(seed), N, number, PARTS)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())
def test_parts_joined_are_the_draw_for_the_whole_batch(draw: Any) -> None:
    whole = np.random.default_rng(0)
    parts = [part(i) for i in range(PARTS)]
    for _ in range(2):  # and they stand alike afterwards
        np.testing.assert_array_equal(np.concatenate([draw(rng, N) for rng in parts]), draw(whole, PARTS * N))
    assert len({random.whole(rng).integers(2**62) for rng in parts}) == 1


def test_an_order_of_the_own_images_is_one_of_them_all() -> None:
    orders = [part(i).permutation(N) for i in range(PARTS)]
    assert all(sorted(order) == list(range(N)) for order in orders)
    whole = np.random.default_rng(0).permutation(PARTS * N)
    for i, order in enumerate(orders):
        np.testing.assert_array_equal(order, [n - i * N for n in whole if n // N == i])


def test_numbers_of_some_images_do_not_hang_on_the_others() -> None:
    chosen = np.array([1, 3])
    some = random.Some(np.random.default_rng(0), N, chosen).random((2, 5))
    np.testing.assert_array_equal(some, np.random.default_rng(0).random((N, 5))[chosen])
    assert random.Some(np.random.default_rng(0), N, np.array([], int)).random(0).shape == (0,)


def test_what_belongs_to_no_image_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"random: expected a size; .* comes of random.whole"):
        part(0).random()
    with pytest.raises(ValueError, match=r"integers: expected numbers for 4 images on the first axis, got size \(2,\)"):
        part(0).integers(2**32, size=2)


def test_alone_there_is_but_the_plain_generator() -> None:
    rng = random.seed(3)
    assert random.rows(5) is rng and random.whole(rng) is rng
    assert random.seeded_like(rng, 4).integers(2**62) == np.random.default_rng(4).integers(2**62)


AUGMENTATIONS: dict[str, Any] = {
    "crop": augment.random_resized_crop,
    "flip": augment.horizontal_flip,
    "turn": augment.quarter_turns,
    "jitter": augment.color_jitter,
    "blur": augment.gaussian_blur,
    "tiles": lambda x, rng: augment.cut_tiles(x, rng, 2, 2, 1),
    "noise": lambda x, rng: augment.corrupt(x, rng, "masking", 0.5),
    "policy": lambda x, rng: augment.apply_policy(x, augment.random_policy(np.random.default_rng(1)), rng),
    "cutout": lambda x, rng: augment.apply_policy(x, [[("cutout", 0.5, 9), ("crop", 0.5, 5)]], rng),
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations_of_parts_are_those_of_the_batch(name: str) -> None:
    images = np.random.default_rng(1).random((PARTS * N, 12, 12, 3), dtype=np.float32)
    whole = AUGMENTATIONS[name](images, np.random.default_rng(0))
    parts = [AUGMENTATIONS[name](x, part(i)) for i, x in enumerate(np.split(images, PARTS))]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)


def test_a_mixture_is_with_an_image_of_the_same_part() -> None:
    images = np.random.default_rng(1).random((N, 4, 4, 3), dtype=np.float32)
    mixed, partner, weight = augment.mixup(images, part(1))
    w = weight[:, None, None, None]
    np.testing.assert_allclose(mixed, w * images + (1 - w) * images[partner])
    assert sorted(partner) == list(range(N))
