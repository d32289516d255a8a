"""Positives: one loss, and every way of making x⁺, from augmentations to what a network paints.

The loss is SimCLR's. All that it is told of the world is which two images are to be taken for one: with z = g(f(x)),

    ℓ(a, +) = −log  e^{sim(z_a, z_+)/τ} / Σ_{k≠a} e^{sim(z_a, z_k)/τ}

    --positives      anchor x^a    positive x^+                                                  used in
    augmentation     t(x)          t'(x)                                                         AMDIM, SimCLR, MoCo
    overlap          a window      one that shares a quarter of it or more                       CPC
    season           a place       the same place on another day, both cropped                   SeCo
    mixup, cutmix    t(x)          λ t'(x) + (1 − λ) t'(y), λ ≥ ½; or t'(x) with a box of t'(y)  Mixup, CutMix
    policy           p(x)          p'(x), both from one random policy                            AutoAugment
    selfaugment      p(x)          p'(x), both from the best of a few policies                   SelfAugment
    generated        t(x)          t'(x) + ½ G(z, E(t'(x))), a change that a GAN has learned     GCL

Notice in `positives.png` what anchor and positive share, for that is what f keeps, and what differs, for that is what f
learns to ignore. Windows that overlap share their colours, so that colour alone finds the positive among all others;
"own anchor nearest" says how often pixels do. Another day has other colours by nature, and the same ground.

Notice how SelfAugment judges a policy without a label: by how well a linear layer tells, from frozen features, how far
an image was turned. A policy that turns images teaches f not to know, and loses. So the judge has an opinion of its own
of what matters, and for images from above, where any turn is right, it need not be ours. And notice that a GAN takes
its time: after some hundred steps it adds patches of light and colour, much alike to all views.

(Slides "Transformations to generate x^+". Chen et al., 2020, SimCLR; van den Oord et al., 2018, CPC; Mañas et al.,
2021, SeCo; Zhang et al., 2018, mixup; Yun et al., 2019, CutMix; Cubuk et al., 2019, AutoAugment; Reed et al., 2021,
"SelfAugment: Automatic Augmentation Policies for Self-Supervised Learning"; H. Chen et al., 2021, "Joint Generative and
Contrastive Learning for Unsupervised Person Re-identification", which we take the slide's GCL to be)

Differs from the papers: one loss for all. A mixture has λ ≥ ½ (λ ← max(λ, 1 − λ), as in MixMatch, Berthelot et al.,
2019) and counts for its anchor alone, where i-Mix (Lee et al., 2021) counts it for y, too, with weight 1 − λ.
SelfAugment takes the best of some random policies, without a search around it. GCL's generator turns a person about by
a mesh of the body, and learns together with f; here it recolours a view, and stands still once f begins.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from tqdm import tqdm

from minissl import backend, checkpoint, nn, random, viz
from minissl.augment.policies import Policy, random_policy
from minissl.data import DataSet, scenes
from minissl.data.loader import Batch
from minissl.optim.ema import copy_module
from reference import makers, seasons
from reference.contrastive import simclr
from reference.method import Inputs, build
from reference.trainer import train

Kind = Literal["augmentation", "overlap", "season", "mixup", "cutmix", "policy", "selfaugment", "generated"]
LEARNED = ("selfaugment", "generated")
# As the GAN's own chapter has them: many small steps, and decay for neither network
GAN_SETTINGS: dict[str, Any] = {"optimizer": "adam", "learning_rate": 1e-3, "weight_decay": 0.0, "batch_size": 16}
SHOWN = 8  # images of positives.png


@dataclass(kw_only=True)
class Config(simclr.Config):
    """SimCLR's settings, and how positives are made."""

    # How x⁺ is made: see the table above
    positives: Kind = "augmentation"
    # α of Beta(α, α), from which the weights of mixtures are drawn; 1 draws them alike, a small one hardly mixes
    alpha: float = 1.0
    # Which random policy, by number
    policy: int = 1
    # Policies 1, 2, ... that SelfAugment chooses from
    candidates: int = 4
    # Epochs of training with each of them before it is judged
    search_epochs: int = 2
    # Epochs for which the GAN learns to paint before f begins
    gan_epochs: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.positives == "overlap" and self.crop >= 1:
            raise ValueError("--positives overlap: with --crop 1 both windows are the whole image; expected less")


class Positives(simclr.SimCLR):
    """SimCLR's encoder, head and loss; `pair` makes the views."""

    settings = Config
    config: Config

    def __init__(self, config: Config, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        xp = backend.current().xp
        self.ready = nn.Buffer(xp.asarray(config.positives not in LEARNED))
        if config.positives == "selfaugment":
            self.told = nn.Buffer(xp.zeros(config.candidates))  # turns told right after training with each policy
        if config.positives == "generated":
            self.painter = copy_module(makers.Painter(config.image_size, inputs.channels, config.width))

    @classmethod
    def of_scenes(cls, config: Any) -> dict[str, Any]:
        return {"seasons": 2} if config.positives == "season" else {}

    @classmethod
    def open_data(cls, config: Any) -> DataSet:
        data = super().open_data(config)
        if config.positives == "season":
            seasons.check(data, "--positives season", least=2)
        return data

    def views(self, batch: Batch, rng: np.random.Generator) -> tuple[Any, ...]:
        anchor, positive = self.pair(self.config.positives, batch, rng)
        return self.standardize(anchor), self.standardize(positive)

    def pair(self, kind: Kind, batch: Batch, rng: np.random.Generator) -> makers.Pair:
        """x^a and x^+ for each image of a batch: (N, H, W, C) in [0, 1]."""
        c, images = self.config, self.raw(batch)
        match kind:
            case "overlap":
                return makers.overlap(images, rng, c.crop)
            case "season":
                one, other = (self.raw({"images": date}) for date in seasons.drawn(batch["seasons"], rng, 2))
                return makers.geometry(one, rng, c), makers.geometry(other, rng, c)
            case "mixup" | "cutmix":
                return makers.mixture(kind, images, rng, c, c.alpha)
            case "policy" | "selfaugment":
                return makers.policy(images, rng, c, self.recipe(kind))
            case "generated":
                anchor, view = makers.augmentation(images, rng, c)
                return anchor, self.painter.positives(view, rng)
        return makers.augmentation(images, rng, c)

    def recipe(self, kind: Kind) -> Policy:
        """The random policy of the chosen number, or of the best."""
        number = self.config.policy if kind == "policy" else int(self.told.data.argmax()) + 1
        return random_policy(np.random.default_rng(number))

    def before_training(self, data: DataSet, out: Path) -> None:
        """What makes positives learns before f does."""
        if self.ready.data:
            return
        if self.config.positives == "generated":
            self.learn_to_paint(data, out)
        else:
            self.search(data, out)
        self.ready.data[...] = True

    def search(self, data: DataSet, out: Path) -> None:
        """SelfAugment: train for a short while with each policy, from the same weights, and see who tells turns."""
        c = self.config
        for i in range(c.candidates):
            tqdm.write(f"Policy {i + 1} of {c.candidates}:")
            settings = replace(c, positives="policy", policy=i + 1, epochs=c.search_epochs)
            method = build(type(self), settings, self.inputs)
            train(method, data, settings, out, f"policy_{i + 1}_")
            self.told.data[i] = makers.turns_told(method, data["images"])

    def learn_to_paint(self, data: DataSet, out: Path) -> None:
        """A conditional GAN learns, and its painter stays."""
        tqdm.write("The generator of positives:")
        settings = replace(self.config, **GAN_SETTINGS, accumulate=1, epochs=self.config.gan_epochs)
        gan: Any = build(makers.ConditionalGAN, settings, self.inputs)
        train(gan, data, settings, out, "painter_")
        self.painter.load_state_dict(gan.painter.state_dict())

    def shown(self, views: tuple[Any, ...]) -> dict[str, np.ndarray]:
        made = "" if self.ready.data else ", before its maker has learned"
        return dict(zip(("anchor", f"positive{made}"), super().shown(views).values(), strict=True))

    def measure(self, parts: dict[str, DataSet], out: Path) -> dict[str, float]:
        """Who is near whom, `positives.png`, and what was found before f began."""
        figures = super().measure(parts, out)
        c, test = self.config, parts["test"]
        anchor, positive = self.pair(c.positives, test.some(64).arrays, random.seed(c.seed))
        figures["own anchor nearest, in 8x8 pixels"] = makers.own_nearest(anchor, positive)
        if c.positives in ("policy", "selfaugment"):
            checkpoint.write_json(out / "policy.json", self.recipe(c.positives))
        if c.positives == "selfaugment":
            figures |= {f"turns told, policy {i}": told for i, told in enumerate(self.told.data.tolist(), 1)}
        self.draw(test, out / "positives.png")
        return figures

    def draw(self, test: DataSet, path: Path) -> None:
        """For some images anchor and positive of every kind that needs no training, and of this run's."""
        c, batch = self.config, test.some(SHOWN).arrays
        if c.data == "scenes":  # other images than those of the run may not be there on another day
            batch = scenes.generate(SHOWN, c.image_size, c.seed, seasons=2).arrays
        kinds = [kind for kind in get_args(Kind) if kind not in LEARNED or kind == c.positives]
        rows = [("image", self.raw(batch))]
        for kind in kinds:
            if kind != "season" or "seasons" in batch:
                anchor, positive = self.pair(kind, batch, random.seed(c.seed))
                rows += [(f"{kind}: anchor", anchor), ("positive", positive)]
        grid = [list(self.picture(backend.to_host(images))) for _, images in rows]
        title = "Every way of making a positive. What do anchor and positive share, and what differs?"
        viz.image_grid(grid, path, [name for name, _ in rows], title=title)
