"""Augmentation policies: a few recipes of two operations each, of which every image gets one, at random.

An operation has a probability and a magnitude from 0 to 10, so a whole policy is a short list of names and numbers that
can be searched for, kept as JSON and tried elsewhere:

    [[("crop", 0.8, 6), ("saturation", 0.5, 9)],  [("solarize", 0.2, 3), ("identity", 1.0, 0)],  ...]

AutoAugment looks for the policy with which a classifier gets furthest; SelfAugment does so without labels.

    operation       what it does                                              at magnitude 10
    identity        nothing
    brightness      x ← f x, f below or above 1 by a coin                     f = 0.1 or 1.9
    contrast        x ← m + f (x − m), m the image's mean grey                f = 0.1 or 1.9
    saturation      x ← g + f (x − g), g the pixel's grey                     f = 0.1 or 1.9
    blur            by a Gaussian of σ pixels                                 σ = 1.5
    solarize        inverts what is as bright as a threshold or brighter      the threshold is 0
    posterize       keeps some bits of 8                                      4 bits
    cutout          fills a square with the image's mean colour               its side is 0.6 of the image's
    crop            a box at a random place, enlarged to the whole image      it has 0.25 of the area
    grey            every channel becomes the grey value                      (no magnitude)
    flip            left to right                                             (no magnitude)
    quarter_turn    by 0, 90, 180 or 270 degrees                              (no magnitude)

At magnitude 0 an operation that has one does nothing. Differs from the paper: its shears, rotations by some degrees and
translations move an image's edge into it, and are left out; quarter turns and crops, which do not, are here instead.

(Cubuk et al., 2019, "AutoAugment: Learning Augmentation Strategies from Data"; the search space of random policies)
"""

from collections.abc import Callable, Sequence

from minissl import backend, random
from minissl.augment.arguments import Generator, checked
from minissl.augment.color import grayscale, grey_weights
from minissl.augment.color import solarize as solarize_some
from minissl.augment.filtering import gaussian_matrix, separable
from minissl.augment.geometry import horizontal_flip, quarter_turns, random_resized_crop
from minissl.augment.mixing import inside, random_boxes_cut_off
from minissl.backend import Array

Step = tuple[str, float, float]  # operation, probability, magnitude
Policy = Sequence[Sequence[Step]]

LARGEST = 10  # magnitude
Operation = Callable[[Array, float, Generator], Array]  # images (n, H, W, C), strength = magnitude / 10, generator


def apply_policy(images: Array, policy: Policy, rng: Generator) -> Array:
    """Each image (N, H, W, C) by one of the policy's sub-policies, drawn with equal chances: its two steps in order.

    A step is taken with its own probability. Raises ValueError for a policy that is none; see `check_policy`.
    """
    place, images = checked("apply_policy", images)
    check_policy(policy)
    N, result = len(images), images.copy()
    drawn = (rng.random(N) * len(policy)).astype(int)
    tosses = [rng.random(N) for _ in range(2)]
    for k, sub_policy in enumerate(policy):
        for toss, (name, probability, magnitude) in zip(tosses, sub_policy, strict=True):
            hit = ((drawn == k) & (toss < probability)).nonzero()[0]
            # Each step has numbers of its own, drawn for all images: they do not hang on how many were hit before.
            own = random.seeded_like(rng, int(random.whole(rng).integers(2**32)))
            if len(hit) and (magnitude or name in WITHOUT_MAGNITUDE):
                there = place.to_device(hit)
                step = OPERATIONS[name]
                result[there] = step(result[there], magnitude / LARGEST, random.Some(own, N, hit))
    return result


def random_policy(rng: Generator, sub_policies: int = 5) -> list[list[Step]]:
    """A policy from AutoAugment's search space: operations, probabilities 0, 0.1, ... 1, magnitudes 0, 1, ... 10."""
    if sub_policies < 1:
        raise ValueError(f"random_policy: expected at least 1 sub-policy, got {sub_policies}")
    names = list(OPERATIONS)

    def step() -> Step:
        return names[rng.integers(len(names))], int(rng.integers(11)) / 10, int(rng.integers(LARGEST + 1))

    return [[step(), step()] for _ in range(sub_policies)]


def check_policy(policy: Policy) -> None:
    """Raise ValueError unless the policy is one or more sub-policies of two steps (operation, probability, magnitude).

    Lists and tuples are the same, so that a policy may come from JSON.
    """
    if not policy:
        raise ValueError("apply_policy: expected at least one sub-policy, got none")
    for sub_policy in policy:
        if len(sub_policy) != 2 or any(len(step) != 3 for step in sub_policy):
            raise ValueError(
                "apply_policy: expected sub-policies of two steps (operation, probability, magnitude), "
                f"got {sub_policy!r}; fill up with ('identity', 1.0, 0)"
            )
        for name, probability, magnitude in sub_policy:
            if name not in OPERATIONS:
                raise ValueError(f"apply_policy: expected an operation among {', '.join(OPERATIONS)}, got {name!r}")
            if not 0 <= probability <= 1 or not 0 <= magnitude <= LARGEST:
                raise ValueError(
                    f"apply_policy: expected a probability from 0 to 1 and a magnitude from 0 to {LARGEST} for {name}, "
                    f"got {probability} and {magnitude}"
                )


def blend(images: Array, other: Array | float, strength: float, rng: Generator) -> Array:
    """other + f (x − other), f = 1 ± 0.9·strength by a coin for each image: away from `other`, or towards it."""
    xp = backend.of(images).xp
    sign = 2 * (rng.random(len(images)) < 0.5) - 1
    f = backend.of(images).to_device((1 + 0.9 * strength * sign).astype("float32"))[:, None, None, None]
    return xp.clip(other + f * (images - other), 0, 1)


def grey_values(images: Array) -> Array:
    """(n, H, W, 1)"""
    return (images @ grey_weights(backend.of(images), images.shape[-1]))[..., None]


def contrast(images: Array, strength: float, rng: Generator) -> Array:
    return blend(images, grey_values(images).mean(axis=(1, 2), keepdims=True), strength, rng)


def blur(images: Array, strength: float, rng: Generator) -> Array:
    xp = backend.of(images).xp
    sigma = xp.full(1, 1.5 * strength, xp.float32)
    rows, columns = (gaussian_matrix(sigma, side) for side in images.shape[1:3])
    return separable(rows, columns, images)


def posterize(images: Array, strength: float, rng: Generator) -> Array:
    levels = 2 ** (8 - round(4 * strength)) - 1
    return backend.of(images).xp.rint(images * levels) / levels


def cutout(images: Array, strength: float, rng: Generator) -> Array:
    """(DeVries and Taylor, 2017, "Improved Regularization of Convolutional Neural Networks with Cutout")"""
    place, (n, H, W, _) = backend.of(images), images.shape
    side = backend.get("numpy").xp.full(n, round(0.6 * strength * min(H, W)))
    box = random_boxes_cut_off(rng, side, side, H, W)
    return place.xp.where(inside(place, box, H, W), images.mean(axis=(1, 2), keepdims=True), images)


def crop(images: Array, strength: float, rng: Generator) -> Array:
    area = 1 - 0.75 * strength
    return random_resized_crop(images, rng, scale=(area, area))


OPERATIONS: dict[str, Operation] = {
    "identity": lambda x, strength, rng: x,
    "brightness": lambda x, strength, rng: blend(x, 0.0, strength, rng),
    "contrast": contrast,
    "saturation": lambda x, strength, rng: blend(x, grey_values(x), strength, rng),
    "blur": blur,
    "solarize": lambda x, strength, rng: solarize_some(x, rng, 1 - strength, 1.0),
    "posterize": posterize,
    "cutout": cutout,
    "crop": crop,
    "grey": lambda x, strength, rng: grayscale(x, rng, 1.0),
    "flip": lambda x, strength, rng: horizontal_flip(x, rng, 1.0),
    "quarter_turn": lambda x, strength, rng: quarter_turns(x, rng),
}
WITHOUT_MAGNITUDE = ("grey", "flip", "quarter_turn")
