"""SAR and optical: the radar picture of a place and its optical picture must find each other.

Sentinel-1 measures what scatters (roughness, moisture, buildings, through clouds and by night), Sentinel-2 what colours
(pigments, water). A place that both have seen is a pair of views that needs no augmentation: distinct encoders f₁, f₂,
distinct heads, and over the 2N projections R of a batch of N places

    R = g₁(f₁(S1)), g₂(f₂(S2))      L_ij = −log  e^{sim(R_i, R_j)/τ} / Σ_{k≠i} e^{sim(R_i, R_k)/τ}

Notice that the sum goes over pictures of both sensors, though those of the anchor's own are easily told from its
partner by the sensor alone; --no-same-sensor-negatives leaves them out. And notice what is learned: only what both
sensors tell of a place. Then the heads are dropped, and a task has either encoder or both:

--sees late     features of both encoders side by side (late fusion)
--sees s1, s2   the features of one; it has been taught by the other, which is no longer needed
--sees early    one encoder of all channels (early fusion); it has no partner, and is taught by two crops of each place

S1 is clipped to −25 to 0 dB and S2 to reflectances of 0 to 1, and only then standardised, by what is left.

(Scheibenreif, Hanna, Mommert and Borth, 2022, "Self-Supervised Vision Transformers for Land-Cover Segmentation and
Classification"; Scheibenreif, Mommert and Borth, 2022, "Contrastive Self-Supervised Data Fusion for Satellite Imagery")

Differs from the papers: ResNet-18s of width 16, or a Swin-T of width 24, for images of 64 pixels; both sensors see the
same random crop, turned alike.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from minissl import backend, losses, models, nn, ops
from minissl.data import DataSet, colours
from minissl.data.loader import Batch
from minissl.models import Backbone
from minissl.models.cross_channel import ChannelGroups
from minissl.tensor import Tensor
from reference import contrast, radar
from reference.method import Inputs

CHANNELS = {"s1": slice(-2, None), "s2": slice(0, -2), "early": slice(None)}  # of images: all bands, then VV and VH


@dataclass(kw_only=True)
class Config(contrast.Config):
    """The settings of both encoders and of what is asked of them."""

    # What probes and tasks see: both encoders (late), one of them (s1, s2), or one encoder of all channels (early)
    sees: Literal["late", "early", "s1", "s2"] = "late"
    # Optical bands of generated scenes: all 13 of Sentinel-2 (s2) or true colour (rgb)
    bands: Literal["s2", "rgb"] = "s2"
    # Kind of the encoders
    backbone: Literal["resnet", "swin"] = "resnet"
    # τ: the smaller, the more the nearest negatives count
    temperature: float = 0.3
    # Other places under the anchor's own sensor are negatives, too, as in the slide's sum
    same_sensor_negatives: bool = True
    # Size D of the projections R
    embedding: int = 128
    # Features of a Swin-T's first stage, a multiple of 3
    swin_width: int = 24
    # Strength of brightness, contrast and saturation jitter: radiometry is what sensors measure
    jitter: float = 0.0
    # Probability of turning an image grey
    grey: float = 0.0
    # Probability of blurring an image
    blur: float = 0.0


class SarOptical(contrast.Contrastive):
    """encoder, what is asked afterwards, the encoder that is not, and a head for each."""

    settings = Config
    config: Config
    encoder: Any  # ChannelGroups
    pairs = "Sentinel-1 and Sentinel-2"

    def __init__(self, config: Config, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        sensors = ("early",) if config.sees == "early" else ("s1", "s2")
        networks = {sensor: backbone(config, len(range(inputs.channels)[CHANNELS[sensor]])) for sensor in sensors}
        chosen = [sensor for sensor in sensors if config.sees in (sensor, "late")]
        spaces = [CHANNELS[sensor] for sensor in chosen]
        self.encoder = ChannelGroups([networks[sensor] for sensor in chosen], spaces, nn.Identity())
        self.unseen = nn.ModuleList(networks[sensor] for sensor in sensors if sensor not in chosen)
        self.heads = nn.ModuleList(
            models.mlp(network.out_features, network.out_features, config.embedding, batch_norm=True)
            for network in networks.values()
        )
        N = config.batch_size
        self.references = {"log(2N − 1), collapsed": math.log(2 * N - 1)}
        if not config.same_sensor_negatives:
            self.references = {"log N, collapsed": math.log(N)}

    @classmethod
    def of_scenes(cls, config: Any) -> dict[str, Any]:
        return {"bands": config.bands, "sar": True}

    @classmethod
    def open_data(cls, config: Any) -> DataSet:
        found = super().open_data(config)
        radar.check(found, "sar_optical")
        return joined(found)

    @classmethod
    def open_images(cls, config: Any, channels: int) -> DataSet:
        """An encoder of one sensor needs that sensor alone; the other, which it does not see, is then empty."""
        found = super().open_images(config, channels)
        N, H, W, _ = found["images"].shape
        if config.sees == "s1" and found.bands == ("VV", "VH"):
            found.arrays |= {"sar": found["images"], "images": np.zeros((N, H, W, channels - 2), np.float32)}
            found.bands = ()
        if config.sees == "s2" and "sar" not in found:
            found.arrays["sar"] = np.full((N, H, W, 2), radar.FLOOR, np.float32)
        radar.check(found, "sar_optical")
        return joined(found)

    @property
    def towers(self) -> list[Backbone]:
        """The encoders of Sentinel-1 and of Sentinel-2."""
        both = [*self.encoder.backbones, *self.unseen]
        return both[::-1] if self.config.sees == "s2" else both

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[Any, ...]:
        """One crop of both sensors' channels, (N, H, W, C); for early fusion two."""
        return super().views(batch, rng) if self.config.sees == "early" else (self.view(self.raw(batch), rng),)

    def embed(self, views: tuple[Any, ...]) -> tuple[Tensor, ...]:
        if self.config.sees == "early":
            z = self.heads[0](self.encoder(ops.concatenate(list(views))))  # (2N, D)
            return tuple(ops.split(z, 2))
        sensors = zip(self.towers, self.heads, (CHANNELS["s1"], CHANNELS["s2"]), strict=True)
        return tuple(head(tower(Tensor(views[0][..., c]))) for tower, head, c in sensors)  # (N, D) each

    def compare(self, z1: Tensor, z2: Tensor) -> Tensor:
        return losses.cross_sensor(z1, z2, self.config.temperature, self.config.same_sensor_negatives)

    def shown(self, views: tuple[Any, ...]) -> dict[str, np.ndarray]:
        crops = [super(SarOptical, self).shown((view,)) for view in views]
        found = {f"Sentinel-2, crop {i}": next(iter(crop.values())) for i, crop in enumerate(crops, 1)}
        mean, deviation = (np.array(numbers, np.float32) for numbers in (self.inputs.mean, self.inputs.deviation))
        for i, view in enumerate(views, 1):
            sar = radar.decibels((backend.to_host(view) * deviation + mean)[..., CHANNELS["s1"]])
            found[f"Sentinel-1 (VV, VH, VV-VH), crop {i}"] = colours.radar(sar)
        return found

    def picture(self, images: np.ndarray) -> np.ndarray:
        return super().picture(images[..., CHANNELS["s2"]])


def backbone(config: Config, channels: int) -> Backbone:
    """An encoder of so many channels."""
    if config.backbone == "swin":
        return models.swin_tiny(channels, width=config.swin_width, window=4, patch=2)
    return models.resnet18(config.width, channels, config.stem)


def joined(data: DataSet) -> DataSet:
    """The data with VV and VH, from 0 to 1, as two more channels of the images: float32 (N, H, W, C + 2)."""
    images, sar = data["images"], data.arrays.pop("sar")
    both = np.empty((*images.shape[:3], images.shape[3] + 2), np.float32)
    for i in range(0, len(both), 256):  # images may be mapped from a file
        part = slice(i, i + 256)
        both[part, ..., :-2] = images[part] / 255 if images.dtype == np.uint8 else images[part]
        both[part, ..., -2:] = radar.scaled(sar[part])
    data.arrays["images"], data.bands = both, (*data.bands, "VV", "VH") if data.bands else ()
    return data
