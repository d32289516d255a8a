"""Batched image transformations, without gradients: how the views of a positive pair are made.

Images are float32 (N, H, W, C) in [0, 1] on either backend, and come back as new float32 arrays on the same one.
Whatever is random differs from image to image and is drawn from the host generator `rng`; how many numbers a call
draws depends on the number of images only, so the same seed gives two sensors or seasons the same augmentation.
"""

from minissl.augment.color import color_jitter, grayscale, solarize
from minissl.augment.corruption import corrupt
from minissl.augment.filtering import gaussian_blur, resize
from minissl.augment.geometry import horizontal_flip, quarter_turns, random_resized_crop, vertical_flip
from minissl.augment.lab import lab_to_rgb, rgb_to_lab
from minissl.augment.mixing import cutmix, mixup
from minissl.augment.multi_crop import multi_crop
from minissl.augment.policies import Policy, apply_policy, random_policy
from minissl.augment.statistics import channel_statistics, standardize, to_float, unstandardize
from minissl.augment.tiles import cut_tiles, drop_channels, normalize_tiles, permutations, project_colors

__all__ = [
    "Policy",
    "apply_policy",
    "channel_statistics",
    "color_jitter",
    "corrupt",
    "cut_tiles",
    "cutmix",
    "drop_channels",
    "gaussian_blur",
    "grayscale",
    "horizontal_flip",
    "lab_to_rgb",
    "mixup",
    "multi_crop",
    "normalize_tiles",
    "permutations",
    "project_colors",
    "quarter_turns",
    "random_policy",
    "random_resized_crop",
    "resize",
    "rgb_to_lab",
    "solarize",
    "standardize",
    "to_float",
    "unstandardize",
    "vertical_flip",
]
