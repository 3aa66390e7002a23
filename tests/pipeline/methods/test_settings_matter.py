"""Every setting of every method and generator changes the result: none is dead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import small_generators as generators
import tiny
import torch
from small_task import ALL, CLASSES, NO_VALIDATION, SYNTHETIC, TOWER, WITH_SYNTHETIC, method
from torch import Tensor

import pipeline.generators
import pipeline.methods
from features.lookup import find
from pipeline.generators.base import Generator
from pipeline.methods.base import FitData, Method
from pipeline.training.seeds import stream

# Noisy enough that a search has differences to find, and training something left to learn.
HARD = tiny.with_patches(tiny.features([0, 1, 2, 3], 8, 3, noise=0.3))
NOISY = tiny.with_patches(tiny.features([0, 1, 2, 3], 25, 1, noise=0.15))
SEARCHED = {"ratios", "alpha_points", "beta_points", "alpha_max", "beta_max", "validation_shots"}

# Another value than the default's: of a field, or of one method's.
OTHER: dict[str, Any] = {
    "alpha": 2.5,
    "alpha_every": 3,
    "alpha_max": 30.0,
    "alpha_points": 7,
    "batch": 5,
    "beta": 4.0,
    "beta_max": 50.0,
    "beta_points": 9,
    "block": 0,
    "c": 0.1,
    "centre_crop": True,
    "tip_adapter.centre_crop": False,
    "tip_adapter_f.centre_crop": False,
    "class_specific": True,
    "class_token_position": "middle",
    "conditional": False,
    "context": 3,
    "distance": "squared",
    "epochs": 3,
    "epsilon": 0.5,
    "init": "a photo of the",
    "iterations": 1,
    "kl_weight": 5.0,
    "learning_rate": 0.004,
    "neighbours": 3,
    "orthogonality": 5.0,
    "pooled": True,
    "precision": "float16",
    "prompt_batch": 3,
    "prompts": 5,
    "ratio": 0.7,
    "ratios": [0.9, 0.4],
    "recipe": "coop",
    "reduction": 2,
    "clap.reduction": "sum",
    "samples": 3,
    "seen_precision": "ridge",
    "steps": 5,
    "synthetic_ratio": 0.25,
    "templates": "imagenet_7",
    "test_samples": 5,
    "unseen_epoch": 1,
    "text_copies": 2,
    "threshold": 1.0,
    "validation_shots": 1,
    "weight": 0.5,
    "weight_decay": 0.3,
}
NEEDED: dict[str, dict[str, Any]] = {
    "context": {"init": None},
    "init": {"context": 4},
}  # settings that another value of the field needs


def fields(kind: type[Method] | type[Generator]) -> list[str]:
    """Return the settings that `fit` reads; the stages read `view_family` (tests/pipeline/steps/test_chosen_views)."""
    return sorted(kind.model_fields.keys() - {"view_family"})


def differ(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return any(one[key].shape != other[key].shape or not torch.equal(one[key], other[key]) for key in one)


def fitted(name: str, field: str, **changed: Any) -> dict[str, Tensor]:
    """Return a classifier's tensors after two short epochs, without a copy of the setting itself."""
    known = find(pipeline.methods, name, Method).model_fields
    wanted = {"epochs": 2, "steps": 20, **NEEDED.get(field, {}), **changed}
    settings = {key: value for key, value in wanted.items() if key in known}
    synthetic = SYNTHETIC if field == "synthetic_ratio" and name in WITH_SYNTHETIC else None
    validation = NOISY if field in SEARCHED else NO_VALIDATION
    given = {"synthetic": synthetic, "validation": validation, "tower": TOWER, "rng": stream(1, "fit")}
    state = method(name, **settings).fit(FitData(HARD, CLASSES, **given)).state()
    return {key: value for key, value in state.items() if name != "plot" or key != field}


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for name in ALL for field in fields(find(pipeline.methods, name, Method))]
)
def test_a_methods_setting_changes_what_is_fitted(name: str, field: str) -> None:
    value = OTHER.get(f"{name}.{field}", OTHER.get(field))
    assert value is not None, f"add a value of {name}.{field} other than its default"
    assert value != getattr(method(name), field)
    assert differ(fitted(name, field), fitted(name, field, **{field: value}))


GENERATED: dict[str, Any] = {
    "adversarial_weight": 3.0,
    "attribute_weight": 5.0,
    "batch": 7,
    "classification_weight": 9.0,
    "classifier_epochs": 3,
    "critic_learning_rate": 0.01,
    "critic_steps": 2,
    "critic_width": 8,
    "cycle_weight": 9.0,
    "encoded_noise": False,
    "encoder_width": 8,
    "epochs": 3,
    "fakes_per_mean": 3,
    "feedback_learning_rate": 0.01,
    "feedback_weight": 0.1,
    "free_bits": 0.5,
    "freeze_dec": True,
    "generator_width": 8,
    "global_prompt": False,
    "gradient_penalty": 0.1,
    "kl_weight": 0.01,
    "latent": 5,
    "leak": 0.2,
    "learning_rate": 0.01,
    "mean_soul_weight": 9.0,
    "prompt_length": 8,
    "reconstruction": "mean",
    "regressor_epochs": 3,
    "regressor_learning_rate": 0.01,
    "residual_scale": 0.9,
    "sequential": True,
    "shrinkage": 0.5,
    "slope": 0.7,
    "soul_weight": 9.0,
    "souls": 2,
    "unseen": False,
    "weight_decay": 0.5,
}


@pytest.mark.parametrize(
    ("name", "field"),
    [(n, field) for n in generators.ALL for field in fields(find(pipeline.generators, n, Generator))],
)
def test_a_generators_setting_changes_what_it_samples(name: str, field: str) -> None:
    assert field in GENERATED, f"add a value of {name}.{field} other than its default"
    default = generators.generator(name)
    assert getattr(default, field) != GENERATED[field]
    found = []
    for settings in (default, default.model_copy(update={field: GENERATED[field]})):
        given = generators.TRAIN, generators.CLASSES, generators.TOWER
        model = settings.fit(*given, stream(1, "train_generator"), lambda _: None)
        found.append({"samples": generators.sample(model)})
    assert differ(*found)
