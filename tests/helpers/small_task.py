"""A task small enough to fit any method within a second, and settings for it."""

from __future__ import annotations

from functools import cache
from typing import Any

import tiny
import torch
from torch import Tensor
from torch.nn import functional as F

import pipeline.methods
from features.lookup import find, names
from pipeline.methods.base import Classifier, FitData, Method
from pipeline.training.data import ClassSet, LabelledFeatures
from pipeline.training.seeds import stream

TOWER = tiny.tower()
CLASSES = tiny.classes(TOWER)
TRAIN = tiny.with_patches(tiny.features([0, 1, 2, 3], 8, 3))
VALIDATION = tiny.with_patches(tiny.features([0, 1, 2, 3], 3, 1, noise=0.04))
NO_VALIDATION = LabelledFeatures(torch.empty(0, 1, 32), torch.empty(0, dtype=torch.int64))
SYNTHETIC = LabelledFeatures(
    F.normalize(tiny.features([4, 5], 16, 1).features, dim=-1), tiny.features([4, 5], 16, 1).labels
)
ALL = names(pipeline.methods)
WITH_SYNTHETIC = [name for name in ALL if find(pipeline.methods, name, Method).takes_synthetic]

QUICK: dict[str, dict[str, Any]] = {
    "plot": {"epochs": 20, "learning_rate": 0.02, "batch": 8, "prompts": 2, "context": 4},
    "proda": {"epochs": 20, "learning_rate": 0.02, "prompts": 4, "prompt_batch": 2, "context": 4},
    "vpt": {"epochs": 5, "learning_rate": 0.005, "batch": 4, "samples": 2, "test_samples": 3},
    "cocoop": {"epochs": 4, "learning_rate": 0.02, "batch": 4},
    "tcp": {"epochs": 20, "learning_rate": 0.01},
    "clap": {"epochs": 40},
    "clip_adapter": {"epochs": 40, "learning_rate": 0.01},
    "coop": {"epochs": 20, "learning_rate": 0.02},
    "kgcoop": {"epochs": 20, "learning_rate": 0.005, "batch": 32},
    "taskres": {"epochs": 40, "learning_rate": 0.05},
}


def method(name: str, **settings: Any) -> Method:
    """Return the method with settings that fit small, separable features within a second."""
    return find(pipeline.methods, name, Method).model_validate(QUICK.get(name, {}) | settings)


def scored_features(name: str, images: LabelledFeatures) -> Tensor:
    """Return what the method's classifier scores: features (N, D), or these and patch tokens (N, 1 + P, D)."""
    return images.scored if find(pipeline.methods, name, Method).needs_patches else images.centre


def fit_data(
    synthetic: LabelledFeatures | None = None,
    seed: int = 1,
    classes: ClassSet = CLASSES,
    validation: LabelledFeatures = VALIDATION,
) -> FitData:
    """Return the data of the small task."""
    rng = stream(seed, "finetune")  # the stream of stage `fit`
    return FitData(TRAIN, classes, synthetic=synthetic, validation=validation, tower=TOWER, rng=rng)


def fit(
    name: str,
    synthetic: LabelledFeatures | None = None,
    seed: int = 1,
    classes: ClassSet = CLASSES,
    validation: LabelledFeatures = VALIDATION,
    **settings: Any,
) -> Classifier:
    """Return a classifier with its text tower; calls without settings share it, so no test may change it."""
    shared_data = classes is CLASSES and validation is VALIDATION and (synthetic is None or synthetic is SYNTHETIC)
    if shared_data and not settings:
        return _fit_once(name, synthetic is SYNTHETIC, seed)
    return fit_anew(name, fit_data(synthetic, seed, classes, validation), **settings)


def fit_anew(name: str, data: FitData, **settings: Any) -> Classifier:
    """Fit a classifier, whether or not an equal one has been fitted before."""
    return method(name, **settings).fit(data).with_text_tower(TOWER)


@cache
def _fit_once(name: str, with_synthetic: bool, seed: int) -> Classifier:
    return fit_anew(name, fit_data(SYNTHETIC if with_synthetic else None, seed))
