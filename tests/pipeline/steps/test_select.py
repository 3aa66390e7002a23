"""Tests of `select`: the selected run, the confidence of the selection, and the fitted temperatures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from features.errors import InputError
from pipeline.artifacts.logits import RunLogits, read_logits, write_logits
from pipeline.artifacts.paths import TaskPaths
from pipeline.artifacts.selection import (
    HIGHEST,
    LOWEST,
    Selection,
    calibration_warning,
    read_selection,
    selection_text,
)
from pipeline.metrics.calibration import fit_temperature
from pipeline.steps.select import bootstrap, select

# Four images of two seen classes, 0 and 1, and three of the unseen classes 2 and 3; classes are not of equal size.
LABELS = {"seen": np.array([0, 0, 0, 1]), "unseen": np.array([2, 2, 3])}
Predictions = dict[int, dict[str, list[int]]]  # seed -> evaluation split -> predicted class of each image


def logits_of(predictions: Predictions, margin: float = 4.0) -> RunLogits:
    """Return logits that are `margin` for the predicted class and 0 for the three others."""
    return RunLogits(
        LABELS,
        {
            seed: {name: (margin * np.eye(4)[ids]).astype(np.float16) for name, ids in by_split.items()}
            for seed, by_split in predictions.items()
        },
    )


RIGHT = {"seen": [0, 0, 0, 1], "unseen": [2, 2, 3]}
SEEN_ALONE = {"seen": [0, 0, 0, 1], "unseen": [0, 1, 0]}
HALF = {"seen": [0, 0, 3, 1], "unseen": [2, 2, 0]}  # seen: (2/3 + 1) / 2 = 5/6; unseen: (1 + 0) / 2 = 1/2
RUNS = {
    "zero_shot": logits_of({1: HALF, 2: HALF}),
    "coop": logits_of({1: SEEN_ALONE, 2: SEEN_ALONE}),
    "coop+ship": logits_of({1: RIGHT, 2: HALF}),
    "tip_adapter": logits_of({seed: {"seen": RIGHT["seen"]} for seed in (1, 2)}),  # no scores of unseen classes
}
H = 2 * (5 / 6) * (1 / 2) / (5 / 6 + 1 / 2)


def selected(tmp_path: Path, runs: dict[str, RunLogits] = RUNS, seeds: tuple[int, ...] = (1, 2)) -> Selection:
    cell = TaskPaths(tmp_path, "mine", "mine")
    for run, logits in runs.items():
        write_logits(cell.proxy.logits(run), logits)
    select(cell, list(runs), seeds=seeds)
    return read_selection(cell.selection)


def test_the_run_with_the_highest_mean_h_is_selected_with_the_first_seed(tmp_path: Path) -> None:
    selection = selected(tmp_path)
    assert (selection.dataset, selection.task, selection.run, selection.seed) == ("mine", "mine", "coop+ship", 1)
    assert selection.images == {"seen": 4, "unseen": 3}
    zero, plain, best, unable = selection.runs
    assert zero.accuracies == pytest.approx({"seen": 500 / 6, "unseen": 50})
    assert zero.score == pytest.approx(100 * H)
    assert (plain.accuracies, plain.score) == ({"seen": 100, "unseen": 0}, 0)
    assert best.accuracies == pytest.approx({"seen": (100 + 500 / 6) / 2, "unseen": 75})
    assert best.score == pytest.approx((100 + 100 * H) / 2)
    assert (unable.accuracies, unable.score, unable.temperature) == ({}, None, None)


def test_runs_are_compared_on_the_same_samples(tmp_path: Path) -> None:
    """In every sample the best run's first seed is right throughout and its second as good as zero-shot."""
    selection = selected(tmp_path)
    zero, _, best, _ = selection.runs
    assert selection.confidence == 100
    assert best.low is not None
    assert best.high is not None
    assert zero.low is not None
    assert zero.high is not None
    assert best.low == pytest.approx((100 + zero.low) / 2)
    assert best.high == pytest.approx((100 + zero.high) / 2)
    assert zero.high == pytest.approx(200 / 3)  # of three images of class 0 none of those drawn is the wrong one


def test_of_equal_runs_the_first_of_the_grid_is_selected(tmp_path: Path) -> None:
    selection = selected(tmp_path, {"b": RUNS["zero_shot"], "a": RUNS["zero_shot"]})
    assert (selection.run, selection.confidence) == ("b", 0)


def test_confidence_is_the_probability_that_a_sample_contains_a_deciding_image(tmp_path: Path) -> None:
    """One of three images of a class decides: it is in a sample of three with probability 1 - (2/3)^3 = 19/27."""
    one = {"seen": [0, 0, 3, 1], "unseen": RIGHT["unseen"]}
    selection = selected(tmp_path, {"worse": logits_of({1: one}), "better": logits_of({1: RIGHT})}, seeds=(1,))
    assert selection.run == "better"
    assert selection.confidence == pytest.approx(100 * 19 / 27, abs=5)  # 1000 samples: three standard errors are 4.3


def test_without_unseen_classes_the_seen_accuracy_decides(tmp_path: Path) -> None:
    def alone(run_logits: RunLogits) -> RunLogits:
        seen = {seed: {"seen": by_split["seen"]} for seed, by_split in run_logits.seeds.items()}
        return RunLogits({"seen": LABELS["seen"]}, seen)

    selection = selected(tmp_path, {run: alone(RUNS[run]) for run in ("zero_shot", "coop", "tip_adapter")})
    assert selection.run == "coop"
    assert selection.images == {"seen": 4}
    assert [run.score for run in selection.runs] == pytest.approx([500 / 6, 100, 100])
    assert " H " not in selection_text(selection)


def test_a_temperature_is_fitted_to_each_run_with_classes_weighted_equally(tmp_path: Path) -> None:
    """Right with probability q in the mean over classes: the softmax is q where T = margin / ln(3 q / (1 - q))."""
    (zero,) = selected(tmp_path, {"zero_shot": RUNS["zero_shot"]}).runs
    right = (2 / 3 + 1 + 1 + 0) / 4  # seen and unseen together
    q = 8 / 9 * right + 1 / 9 / 4  # of seven images; the ninth part is for all four classes alike
    assert zero.temperature == pytest.approx(4 / np.log(3 * q / (1 - q)), rel=1e-3)


@pytest.mark.parametrize("temperature", [0.01, 1.0, 7.0, 300.0])
@pytest.mark.parametrize("seeds", [(), (2,)], ids=["one seed", "two seeds"])
def test_the_temperature_that_generated_the_labels_is_recovered(temperature: float, seeds: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    sure = 5 * rng.standard_normal((20_000, 5))
    labels = (sure + rng.gumbel(size=sure.shape)).argmax(1)  # draws of the softmax
    logits = np.broadcast_to(sure * temperature, (*seeds, *sure.shape))
    assert fit_temperature(logits, labels, lowest=LOWEST, highest=HIGHEST) == pytest.approx(temperature, rel=0.05)


def test_perfect_predictions_do_not_give_a_probability_of_one() -> None:
    labels = np.repeat(np.arange(4), 10)
    temperature = fit_temperature(20 * np.eye(4)[labels], labels, lowest=LOWEST, highest=HIGHEST)
    probability = 1 / (1 + 3 * np.exp(-20 / temperature))
    assert probability == pytest.approx(41 / 42 + 1 / 42 / 4)  # of forty images


@pytest.mark.parametrize(
    ("predicted", "bound"),
    [([1, 2, 3, 0], HIGHEST), ([0, 1, 2, 3], LOWEST)],
    ids=["always wrong", "right by a small margin"],
)
def test_a_temperature_at_a_bound_causes_a_warning(predicted: list[int], bound: float, tmp_path: Path) -> None:
    labels = {"seen": np.array([0, 1, 2, 3])}
    logits = (10.0 if bound == HIGHEST else 1e-4) * np.eye(4)[predicted]
    run_logits = RunLogits(labels, {1: {"seen": logits.astype(np.float16)}})
    selection = selected(tmp_path, {"zero_shot": run_logits}, seeds=(1,))
    assert selection.runs[0].temperature == bound
    warning = calibration_warning("zero_shot", bound)
    assert warning is not None
    assert "zero_shot" in warning
    assert warning in selection_text(selection)
    assert warning not in selection_text(selected(tmp_path))
    assert calibration_warning("zero_shot", 1.0) is None


def test_the_bootstrap_has_the_variance_of_means_of_coin_tosses() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    hits = np.array([[1.0] * 90 + [0.0] * 10, [1.0] * 45 + [0.0] * 45 + [1.0] * 5 + [0.0] * 5])
    means = bootstrap(hits, labels, 4000, np.random.default_rng(0))
    np.testing.assert_allclose(means[0], [50, 50])
    np.testing.assert_allclose(means[1:, 0], 50)  # hits that are constant within a class have no variance
    assert means[1:, 1].mean() == pytest.approx(50, abs=0.5)
    # Half of two means of 90 and of 10 coin tosses.
    assert means[1:, 1].std() == pytest.approx(100 * np.sqrt(0.25 / 90 + 0.25 / 10) / 2, rel=0.05)


def test_the_same_logits_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        selected(tmp_path / name)
    path = "selection/mine/mine.json"
    assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()


def test_logits_of_other_images_or_seeds_are_rejected_together(tmp_path: Path) -> None:
    other: dict[str, NDArray[np.int64]] = {**LABELS, "unseen": np.array([2, 3, 3])}
    runs = {
        "zero_shot": RUNS["zero_shot"],
        "coop": RunLogits(other, RUNS["coop"].seeds),
        "taskres": logits_of({1: RIGHT}),
    }
    with pytest.raises(InputError, match="dvc repro") as caught:
        selected(tmp_path, runs)
    _, first, second = str(caught.value).splitlines()
    assert "taskres: " in first
    assert "[1]" in first
    assert "[1, 2]" in first
    assert "coop: " in second
    assert "zero_shot" in second


def test_logits_and_labels_are_read_back_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "logits/mine/mine/coop.h5"
    write_logits(path, RUNS["coop"])
    run_logits = read_logits(path)
    assert {name: labels.tolist() for name, labels in run_logits.labels.items()} == {
        name: labels.tolist() for name, labels in LABELS.items()
    }
    for seed, by_split in RUNS["coop"].seeds.items():
        for name, logits in by_split.items():
            np.testing.assert_array_equal(run_logits.seeds[seed][name], logits)
    write_logits(path, RunLogits({"seen": LABELS["seen"]}, RUNS["coop"].seeds))
    with pytest.raises(InputError, match=r"coop\.h5.*seed=1/unseen"):
        read_logits(path)


def test_the_text_shows_the_selected_run_its_confidence_and_the_result_of_every_run(tmp_path: Path) -> None:
    first, images, head, *rows = selection_text(selected(tmp_path)).splitlines()
    assert first.startswith("mine: ")
    assert "`coop+ship`, seed 1" in first
    assert "4 seen and 3 unseen" in images
    assert "100 of 100" in images
    assert head.split() == ["seen", "unseen", "H", "95", "%", "of", "samples"]
    assert [row.split()[0] for row in rows] == list(RUNS)
    assert rows[1].split() == ["coop", "100.0", "0.0", "0.0", "0.0", "to", "0.0"]
    assert rows[3].split() == ["tip_adapter", "–", "–", "–", "–"]
