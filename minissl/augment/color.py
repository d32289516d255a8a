"""Colour jitter, grey and solarisation: what each pixel's value becomes."""

import math

from minissl.augment.arguments import Generator, change_some, checked, choose
from minissl.backend import Array, Backend

LUMA = (0.299, 0.587, 0.114)  # how bright red, green and blue look (ITU-R BT.601)

# pixel @ QUARTER_TURN: the pixel's grey removed, and its chroma (the I and Q of YIQ) turned by 90 degrees.
QUARTER_TURN = (
    (-0.1677237, 0.3281287, -1.2496680),
    (-0.3292770, -0.0355033, 1.0464410),
    (0.4970008, -0.2926254, 0.2032270),
)


def grey_weights(place: Backend, channels: int) -> Array:
    """The (C,) weights that make a pixel's grey value: luma for three channels, else their plain mean."""
    return place.xp.asarray(LUMA if channels == 3 else [1 / channels] * channels, place.xp.float32)


def color_jitter(
    images: Array,
    rng: Generator,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float | None = None,
    probability: float = 0.8,
) -> Array:
    """Change brightness, contrast, saturation and hue of some images (N, H, W, C), by numbers of their own (SimCLR).

    The factors b, c, s are uniform in [max(0, 1 - strength), 1 + strength]; the hue turns by up to ±`hue` of a full
    circle. Hue means something for RGB only: left out, it is 0.1 for three channels (taken for RGB) and 0 for others,
    where a turn asked for is a ValueError. Saturation is each channel's distance from the pixel's grey, for any C.

    Differs from torchvision: the order is fixed (as listed) where torchvision draws one; values are clipped to [0, 1]
    once, at the end; the hue turns about the grey axis in YIQ, which keeps a pixel's luma, and not in HSV.
    """
    place, images = checked("color_jitter", images)
    xp, (N, H, W, C) = place.xp, images.shape
    hue = hue if hue is not None else 0.1 if C == 3 else 0.0
    if hue and C != 3:
        raise ValueError(f"color_jitter: hue is defined for the 3 channels of RGB, got {C} channels; pass hue=0")
    if min(brightness, contrast, saturation, hue) < 0 or hue > 0.5:
        raise ValueError(
            "color_jitter: strengths must not be negative, nor hue above 0.5, got "
            f"brightness={brightness}, contrast={contrast}, saturation={saturation}, hue={hue}"
        )
    indices = choose("color_jitter", rng, N, probability)
    drawn = [rng.uniform(max(0, 1 - strength), 1 + strength, N) for strength in (brightness, contrast, saturation)]
    drawn.append(rng.uniform(-hue, hue, N) * math.tau)

    def jitter(chosen: Array) -> Array:
        pixels = chosen.reshape(-1, H * W, C)
        b, c, s, turn = (place.to_device(d[indices].astype("float32"))[:, None, None] for d in drawn)  # each (n, 1, 1)
        grey = xp.tile(grey_weights(place, C)[:, None], (1, C))  # x @ grey: the pixel's grey value, in every channel
        chroma = xp.eye(C, dtype=xp.float32) - grey  # x @ chroma: the rest, its colour
        turned = xp.asarray(QUARTER_TURN, xp.float32) if C == 3 else xp.zeros_like(chroma)

        # All four steps are affine in a pixel. Brightness scales it; contrast blends it with m, the image's mean grey;
        # saturation and hue are length and angle of the chroma, and leave a grey pixel, such as m, as it is:
        #   x' = b·c·x·(grey + s·(cos·chroma + sin·turned)) + (1 - c)·b·m
        mixing = b * c * (grey + s * (xp.cos(turn) * chroma + xp.sin(turn) * turned))  # (n, C, C)
        mean = xp.full((1, H * W), 1 / (H * W), dtype=xp.float32) @ pixels @ grey  # (n, 1, C); `.mean` is slower
        jittered = pixels @ mixing + (1 - c) * b * mean[:, :, :1]
        return xp.clip(jittered, 0, 1).reshape(chosen.shape)

    return change_some(images, indices, jitter)


def grayscale(images: Array, rng: Generator, probability: float = 0.2) -> Array:
    """Make some images grey: every channel becomes the luma of RGB, or for another number of channels their mean."""
    place, images = checked("grayscale", images)
    weights = grey_weights(place, images.shape[-1])
    indices = choose("grayscale", rng, len(images), probability)
    return change_some(images, indices, lambda chosen: (chosen @ weights)[..., None])  # broadcast over the channels


def solarize(images: Array, rng: Generator, threshold: float = 0.5, probability: float = 0.2) -> Array:
    """Invert the bright values of some images: x becomes 1 - x where x >= threshold (BYOL, Grill 2020)."""
    place, images = checked("solarize", images)
    indices = choose("solarize", rng, len(images), probability)
    return change_some(images, indices, lambda chosen: place.xp.where(chosen >= threshold, 1 - chosen, chosen))
