"""CMC: what an image's lightness and its colour, or its visible and infrared bands, have in common.

The views of an image are not augmentations but groups of its channels: L and ab, or in Sentinel-2's 13 bands the
visible, the near infrared and the short-wave infrared (--views spectral). Each view v has an encoder of its own, which
sees nothing else, and a linear map to an embedding v_i of unit length. In a batch of N images, for every pair of views:

    ℓ(u, v) = mean over i of −log  e^{u_i·v_i/τ} / Σ_j e^{u_i·v_j/τ}         loss = Σ over pairs of ℓ(u, v) + ℓ(v, u)

The full graph takes all pairs, the core graph those with the first view. What remains are all encoders, their features
side by side.

Notice what takes the place of augmentations: a field seen in L must be found among others in ab, so the encoders keep
what both tell of the place and drop what only one knows, such as noise of a sensor. More views are more pairs that have
to agree. Grey images and jittered colours would take away what the views share, so here both are off.

(Tian, Krishnan and Isola, 2020, "Contrastive Multiview Coding")

Differs from the paper: negatives are the other images of the batch, where the paper draws them from a memory bank and
estimates the softmax by NCE; ResNet-18s that share the width of one, so that features are about as many as those of
other chapters; the spectral views are new, and their near infrared includes the red edge (705 to 945 nm).
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from minissl import backend, losses, models, nn
from minissl.data.loader import Batch
from minissl.data.scenes import BANDS
from minissl.data.scenes.render import RED_GREEN_BLUE, tone
from minissl.models.cross_channel import LAB_CENTRE, LAB_SPREAD, ChannelGroups, StandardizedLab
from minissl.tensor import Tensor
from reference import contrast
from reference.method import Inputs
from reference.pretext.colorization import painted

NIR, SWIR = BANDS.index("B5"), BANDS.index("B10")  # first bands of the near and the short-wave infrared
GROUPS = {
    "lab": {"L": slice(0, 1), "a, b (at L = 60)": slice(1, 3)},
    "spectral": {
        "visible (B4, B3, B2)": slice(0, NIR),
        "near infrared (B8)": slice(NIR, SWIR),
        "short-wave infrared (B11)": slice(SWIR, len(BANDS)),
    },
}
B8, B11 = BANDS.index("B8"), BANDS.index("B11")
SHOWN = (RED_GREEN_BLUE, (B8,) * 3, (B11,) * 3)  # bands of each spectral view that are drawn as red, green, blue


@dataclass(kw_only=True)
class Config(contrast.Config):
    """CMC's settings."""

    # What the views are: lightness and colour of RGB, or of Sentinel-2's 13 bands visible, near and short-wave infrared
    views: Literal["lab", "spectral"] = "lab"
    # Pairs that are compared: all, or those with the first view
    graph: Literal["full", "core"] = "full"
    # τ: the smaller, the more the nearest negatives count
    temperature: float = 0.07
    # Size D of the embeddings z
    embedding: int = 128
    # Channels of the first stage, shared out among the views' ResNet-18s; features have 8 times as many
    width: int = 16
    # Strength of brightness, contrast and saturation jitter; hue has a quarter of it
    jitter: float = 0.0
    # Probability of turning an image grey
    grey: float = 0.0
    # Probability of blurring an image
    blur: float = 0.0
    # Peak of the learning rate, reached after the warm-up; then half a cosine down to 0
    learning_rate: float = 0.03


class CMC(contrast.Contrastive):
    """An encoder and a linear head for each view, that is, each group of channels."""

    settings = Config
    config: Config
    encoder: ChannelGroups

    def __init__(self, config: Config, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        check_channels(config, inputs)
        self.groups, lab = GROUPS[config.views], config.views == "lab"
        V, channels = len(self.groups), list(self.groups.values())
        if config.width < V:
            raise ValueError(f"cmc: expected --width of at least {V}, a channel for each view, got {config.width}")
        resnets = [models.resnet18(config.width // V, c.stop - c.start, config.stem) for c in channels]
        space = StandardizedLab(inputs.mean, inputs.deviation) if lab else nn.Identity()
        self.encoder = ChannelGroups(resnets, channels, space)
        self.heads = nn.ModuleList(nn.Linear(resnet.out_features, config.embedding) for resnet in resnets)
        self.centre, self.spread = map(list, (LAB_CENTRE, LAB_SPREAD) if lab else (inputs.mean, inputs.deviation))
        pairs = V * (V - 1) // 2 if config.graph == "full" else V - 1
        self.references = {f"{2 * pairs} log N, collapsed": 2 * pairs * math.log(config.batch_size)}

    @classmethod
    def of_scenes(cls, config: Config) -> dict[str, Any]:
        return {"bands": "s2" if config.views == "spectral" else "rgb"}

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[Any, ...]:
        """All channels, (N, H, W, C), of one crop of each image: all views are of the same place."""
        return (self.view(self.raw(batch), rng),)

    def embed(self, views: tuple[Any, ...]) -> tuple[Tensor, ...]:
        s = self.encoder.space(Tensor(views[0]))  # (N, H, W, C): L, a, b, or the bands
        parts = zip(self.encoder.backbones, self.encoder.channels, self.heads, strict=True)
        return tuple(head(backbone(s[..., c])) for backbone, c, head in parts)  # V times (N, D)

    def compare(self, *z: Tensor) -> Tensor:
        return losses.cmc(z, self.config.temperature, self.config.graph)

    def shown(self, views: tuple[Any, ...]) -> dict[str, np.ndarray]:
        s = backend.to_host(self.encoder.space(Tensor(views[0])).data)
        x = s * np.array(self.spread, np.float32) + np.array(self.centre, np.float32)
        if self.config.views == "lab":
            L, ab = x[..., :1], x[..., 1:]
            images = [painted(L, 0 * ab), painted(np.full_like(L, 60), ab)]
        else:
            images = [seen(x, SHOWN[0]), *(seen(0.6 * x, bands) for bands in SHOWN[1:])]  # plants are bright there
        return dict(zip(self.groups, images, strict=True))


def seen(images: np.ndarray, bands: tuple[int, ...]) -> np.ndarray:
    """Three bands of reflectance as red, green and blue, in [0, 1]."""
    return tone(images[..., bands])


def check_channels(config: Config, inputs: Inputs) -> None:
    """Raise ValueError unless the images have the channels that the views are made of."""
    C = {"lab": 3, "spectral": len(BANDS)}[config.views]
    if inputs.channels != C:
        wanted = "RGB images, of 3 channels" if C == 3 else f"Sentinel-2's {C} bands, {BANDS[0]} to {BANDS[-1]}"
        raise ValueError(
            f"cmc --views {config.views}: expected {wanted}, got {inputs.channels} channels; "
            "--views lab takes RGB, --views spectral 13 bands; of other data choose the bands of red, green and blue"
        )
