"""`select`: the run that validation prefers, on which images, and how sure that is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_task
import tiny
import torch
from torch.nn import functional as F

from features.synthetic_store import SyntheticFeatures, save_synthetic
from features.tensors import save_tensors
from pipeline.arrays import LabelledFeatures
from pipeline.choice import Choice, choice_text, read_choice
from pipeline.choosing import Judged, choose, fit_temperature
from pipeline.methods.base import Classifier, LinearClassifier, everything_scored, scale_of
from pipeline.paths import TaskPaths, weights
from pipeline.scores import Cell
from pipeline.task_store import Header, Rows, save_train

SHA = "0" * 64
HEADER = Header("mine", "mine", "mine", "own_images", None, None, "tiny", SHA)
ALL = [Cell("mine", "mine", *run) for run in (("zero_shot", None), ("taskres", None), ("taskres", "ship"))]
ALL.append(Cell("mine", "mine", "tip_adapter", None))


def rows_of(found: LabelledFeatures, start: int = 0) -> Rows:
    return Rows(found.features.numpy().astype(np.float16), found.labels.numpy(), start + np.arange(len(found)))


def made_up(run: str) -> Classifier:
    """A classifier that takes two seen classes for one another, two unseen ones, or none; or that cannot score them."""
    order = {"zero_shot": [1, 0, 2, 3, 4, 5], "taskres": [0, 1, 2, 3, 5, 4]}.get(run, list(range(6)))
    if run == "tip_adapter":
        return small_task.fit(run)
    classes = small_task.CLASSES
    return LinearClassifier(scale_of(classes), everything_scored(classes), weights=tiny.centres(6, 32)[order])


def chosen(
    tmp_path: Path,
    *,
    images: LabelledFeatures = small_task.VALIDATION,
    draws: LabelledFeatures | None = small_task.SYNTHETIC,
    cells: list[Cell] = ALL,
) -> Choice:
    """The choice among runs that are fitted on a small task, with seeds 1 and 2."""
    cell = TaskPaths(tmp_path, "mine", "mine")
    seeds = (1, 2)
    save_train(cell.validation_images, HEADER, small_task.CLASSES, dict.fromkeys(seeds, rows_of(images)))
    for seed in seeds:
        if draws is not None:
            ids = draws.labels.numpy()
            names = [tiny.NAMES[i] for i in ids]
            made = SyntheticFeatures(draws.centre.numpy().astype(np.float16), ids, names, seed, SHA)
            save_synthetic(made, cell.held_out("ship") / f"seed={seed}")
        for one in cells:
            save_tensors(made_up(one.run).state(), weights(cell.fitted(one.run), seed), weights_sha256=SHA)
    choose(cell, cells, seeds=seeds, tower=None, device=torch.device("cpu"))
    return read_choice(cell.chosen)


def test_the_run_that_is_right_about_seen_and_unseen_is_chosen(tmp_path: Path) -> None:
    choice = chosen(tmp_path)
    assert (choice.run, choice.method, choice.seed) == ("taskres+ship", "taskres", 1)
    assert (choice.images, choice.draws) == (len(small_task.VALIDATION), 2 * len(small_task.SYNTHETIC))
    best, plain, zero = (choice.of(run) for run in ("taskres+ship", "taskres", "zero_shot"))
    assert best
    assert plain
    assert zero
    assert (best.seen, best.unseen, best.score, best.low) == (100, 100, 100, 100)
    assert (plain.seen, plain.unseen, plain.score) == (100, 0, 0)
    assert (zero.seen, zero.unseen) == (50, 100)
    assert zero.score == pytest.approx(200 / 3)
    assert choice.confidence == 100
    text = choice_text(choice)
    assert "`taskres+ship`, seed" in text
    assert "zero_shot: " in text
    assert "no photograph of an unseen class was at hand" in text


def test_a_run_that_cannot_score_a_class_is_named_with_its_reason_and_not_chosen(tmp_path: Path) -> None:
    found = chosen(tmp_path).of("tip_adapter")
    assert found
    assert found.score is None
    assert "cannot be scored" in (found.reason or "")


def test_the_same_validation_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        chosen(tmp_path / name, cells=ALL[:3])
    path = "chosen/mine/mine.json"
    assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()


def test_without_draws_the_images_alone_decide(tmp_path: Path) -> None:
    choice = chosen(tmp_path, draws=None, cells=ALL[:2])
    assert choice.draws == 0
    assert all(run.unseen is None and run.score == run.seen for run in choice.runs)


def test_without_any_validation_the_first_run_is_taken_and_nothing_is_claimed(tmp_path: Path) -> None:
    choice = chosen(tmp_path, images=small_task.NO_VALIDATION, draws=None, cells=ALL[:2])
    assert choice.run == "zero_shot"
    assert choice.confidence is None
    assert choice.temperature is None
    assert "no validation image" in choice_text(choice)


def test_accuracies_are_means_over_classes_and_the_bootstrap_varies_around_them() -> None:
    labels = torch.tensor([0] * 90 + [1] * 10)
    hits = np.array([[1.0] * 90 + [0.0] * 10, [1.0] * 45 + [0.0] * 45 + [1.0] * 5 + [0.0] * 5])
    found = Judged(labels, hits).accuracies(4000, np.random.default_rng(0))
    np.testing.assert_allclose(found[0], [50, 50])
    np.testing.assert_allclose(found[1:, 0], 50)  # hits that do not vary within a class leave nothing to chance
    assert found[1:, 1].mean() == pytest.approx(50, abs=0.5)
    # Half of two means of 90 and of 10 coin tosses.
    assert found[1:, 1].std() == pytest.approx(100 * np.sqrt(0.25 / 90 + 0.25 / 10) / 2, rel=0.05)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 7.0])
def test_the_temperature_that_made_the_labels_is_found(temperature: float) -> None:
    rng = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(20_000, 5, generator=rng)
    labels = torch.multinomial(F.softmax(logits / temperature, dim=1), 1, generator=rng).squeeze(1)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)
