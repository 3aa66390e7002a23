"""Every generator with settings that fit in a moment, and the task that they learn."""

from __future__ import annotations

import tiny
import torch

import pipeline.generators
from features.lookup import find, names
from pipeline.generators.base import FittedGenerator, Generator
from pipeline.training.seeds import stream

TOWER = tiny.tower(std=0.3)


CLASSES = tiny.classes(TOWER)


TRAIN = tiny.features([0, 1, 2, 3], 8, 3)


ALL = names(pipeline.generators)


SMALL = {"epochs": 2, "batch": 16, "encoder_width": 16, "generator_width": 16, "critic_width": 16}


def generator(name: str) -> Generator:
    """The generator with settings that fit in a moment."""
    kind = find(pipeline.generators, name, Generator)
    return kind.model_validate({key: value for key, value in SMALL.items() if key in kind.model_fields})


def fit(name: str, seed: int = 1, log: list[dict[str, float]] | None = None) -> FittedGenerator:
    rows = [] if log is None else log
    return generator(name).fit(TRAIN, CLASSES, TOWER, stream(seed, "train_generator"), rows.append)


def sample(model: FittedGenerator, seed: int = 1) -> torch.Tensor:
    ids = torch.tensor([0, 4, 5, 5, 1])
    with torch.inference_mode():
        return model.sample(ids, CLASSES, TOWER, stream(seed, "synthesize"))
