"""Training steps, ours on cached features against the papers' recipe; and the whole job multiplied out from them.

`python -m benchmarks training`. ViT-B/16 with random weights, Caltech's 50 + 50 class names. Both sides take the same
batches; the small run takes 48 images a step where the recipe takes 256, which favours the reference. The whole job:
800 images extracted in ten views and the centre crop, the VAE for 50 epochs, CoOp + SHIP for 200.
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

from benchmarks.material import caltech_names, class_set, features, open_clip_model, photographs, text_tower
from benchmarks.measure import Row, in_turn
from benchmarks.reference import Images, coop_losses, full_tokens, synthesize, vae_losses
from features.text_tower import TextTower
from pipeline.arrays import ClassSet, LabelledFeatures
from pipeline.generators.ship import Ship
from pipeline.methods.coop import CoOp
from pipeline.seeds import stream
from pipeline.synthesized_prompts import PromptVae

IMAGES, VIEWS = 800, 10  # 50 seen classes x 16 shots
VAE_EPOCHS, COOP_EPOCHS = 50, 200
STEPS = 3  # of ours in one measurement


@dataclass(frozen=True)
class Setting:
    """What both sides train on."""

    model: Any
    tower: TextTower
    classes: ClassSet
    tokens: Tensor
    images: Images
    batch: int

    @property
    def labels(self) -> Tensor:
        """(B,) of seen classes."""
        return torch.arange(self.batch) % len(self.classes.seen_ids)

    @property
    def train(self) -> LabelledFeatures:
        """A batch of images in all views."""
        return features(self.labels, 1 + VIEWS, self.tower.config.embed_dim)


def rows(*, small: bool) -> list[Row]:
    """A step of CoOp + SHIP, a step of the VAE, and the whole job."""
    with tempfile.TemporaryDirectory() as folder:
        model = open_clip_model()
        names, batch = caltech_names(), 48 if small else 256
        images = Images(model, photographs(Path(folder), 16))
        tower = text_tower(model)
        setting = Setting(model, tower, class_set(tower, names), full_tokens(names, 4), images, batch)
        coop, slow_coop = in_turn(lambda: _coop(setting), _reference_coop(setting).__next__, warm=not small)
        vae, slow_vae = in_turn(lambda: _vae(setting), _reference_vae(setting).__next__, warm=not small)
        (crop,) = in_turn(lambda: images.encode(range(11)))
    coop, vae = coop / STEPS, vae / STEPS
    steps = math.ceil(IMAGES / batch)
    ours = IMAGES * crop + steps * (VAE_EPOCHS * vae + COOP_EPOCHS * coop)
    theirs = steps * (VAE_EPOCHS * slow_vae + COOP_EPOCHS * slow_coop)
    on_gpu = torch.cuda.is_available()
    size = f"ViT-B/16, {batch} images a step"
    return [
        Row.of(f"CoOp + SHIP, a step, 50+50 classes, {size}", coop, slow_coop, at_least=30 if on_gpu else 40),
        Row.of(f"VAE of SHIP, a step, {size}", vae, slow_vae, at_least=15 if on_gpu else 20),
        Row.of(f"the whole job, multiplied out, {size}", ours, theirs, at_least=15),
    ]


def _coop(setting: Setting) -> None:
    unseen = setting.classes.unseen_ids
    pool = features(unseen.repeat(4), 1, setting.tower.config.embed_dim)
    method = CoOp(epochs=STEPS, batch=setting.batch, recipe="ship")
    none = features(unseen[:0], 1, setting.tower.config.embed_dim)
    method.fit(
        setting.train, setting.classes, synthetic=pool, validation=none, tower=setting.tower, rng=stream(1, "bench")
    )


def _reference_coop(setting: Setting) -> Iterator[float]:
    width = setting.tower.config.width
    context = (0.02 * torch.randn(1, 4, width, generator=stream(1, "bench"))).requires_grad_()
    vae, rng, unseen = _ship(setting), stream(2, "bench"), setting.classes.unseen_ids

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            real = setting.images.encode(range(setting.batch))
            drawn = unseen[torch.randint(len(unseen), (setting.batch,), generator=rng)]
            made = synthesize(setting.model, vae, setting.tokens, drawn, rng)
            yield torch.cat([real, made]), torch.cat([setting.labels, drawn])

    return coop_losses(setting.model, context, setting.tokens, batches(), rate=0.002)


def _vae(setting: Setting) -> None:
    ship = Ship(epochs=STEPS, batch=setting.batch)
    ship.fit(setting.train, setting.classes, setting.tower, stream(1, "bench"), lambda _: None)


def _reference_vae(setting: Setting) -> Iterator[float]:
    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield setting.images.encode(range(setting.batch)), setting.labels

    return vae_losses(setting.model, _ship(setting), setting.tokens, batches(), stream(1, "bench"))


def _ship(setting: Setting) -> PromptVae:
    return Ship().build(setting.tower.config.embed_dim, setting.tower, stream(1, "bench"))
