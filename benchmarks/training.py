"""Training steps on cached features against the papers' recipe, and the text tower's pass, which both contain.

`python -m benchmarks training`. ViT-B/16 with random weights, Caltech's 50 + 50 class names. Both sides take the same
batches. The small run takes 48 images per step instead of the recipe's 256, which favours the reference.

The steps of the reference are timed in parts, each once per round: images, which both trainings encode; synthesis; and
the passes through the text tower. 16 of the images are encoded and their time is multiplied, because all crops take the
same time. For 1,000 names, whose pass at 77 tokens does not fit into 24 GB, the time of 100 names is multiplied. The
whole job is the extraction of 800 images in ten views and the centre crop, 50 epochs of the VAE and 200 epochs of
CoOp + SHIP.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.material import (
    caltech_names,
    class_set,
    features,
    imagenet_names,
    open_clip_model,
    photographs,
    text_tower,
)
from benchmarks.measure import LINEAR, Row, in_turn
from benchmarks.reference import Images, coop_losses, full_tokens, synthesize, vae_losses
from benchmarks.text_tower import pass_of
from features.text.text_tower import TextTower
from pipeline.generators._prompt_vae import PromptVae
from pipeline.generators.ship import Ship
from pipeline.methods.base import FitData
from pipeline.methods.coop import CoOp
from pipeline.training.data import ClassSet, LabelledFeatures
from pipeline.training.seeds import stream

IMAGES, VIEWS = 800, 10  # 50 seen classes x 16 shots
VAE_EPOCHS, COOP_EPOCHS = 50, 200
STEPS = 3  # of this project in one measurement
NAMES = (10, 100, 1_000)  # class names, for the growth of the pass
ENCODED = 16  # images of a batch that the reference is timed on


@dataclass(frozen=True)
class Setting:
    """The model, classes and images that both sides train on."""

    model: Any
    tower: TextTower
    classes: ClassSet
    tokens: Tensor
    images: Images
    batch: int

    @property
    def labels(self) -> Tensor:
        """Return the labels (B,) of a batch, all of seen classes."""
        return torch.arange(self.batch) % len(self.classes.seen_ids)

    @property
    def train(self) -> LabelledFeatures:
        """Return a batch of images in all views."""
        return features(self.labels, 1 + VIEWS, self.tower.config.embed_dim)


def rows(*, small: bool) -> list[Row]:
    """Return the rows of the text tower, a step of CoOp + SHIP, a step of the VAE, and the whole job."""
    with tempfile.TemporaryDirectory() as folder:
        model = open_clip_model()
        names, batch = caltech_names(), 48 if small else 256
        tower = text_tower(model)
        images = Images(model, photographs(Path(folder), ENCODED))
        setting = Setting(model, tower, class_set(tower, names), full_tokens(names, 4), images, batch)
        recipe = Recipe(setting)
        few, all_names = (pass_of(tower, imagenet_names()[:count]) for count in (NAMES[0], NAMES[-1]))
        ours = (lambda: _coop(setting), lambda: _vae(setting), few, pass_of(tower, names), all_names)
        theirs = (recipe.images, recipe.synthesis, recipe.coop, recipe.vae)
        coop, vae, *passes, encoded, synthesized, full_pass, vae_pass = in_turn(*ours, *theirs, warm=not small)
    coop, vae = coop / STEPS, vae / STEPS
    encoded *= batch / ENCODED
    slow_coop, slow_vae = encoded + synthesized + full_pass, encoded + vae_pass
    steps = math.ceil(IMAGES / batch)
    job = IMAGES * (1 + VIEWS) * encoded / batch + steps * (COOP_EPOCHS * coop + VAE_EPOCHS * vae)
    slow_job = steps * (COOP_EPOCHS * slow_coop + VAE_EPOCHS * slow_vae)
    on_gpu = torch.cuda.is_available()
    return [
        Row.of("text tower fwd+bwd, ViT-B/16, 100 names", passes[1], full_pass, at_least=12),
        Row.of("text tower fwd+bwd, ViT-B/16, 1,000 names", passes[2], 10 * full_pass, at_least=10),
        Row.growth(f"time of the text tower, {NAMES[0]} to {NAMES[-1]:,} classes", NAMES, passes, most=LINEAR),
        Row.of(
            f"CoOp + SHIP, a step, 50+50 classes, ViT-B/16, {batch} images a step",
            coop,
            slow_coop,
            at_least=30 if on_gpu else 40,
        ),
        Row.of(f"VAE of SHIP, a step, ViT-B/16, {batch} images a step", vae, slow_vae, at_least=15 if on_gpu else 20),
        Row.of("the whole job, multiplied out, ViT-B/16", job, slow_job, at_least=15),
    ]


def _coop(setting: Setting) -> None:
    unseen = setting.classes.unseen_ids
    pool = features(unseen.repeat(4), 1, setting.tower.config.embed_dim)
    method = CoOp(epochs=STEPS, batch=setting.batch, recipe="ship")
    none = features(unseen[:0], 1, setting.tower.config.embed_dim)
    method.fit(
        FitData(
            setting.train, setting.classes, synthetic=pool, validation=none, tower=setting.tower, rng=stream(1, "bench")
        )
    )


def _vae(setting: Setting) -> None:
    ship = Ship(epochs=STEPS, batch=setting.batch)
    ship.fit(setting.train, setting.classes, setting.tower, stream(1, "bench"), lambda _: None)


class Recipe:
    """The steps of the papers' recipe, in parts that are called in this order."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.rng = setting, stream(2, "bench")
        context = (0.02 * torch.randn(1, 4, setting.tower.config.width, generator=stream(1, "bench"))).requires_grad_()
        self._coop = coop_losses(setting.model, context, setting.tokens, self._both(), rate=0.002)
        self._sampled, learned = _ship(setting), _ship(setting)
        self._vae = vae_losses(setting.model, learned, setting.tokens, self._real(), stream(1, "bench"))

    def images(self) -> None:
        """Read, decode, augment and encode a part of the batch, which is repeated to fill it."""
        self.real = self.setting.images.encode(range(ENCODED)).repeat(self.setting.batch // ENCODED, 1)

    def synthesis(self) -> None:
        """Sample as many features of unseen classes."""
        unseen = self.setting.classes.unseen_ids
        self.drawn = unseen[torch.randint(len(unseen), (self.setting.batch,), generator=self.rng)]
        self.synthetic = synthesize(self.setting.model, self._sampled, self.setting.tokens, self.drawn, self.rng)

    def coop(self) -> None:
        """Pass all class names through the text tower, forward and backward to the context."""
        next(self._coop)

    def vae(self) -> None:
        """Pass one prompt per image through the text tower, forward and backward to the VAE."""
        next(self._vae)

    def _both(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield torch.cat([self.real, self.synthetic]), torch.cat([self.setting.labels, self.drawn])

    def _real(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield self.real, self.setting.labels


def _ship(setting: Setting) -> PromptVae:
    return Ship().build(setting.tower.config.embed_dim, setting.tower, stream(1, "bench"))
