"""The contract of every file in `pipeline/methods/`; formulas are in `test_methods_*.py`."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from small_task import (
    ALL,
    CLASSES,
    SYNTHETIC,
    TOWER,
    TRAIN,
    VALIDATION,
    WITH_SYNTHETIC,
    fit,
    fit_anew,
    fit_data,
    method,
    scored_features,
)
from tiny import features
from torch.nn import functional as F

from features.errors import InputError
from features.formats.tensors import load_tensors, save_tensors
from pipeline.artifacts.searches import read_searches
from pipeline.artifacts.task import Header, Rows, TrainTask, load_train, save_train
from pipeline.methods._prompt_learning import class_weights, initial_context
from pipeline.methods.base import Classifier, FitData
from pipeline.steps.fit import fit as fit_step
from pipeline.training.data import LabelledFeatures, check_usable
from pipeline.training.log import Search
from pipeline.training.seeds import stream

CPU = torch.device("cpu")

# A few learned vectors before a random tower cannot separate whatever they like, but what some prompt separates; PLOT's
# patches do in test_plot.py.
PROMPTS: dict[str, dict[str, Any]] = {
    "cocoop": {"epochs": 15, "batch": 8},
    "coop": {"epochs": 15, "batch": 8, "recipe": "coop", "learning_rate": 0.05},
    "kgcoop": {"epochs": 20, "batch": 8, "weight": 0.1, "learning_rate": 0.05},
    "proda": {"epochs": 15, "batch": 8, "prompts": 2, "init": "a photo of a", "learning_rate": 0.05},
    "tcp": {"epochs": 10, "batch": 8, "weight": 0.1},
    "vpt": {"epochs": 20, "batch": 8, "learning_rate": 0.02},
}
# Averages probabilities, which are of a class among the candidates, over its prompts.
RELATIVE = {"vpt"}
KNOWS_THE_UNSEEN = [name for name in ALL if bool(fit(name).scored.all())]


@pytest.mark.parametrize("name", ALL)
def test_the_same_seed_gives_the_same_classifier(name: str) -> None:
    first, second = fit_anew(name, fit_data()), fit_anew(name, fit_data())
    assert all(torch.equal(tensor, second.state()[key]) for key, tensor in first.state().items())


@pytest.mark.parametrize("name", ALL)
def test_a_saved_and_loaded_classifier_gives_the_same_logits(name: str, tmp_path: Path) -> None:
    fitted = fit(name)
    save_tensors(fitted.state(), tmp_path / "a", weights_sha256="0")
    again = method(name).classifier(**load_tensors(tmp_path / "a", torch.device("cpu"), weights_sha256="0"))
    ids = CLASSES.seen_ids
    assert torch.equal(
        again.with_text_tower(TOWER).logits(scored_features(name, VALIDATION), ids),
        fitted.logits(scored_features(name, VALIDATION), ids),
    )


@pytest.mark.parametrize("name", [name for name in ALL if name not in RELATIVE])
def test_logits_of_a_class_do_not_depend_on_the_other_candidates(name: str) -> None:
    fitted = fit(name)
    some = torch.tensor([2, 0])
    all_seen = fitted.logits(scored_features(name, VALIDATION), CLASSES.seen_ids)
    torch.testing.assert_close(fitted.logits(scored_features(name, VALIDATION), some), all_seen[:, some])


@pytest.mark.parametrize("name", ALL)
def test_logits_of_an_image_do_not_depend_on_the_others(name: str) -> None:
    fitted, ids = fit(name), CLASSES.seen_ids
    five = scored_features(name, VALIDATION)[:5]
    together = fitted.logits(five, ids)
    apart = torch.cat([fitted.logits(row[None], ids) for row in five])
    torch.testing.assert_close(apart, together)


@pytest.mark.parametrize("name", ALL)
def test_fitting_changes_none_of_its_inputs(name: str) -> None:
    before = [TRAIN.features.clone(), CLASSES.text_features.clone()]
    tower = {key: value.clone() for key, value in TOWER.state_dict().items()}
    fitted = fit(name, SYNTHETIC if name in WITH_SYNTHETIC else None)
    assert torch.equal(TRAIN.features, before[0])
    assert torch.equal(CLASSES.text_features, before[1])
    assert all(torch.equal(value, tower[key]) for key, value in TOWER.state_dict().items())
    assert all(parameter.grad is None for parameter in TOWER.parameters())
    assert not any(tensor.requires_grad for tensor in fitted.state().values())


@pytest.mark.parametrize("name", [name for name in ALL if name not in {*PROMPTS, "plot", "zero_shot"}])
def test_a_method_learns_separable_features(name: str) -> None:
    held_out = features([0, 1, 2, 3], 20, 1)
    right = fit(name).logits(held_out.centre, CLASSES.seen_ids).argmax(1) == held_out.labels
    assert float(right.float().mean()) >= 0.99


def prompted(texts: torch.Tensor, seed: int) -> LabelledFeatures:
    """Return eight images of each class, near its text feature (C, D)."""
    labels = torch.arange(len(texts)).repeat_interleave(8)
    noise = 0.02 * torch.randn(len(labels), 1, texts.shape[1], generator=stream(seed, "noise"))
    return LabelledFeatures(texts[labels][:, None] + noise, labels)


@pytest.mark.parametrize("name", PROMPTS)
def test_learned_prompts_separate_what_a_hidden_prompt_separates(name: str) -> None:
    hidden = initial_context(TOWER, "a photo of a", 4, stream(6, "hidden"), method=name)
    hidden = hidden + torch.randn(1, 4, 16, generator=stream(6, "hidden"))
    with torch.no_grad():
        texts = class_weights(TOWER, hidden, CLASSES.tokens)[0][CLASSES.seen_ids]
    train, held_out = prompted(texts, 0), prompted(texts, 1)
    rng = stream(1, "finetune")
    fitted = method(name, **PROMPTS[name]).fit(
        FitData(train, CLASSES, synthetic=None, validation=held_out, tower=TOWER, rng=rng)
    )

    def accuracy(logits: torch.Tensor) -> float:
        return float((logits.argmax(1) == held_out.labels).float().mean())

    assert accuracy(held_out.centre @ CLASSES.text_features[CLASSES.seen_ids].T) == 0
    assert accuracy(fitted.with_text_tower(TOWER).logits(held_out.centre, CLASSES.seen_ids)) >= 0.99


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: compares it with the CPU")
@pytest.mark.parametrize("name", ALL)
def test_a_gpu_gives_the_logits_of_the_cpu(name: str) -> None:
    cuda, ids = torch.device("cuda"), CLASSES.seen_ids
    rng, tower = stream(1, "finetune"), copy.deepcopy(TOWER).to(cuda)
    given = {"synthetic": None, "validation": VALIDATION.to(cuda), "tower": tower, "rng": rng}
    fitted = method(name).fit(FitData(TRAIN.to(cuda), CLASSES.to(cuda), **given)).with_text_tower(tower)
    found = fitted.logits(scored_features(name, VALIDATION).to(cuda), ids.to(cuda)).cpu()
    torch.testing.assert_close(found, fit(name).logits(scored_features(name, VALIDATION), ids), rtol=0.05, atol=0.5)


@pytest.mark.parametrize("name", WITH_SYNTHETIC)
def test_synthetic_features_lower_the_loss_on_unseen_classes(name: str) -> None:
    held_out = features([4, 5], 20, 1)

    def loss(classifier: Classifier) -> float:
        logits = classifier.logits(held_out.centre, torch.arange(len(CLASSES)))
        return float(F.cross_entropy(logits, held_out.labels))

    fitted = fit(name, SYNTHETIC)
    if name in KNOWS_THE_UNSEEN:
        assert loss(fitted) < loss(fit(name))
    else:
        chosen = fitted.logits(held_out.centre, torch.arange(len(CLASSES))).argmax(1)
        assert float((chosen == held_out.labels).float().mean()) >= 0.99


@pytest.mark.parametrize("name", sorted(set(ALL) - set(KNOWS_THE_UNSEEN)))
def test_a_method_that_needs_images_cannot_score_unseen_classes(name: str) -> None:
    fitted = fit(name)
    assert fitted.scored.tolist() == CLASSES.seen.tolist()
    with pytest.raises(InputError, match="2 of 6 classes"):
        fitted.logits(scored_features(name, VALIDATION), torch.arange(6))


@pytest.mark.parametrize("name", ALL)
def test_scoring_rejects_features_of_another_dimension_or_not_finite(name: str) -> None:
    fitted, ids = fit(name), CLASSES.seen_ids
    with pytest.raises(InputError, match=r"31 dimensions.* 32"):
        fitted.logits(scored_features(name, VALIDATION)[..., :31], ids)
    broken = scored_features(name, VALIDATION).clone()
    broken[1, ..., 2] = torch.nan
    with pytest.raises(InputError, match="1 of 12 features are NaN or infinite"):
        fitted.logits(broken, ids)


def test_fitting_rejects_all_unusable_features_in_one_error() -> None:
    broken = LabelledFeatures(TRAIN.features.clone(), TRAIN.labels.clone())
    broken.features[3, 1, 5] = torch.inf
    broken.labels[0] = 6
    unseen = tiny.with_patches(VALIDATION)
    assert unseen.patches is not None
    unseen.patches[2, 4, 1] = torch.nan
    short = LabelledFeatures(VALIDATION.features[..., :31], VALIDATION.labels)
    with pytest.raises(InputError, match="3 problems") as caught:
        check_usable(CLASSES, train=broken, validation=short, synthetic=None)
    for part in (
        "train: 1 of 32 images have features that are NaN or infinite",
        "train: 1 of 32 labels",
        "validation: features have 31 dimensions, but text features have 32",
    ):
        assert part in str(caught.value)
    with pytest.raises(InputError, match="validation: 1 of 12 images have features that are NaN or infinite"):
        check_usable(CLASSES, validation=unseen)
    check_usable(CLASSES, train=TRAIN, validation=VALIDATION, synthetic=SYNTHETIC)


def saved(folder: Path, *, broken: bool = False) -> TrainTask:
    """Write the small task, if wanted with a feature that is not a number, and return it."""
    features = TRAIN.features.numpy().astype(np.float16)
    if broken:
        features[3, 1, 5] = np.nan
    header = Header("d", "d", "t", "base_to_new", 8, ("base", "new"), "tiny", TOWER.config.weights_sha256)
    save_train(folder / "train.h5", header, CLASSES, {1: Rows(features, TRAIN.labels.numpy(), np.arange(32))})
    return load_train(folder / "train.h5")


def test_unusable_features_stop_stage_fit_before_it_writes(tmp_path: Path) -> None:
    task, out = saved(tmp_path, broken=True), tmp_path / "out"
    with pytest.raises(InputError, match="train: 1 of 32 images have features that are NaN or infinite"):
        fit_step(method("coop"), task, task, seeds=[1], tower=TOWER, synthetic=None, device=CPU, out=out)
    assert not out.exists()


def test_stage_fit_keeps_what_was_searched_and_prints_the_end_of_a_range(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task, out = saved(tmp_path), tmp_path / "out"
    settings = method("tip_adapter", alpha_points=2, beta_points=1)  # equal accuracies: the lowest alpha
    fit_step(settings, task, task, seeds=[1], tower=None, synthetic=None, device=CPU, out=out)
    alpha, beta = read_searches(out / "searches.csv")
    assert alpha == (1, Search("alpha", 0.1, 0.1, 5.05))
    assert not beta[1].at_edge
    (line,) = capsys.readouterr().err.splitlines()
    assert "alpha ended at 0.1" in line
