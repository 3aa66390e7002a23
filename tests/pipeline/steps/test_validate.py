"""Folds of the seen classes, fits on them, and the offsets and the run that `select` makes of their logits."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import yaml
from project_root import ROOT
from small_task import CLASSES, SYNTHETIC, TOWER, TRAIN, VALIDATION, fit, method

from features.errors import InputError
from features.formats.seal import write_sealed_json
from features.formats.tensors import save_tensors
from pipeline.artifacts.balanced_scores import read_balanced_scores
from pipeline.artifacts.logits import TASK, RunLogits, read_logits, write_logits
from pipeline.artifacts.paths import EncoderPaths, TaskPaths, logits_file, weights
from pipeline.artifacts.selection import Candidate, Predicted, Selection
from pipeline.artifacts.task import Header, Rows, TrainTask, load_task, load_train, save_train
from pipeline.methods.base import FitData
from pipeline.metrics.balance import margins_of
from pipeline.steps.evaluate_balanced import evaluate_balanced
from pipeline.steps.synthesize_folds import synthesize_folds
from pipeline.steps.validate import validate, validate_seed
from pipeline.training.data import LabelledFeatures
from pipeline.training.folds import folds
from pipeline.training.seeds import stream

SHA = "0" * 64
HEADER = Header("d", "d", "t", "own_images", 8, ("seen", "unseen"), "tiny", SHA)
CPU = torch.device("cpu")
SEEN = CLASSES.subset(CLASSES.seen_ids)


def rows(images: LabelledFeatures) -> Rows:
    return Rows(images.features.numpy().astype(np.float16), images.labels.numpy(), np.arange(len(images)))


def cell(folder: Path, train: LabelledFeatures = TRAIN, validation: LabelledFeatures = VALIDATION) -> TaskPaths:
    """Write the files of the small task, without test images."""
    paths = EncoderPaths(folder).cell("d", "t")
    save_train(paths.train, HEADER, SEEN, {1: rows(train)})
    save_train(paths.validation, HEADER, SEEN, {1: rows(validation)})
    save_train(paths.unseen, HEADER, CLASSES.subset(CLASSES.unseen_ids), {})
    return paths


def validated(paths: TaskPaths, name: str, generator: str | None = None, task: TrainTask | None = None) -> RunLogits:
    """Return the logits of a method on the small task and on its folds."""
    run = name if generator is None else f"{name}+{generator}"
    fitted = fit(name, None if generator is None else SYNTHETIC)
    save_tensors(fitted.state(), weights(paths.fitted(run), 1), weights_sha256=SHA)
    validate(
        method(name),
        task or load_task(paths),
        load_train(paths.validation),
        seeds=[1],
        tower=TOWER,
        fitted=paths.fitted(run),
        synthetic=paths.fold_features(generator) if generator else None,
        device=CPU,
        out=paths.validation_logits(run),
    )
    return read_logits(logits_file(paths.validation_logits(run), 1))


def test_runs_are_not_selected_on_test_images(tmp_path: Path) -> None:
    paths = cell(tmp_path)
    header = replace(HEADER, validation_from="test")
    save_train(paths.validation, header, SEEN, {1: rows(VALIDATION)})
    assert load_train(paths.validation).header == header
    with pytest.raises(InputError, match=r"grid\.select"):
        validated(paths, "zero_shot")


def test_every_seen_class_plays_unseen_in_exactly_one_fold() -> None:
    one, two = folds(tiny.classes(TOWER, seen=5).subset(torch.arange(5)))
    assert (one.seen.tolist(), two.seen.tolist()) == (
        [True, False, True, False, True],
        [False, True, False, True, False],
    )
    for fold in (one, two):
        assert fold.classes.seen.tolist() == sorted(fold.seen.tolist(), reverse=True), "those with images come first"
        assert [fold.classes.names[i] for i in fold.position.tolist()] == list(tiny.NAMES[:5])
    assert list(folds(SEEN.subset(torch.tensor([0])))) == [], "a single class cannot be divided"


def test_a_fold_has_the_images_of_its_classes_with_the_labels_of_the_fold() -> None:
    _, fold = folds(SEEN)
    images = fold.images(TRAIN)
    kept = np.isin(TRAIN.labels.numpy(), [1, 3])
    torch.testing.assert_close(images.features, TRAIN.features[kept])
    assert images.patches is not None
    assert TRAIN.patches is not None
    torch.testing.assert_close(images.patches, TRAIN.patches[kept])
    assert [fold.classes.names[label] for label in images.labels.tolist()] == [
        tiny.NAMES[label] for label in TRAIN.labels[kept].tolist()
    ]


@pytest.mark.parametrize("name", ["zero_shot", "taskres", "cocoop"])
def test_the_logits_of_the_task_are_those_of_the_classifier(name: str, tmp_path: Path) -> None:
    logits = validated(cell(tmp_path), name)
    images = rows(VALIDATION).tensors()
    expected = fit(name).logits(images.centre, torch.arange(6))
    np.testing.assert_allclose(logits.seeds[1][TASK], expected.numpy(), rtol=2e-3, atol=1e-2)
    assert logits.seen[TASK].tolist() == [True] * 4 + [False] * 2
    assert logits.seeds[1]["fold1"].shape == (len(VALIDATION), 4)
    assert [logits.seen[name].tolist() for name in ("fold1", "fold2")] == [[True, False] * 2, [False, True] * 2]
    np.testing.assert_array_equal(
        logits.margins[1][TASK].margin,
        margins_of(expected, VALIDATION.labels.numpy(), logits.seen[TASK]).margin,
    )


def test_images_of_the_classes_that_play_unseen_influence_neither_a_fit_nor_a_generator(tmp_path: Path) -> None:
    changed = TRAIN.features.clone()
    changed[np.isin(TRAIN.labels.numpy(), [1, 3])] *= -1  # these play unseen in the first fold
    results = []
    for name, train in (("same", TRAIN), ("changed", replace(TRAIN, features=changed))):
        paths = cell(tmp_path / name, train)
        fold_features(paths)
        results.append(validated(paths, "clip_adapter", "ship").seeds[1])
    np.testing.assert_array_equal(results[0]["fold1"], results[1]["fold1"])
    assert (results[0]["fold2"] != results[1]["fold2"]).any()


def test_a_fit_on_a_fold_takes_what_the_run_searched_on_validation_images() -> None:
    searched = replace(fit("gda"), alpha=torch.tensor(0.002))  # type: ignore[call-arg]  # of no search
    data = FitData(TRAIN, CLASSES, synthetic=None, validation=VALIDATION, tower=TOWER, rng=stream(1))
    logits = validate_seed(method("gda"), searched, data, seed=1, fold_features=lambda _: None)

    fold = next(folds(SEEN))
    on_fold = replace(data, train=fold.images(TRAIN), classes=fold.classes, validation=fold.images(VALIDATION))
    expected = replace(method("gda").fit(on_fold), alpha=torch.tensor(0.002))  # type: ignore[call-arg]
    np.testing.assert_array_equal(
        logits.seeds[1][fold.name], expected.logits(VALIDATION.centre, fold.position).numpy().astype(np.float16)
    )


def fold_features(paths: TaskPaths) -> None:
    """Write the synthetic features of a small SHIP."""
    from pipeline.generators.ship import Ship  # noqa: PLC0415

    generator = Ship.model_validate({"encoder_width": 16, "generator_width": 16, "epochs": 2})
    options = {"seeds": [1], "per_class": 4, "tower": TOWER, "device": CPU}
    synthesize_folds(generator, load_train(paths.train), out=paths.fold_features("ship"), **options)  # type: ignore[arg-type]


def test_test_images_and_unseen_images_reach_no_stage_before_the_balanced_evaluation() -> None:
    """By the graph: they lie in `test.h5` alone, and what `evaluate` makes of them in `logits` and `scores`."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for name in ("synthesize_folds", "validate", "validate_synthetic", "select"):
        for dep in stages[name]["deps"]:
            assert not any(part in dep for part in ("test.h5", "/logits/", "/scores/", "/features/")), (name, dep)


def test_a_poisoned_test_file_changes_no_byte_of_the_validation(tmp_path: Path) -> None:
    names = ("clean", "poisoned")
    for name in names:
        paths = cell(tmp_path / name)
        if name == "poisoned":
            nothing = np.full((9, 1, 32), np.nan, np.float16)
            poison = Rows(nothing, np.arange(9) % 6, np.arange(9))
            save_train(paths.test, HEADER, CLASSES, {1: poison})
        fold_features(paths)
        validated(paths, "taskres", "ship")
    one, two = (EncoderPaths(tmp_path / name).cell("d", "t") for name in names)
    for kind in (TaskPaths.validation_logits, TaskPaths.fold_features):
        run = "taskres+ship" if kind is TaskPaths.validation_logits else "ship"
        files = [{p.name: p.read_bytes() for p in kind(paths, run).rglob("*") if p.is_file()} for paths in (one, two)]
        assert files[0] == files[1]


def test_without_unseen_classes_there_are_no_folds(tmp_path: Path) -> None:
    paths = cell(tmp_path)
    logits = validated(paths, "taskres", task=load_train(paths.train))
    assert list(logits.seeds[1]) == [TASK]
    assert logits.seeds[1][TASK].shape == (len(VALIDATION), 4)


def test_a_run_that_cannot_score_every_class_has_no_logits_of_the_task(tmp_path: Path) -> None:
    assert validated(cell(tmp_path), "tip_adapter").seeds[1] == {}


def test_a_failed_fit_on_a_fold_is_kept_with_its_reason(tmp_path: Path) -> None:
    paths = cell(tmp_path)
    save_tensors(fit("taskres").state(), weights(paths.fitted("taskres"), 1), weights_sha256=SHA)
    broken = method("taskres", learning_rate=1e30)
    options = {"seeds": [1], "tower": TOWER, "synthetic": None, "device": CPU}
    validate(
        broken,
        load_task(paths),
        load_train(paths.validation),
        fitted=paths.fitted("taskres"),
        out=paths.validation_logits("taskres"),
        **options,  # type: ignore[arg-type]
    )
    logits = read_logits(logits_file(paths.validation_logits("taskres"), 1))
    assert set(logits.problems) == {"fold1", "fold2"}
    assert list(logits.seeds[1]) == [TASK]


def test_the_balanced_scores_are_the_test_logits_with_the_offset(tmp_path: Path) -> None:
    paths = EncoderPaths(tmp_path).cell("d", "t")
    rng = np.random.default_rng(0)
    labels, seen = np.arange(24) % 6, np.arange(6) < 4
    values = (rng.normal(size=(24, 6)) + 2 * np.eye(6)[labels] + seen).astype(np.float32)
    parts = {"seen": labels < 4, "unseen": labels >= 4}
    write_logits(
        paths.logits("taskres"),
        RunLogits(
            labels={name: labels[part] for name, part in parts.items()},
            seeds={1: {name: values[part].astype(np.float16) for name, part in parts.items()}},
            seen=dict.fromkeys(parts, seen),
            margins={1: {name: margins_of(torch.from_numpy(values[p]), labels[p], seen) for name, p in parts.items()}},
        ),
    )
    write_logits(paths.logits("tip_adapter"), RunLogits({"seen": labels[labels < 4]}, {1: {}}))
    predicted = Predicted(seen=1.0, unseen=1.0)
    runs = (
        Candidate(run="taskres", plain=predicted, balanced=predicted, offsets={1: 0.9}, score=1.0, temperature=0.5),
        Candidate(run="tip_adapter", reason="it cannot score every class"),
    )
    selection = Selection(dataset="d", task="t", run="taskres", seed=1, images=4, confidence=100.0, runs=runs)
    write_sealed_json(paths.selection, selection.model_dump(mode="json"))
    evaluate_balanced(paths, seeds=[1])

    with_offset, without = read_balanced_scores(paths.balanced).runs
    hits = (values - 0.9 * seen).argmax(1) == labels
    of_class = [100 * hits[labels == label].mean() for label in range(6)]
    s, u = np.mean(of_class[:4]), np.mean(of_class[4:])
    scores = with_offset.seeds[1]
    assert (scores.seen, scores.unseen, scores.harmonic_mean) == pytest.approx((s, u, 2 * s * u / (s + u)))
    assert (without.seeds, without.reason) == ({}, "it cannot score every class")

    calibrated = [one for one in with_offset.reliability if one.eval_split == "unseen"]
    of_split = labels[labels >= 4]
    assert sum(one.images for one in calibrated) == len(of_split)
    right = sum(one.images * one.accuracy for one in calibrated) / len(of_split)
    assert right == pytest.approx(100 * hits[labels >= 4].mean(), abs=0.01), "the offset is applied"
    assert without.reliability == ()

    shutil.rmtree(paths.logits("taskres").parent)
    with pytest.raises(InputError, match=r"taskres\.h5"):
        evaluate_balanced(paths, seeds=[1])
