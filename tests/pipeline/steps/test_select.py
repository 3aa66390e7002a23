"""Tests of `select`: offsets, the selected run, the confidence of the selection, and the fitted temperatures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from features.errors import InputError
from pipeline.artifacts.logits import RunLogits, read_logits, stored, write_logits
from pipeline.artifacts.paths import TaskPaths, logits_file
from pipeline.artifacts.selection import (
    HIGHEST,
    LOWEST,
    Predicted,
    Selection,
    calibration_warning,
    read_selection,
    selection_text,
)
from pipeline.metrics.balance import margins_of
from pipeline.metrics.calibration import fit_temperature
from pipeline.steps.select import Offsets, bootstrap, run_offsets, select

# Two validation images of each of four seen classes; classes 4 and 5 are unseen. Folds keep classes 0 and 2, or the
# other two.
LABELS = np.repeat(np.arange(4), 2)
KINDS = {"task": np.arange(6) < 4, "fold1": np.array([1, 0, 1, 0], bool), "fold2": np.array([0, 1, 0, 1], bool)}
ALL = set(range(8))


def seed_logits(
    seed: int,
    seen: set[int],
    unseen: set[int],
    *,
    preference: float = 0.0,
    wrong_on_fold: bool = False,
    fitted_to_images: bool = True,
    kinds: dict[str, NDArray[np.bool_]] = KINDS,
    labels: NDArray[np.int64] = LABELS,
) -> RunLogits:
    """Return logits of one seed: 4 for the predicted class, 0 for the others, and `preference` for seen classes.

    The images in `seen` are classified correctly when their class is seen, and those in `unseen` when it plays unseen.
    All others are given to the next class of the same kind.
    """
    logits = {}
    for name, kind in kinds.items():
        values = np.tile(preference * kind, (len(labels), 1)).astype(np.float32)
        for i, label in enumerate(labels):
            others = [c for c in np.flatnonzero(kind == kind[label]) if c != label]
            right = i in (seen if kind[label] else unseen) and not (wrong_on_fold and name != "task")
            values[i, label if right else others[0]] += 4.0
        logits[name] = values
    return RunLogits(
        labels=dict.fromkeys(kinds, labels),
        seeds={seed: {name: values.astype(np.float16) for name, values in logits.items()}},
        seen=kinds,
        margins={seed: {name: margins_of(torch.from_numpy(logits[name]), labels, kinds[name]) for name in kinds}},
        fitted_to_images=fitted_to_images,
    )


Run = list[RunLogits]
HALF = {0, 1, 2, 4}  # classes 0 to 2 have 2, 1 and 1 of 2 images
RUNS: dict[str, Run] = {
    "zero_shot": [seed_logits(seed, HALF, HALF, fitted_to_images=False) for seed in (1, 2)],
    "coop": [seed_logits(seed, ALL, set()) for seed in (1, 2)],
    "coop+ship": [seed_logits(1, ALL, ALL), seed_logits(2, HALF, HALF)],
    "tip_adapter": [RunLogits({"task": LABELS}, {seed: {}}, KINDS, {seed: {}}) for seed in (1, 2)],
}


def selected(tmp_path: Path, runs: dict[str, Run] = RUNS, *, balance: bool = True) -> Selection:
    cell = TaskPaths(tmp_path, "mine", "mine")
    seeds: list[int] = []
    for run, logits in runs.items():
        seeds = [seed for values in logits for seed in values.seeds]
        for seed, values in zip(seeds, logits, strict=True):
            write_logits(logits_file(cell.validation_logits(run), seed), values)
    select(cell, list(runs), seeds=seeds, balance=balance)
    return read_selection(cell.selection)


def test_the_run_with_the_highest_h_is_selected_with_the_first_seed(tmp_path: Path) -> None:
    selection = selected(tmp_path)
    assert (selection.dataset, selection.task, selection.run, selection.seed) == ("mine", "mine", "coop+ship", 1)
    assert selection.images == 8
    zero, plain, best, unable = selection.runs
    assert zero.balanced == Predicted(seen=50, unseen=50)
    assert (plain.balanced, plain.score) == (Predicted(seen=100, unseen=0), 0)
    assert best.balanced == Predicted(seen=75, unseen=75)
    assert (zero.score, best.score) == pytest.approx((50, 75))
    assert (unable.balanced, unable.score, unable.temperature) == (None, None, None)
    assert unable.reason


def test_runs_are_compared_on_the_same_samples(tmp_path: Path) -> None:
    """In every sample the best run's first seed is right throughout and its second as good as zero-shot.

    So it is better, unless zero-shot is right throughout, too: four draws of a class without an image that it gets
    wrong. The classes have none, one, one and two of these among two images.
    """
    selection = selected(tmp_path)
    assert selection.confidence == pytest.approx(100 * (1 - (1 / 4 + 2 / 16) ** 4), abs=1.4)  # three standard errors


def test_of_equal_runs_the_first_of_the_grid_is_selected(tmp_path: Path) -> None:
    selection = selected(tmp_path, {"b": RUNS["zero_shot"], "a": RUNS["zero_shot"]})
    assert (selection.run, selection.confidence) == ("b", 0)


@pytest.mark.parametrize(
    ("kinds", "chance"),
    [
        pytest.param({"task": np.ones(4, bool)}, 3 / 4, id="the classes are the judged ones"),
        # The class is drawn k of four times, and the image is missing with probability 1 / 4^k.
        pytest.param(KINDS, 1 - (3 / 4 + 1 / 16) ** 4, id="other classes are judged, too"),
    ],
)
def test_confidence_is_the_probability_that_a_sample_contains_a_deciding_image(
    kinds: dict[str, NDArray[np.bool_]], chance: float, tmp_path: Path
) -> None:
    """One of two images of a class decides."""
    worse, better = ([seed_logits(1, seen, ALL, kinds=kinds)] for seen in (ALL - {7}, ALL))
    selection = selected(tmp_path, {"worse": worse, "better": better})
    assert selection.run == "better"
    assert selection.confidence == pytest.approx(100 * chance, abs=5)  # 1000 samples: three standard errors are 4.7


def test_a_run_that_prefers_seen_classes_gets_an_offset_and_is_compared_with_it(tmp_path: Path) -> None:
    """Every class is recognized among its own kind, but seen classes are 10 higher: the offset lies within 6 and 14."""
    runs = {
        "zero_shot": RUNS["zero_shot"],
        "taskres": [seed_logits(seed, ALL, ALL, preference=10.0) for seed in (1, 2)],
    }
    zero, balanced = selected(tmp_path / "a", runs).runs
    assert (zero.offsets, balanced.plain) == ({1: 0.0, 2: 0.0}, Predicted(seen=100, unseen=0))
    assert all(6 < offset < 14 for offset in balanced.offsets.values())
    assert balanced.balanced == Predicted(seen=100, unseen=100)
    assert balanced.score == pytest.approx(100)
    selection = selected(tmp_path / "b", runs, balance=False)
    assert selection.run == "zero_shot"
    assert [(run.offsets[1], run.score) for run in selection.runs] == [(0.0, 50.0), (0.0, 0.0)]


SMALL = {"task": np.array([1, 1, 1, 0], bool), "fold1": np.array([1, 0, 1], bool), "fold2": np.array([0, 1, 0], bool)}


@pytest.mark.parametrize(
    ("logits", "part"),
    [
        (seed_logits(1, ALL, ALL, preference=9.0, fitted_to_images=False), "not fitted"),
        (seed_logits(1, ALL, ALL, preference=9.0, wrong_on_fold=True), "half as accurate"),
        (seed_logits(1, ALL, set(), preference=9.0), "0 at every offset"),
    ],
    ids=["zero-shot", "trained badly", "hopeless"],
)
def test_an_offset_that_cannot_be_known_is_zero_with_the_reason(logits: RunLogits, part: str, tmp_path: Path) -> None:
    selection = selected(tmp_path, {"run": [logits]})
    (run,) = selection.runs
    assert run.offsets == {1: 0.0}
    assert run.reason is not None
    assert part in run.reason
    assert run.plain == run.balanced
    assert run.reason in selection_text(selection)


def test_a_fold_with_one_class_on_a_side_gives_no_offset(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(3), 2)
    logits = RunLogits(
        labels=dict.fromkeys(SMALL, labels),
        seeds={1: {name: np.eye(len(kind), dtype=np.float16)[labels] for name, kind in SMALL.items()}},
        seen=SMALL,
        margins={
            1: {
                name: margins_of(torch.eye(len(kind))[torch.from_numpy(labels)], labels, kind)
                for name, kind in SMALL.items()
            }
        },
    )
    (run,) = selected(tmp_path, {"taskres": [logits]}).runs
    assert run.offsets == {1: 0.0}
    assert run.reason is not None
    assert "1 class " in run.reason


def test_one_unseen_class_is_predicted_with_at_most_100_percent_in_every_sample(tmp_path: Path) -> None:
    """It has no other to be confused with, so the hits of folds of two are raised; samples draw those more often."""
    kinds = {**{name: kind[:4] for name, kind in KINDS.items()}, "task": np.arange(5) < 4}
    runs = {"zero_shot": [seed_logits(1, HALF, HALF, kinds=kinds, fitted_to_images=False)]}
    (run,) = selected(tmp_path, runs).runs
    assert run.balanced is not None
    assert run.balanced.unseen == pytest.approx(100)
    assert run.high is not None
    assert run.high <= 100


def test_a_failed_fit_on_a_fold_leaves_the_run_out_with_the_reason(tmp_path: Path) -> None:
    failed = RunLogits({"task": LABELS}, {1: {}}, {}, {1: {}}, problems={"fold1": "training diverged"})
    selection = selected(tmp_path, {"zero_shot": [seed_logits(1, HALF, HALF)], "coop": [failed]})
    assert selection.run == "zero_shot"
    assert selection.runs[1].reason == "fold1: training diverged"


def test_without_unseen_classes_the_seen_accuracy_decides(tmp_path: Path) -> None:
    alone = {"task": np.ones(4, bool)}
    runs = {name: [seed_logits(1, right, set(), kinds=alone)] for name, right in (("a", HALF), ("b", ALL))}
    selection = selected(tmp_path, runs)
    assert selection.run == "b"
    assert [run.score for run in selection.runs] == pytest.approx([50, 100])
    assert [run.reason for run in selection.runs] == [None, None]
    assert " H " not in selection_text(selection)


NO_IMAGES = np.empty(0, np.int64)
ONE_SEEN = {"task": np.arange(3) < 1}  # no folds: a single class cannot be divided


@pytest.mark.parametrize(
    ("logits", "images", "reason"),
    [
        (seed_logits(1, ALL, ALL, labels=NO_IMAGES), 0, "no class has a validation image"),
        (seed_logits(1, ALL, set(), labels=np.zeros(2, np.int64), kinds=ONE_SEEN), 2, "a single class has images"),
    ],
    ids=["no validation images", "one seen class"],
)
def test_where_nothing_compares_runs_the_first_that_scores_every_class_is_used_and_the_reason_kept(
    logits: RunLogits, images: int, reason: str, tmp_path: Path
) -> None:
    unable = RunLogits(logits.labels, {1: {}}, logits.seen, {1: {}})
    selection = selected(tmp_path, {"tip_adapter": [unable], "coop": [logits], "gda": [logits]})
    assert (selection.run, selection.seed, selection.images, selection.confidence) == ("coop", 1, images, 0.0)
    assert reason in str(selection.reason)
    assert reason in selection_text(selection)
    assert [(run.score, run.temperature, run.offsets) for run in selection.runs] == [(None, None, {})] * 3
    with pytest.raises(InputError, match=r"mine/mine.*every class"):
        selected(tmp_path / "unable", {"tip_adapter": [unable]})


def test_a_single_seen_class_gives_no_offset() -> None:
    logits = seed_logits(1, ALL, set(), labels=np.zeros(2, np.int64), kinds=ONE_SEEN)
    assert run_offsets({1: logits}) == Offsets((0.0,), "a single seen class cannot be divided into folds")


def test_no_run_is_selected_if_none_scores_every_class(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mine/mine.*every class"):
        selected(tmp_path, {"tip_adapter": RUNS["tip_adapter"]})


def test_a_temperature_is_fitted_to_the_balanced_logits_of_both_folds(tmp_path: Path) -> None:
    """Right with probability q: the softmax is q where T = margin / ln(3 q / (1 - q)), for four classes."""
    (zero,) = selected(tmp_path, {"zero_shot": RUNS["zero_shot"]}).runs
    q = 9 / 10 * 0.5 + 1 / 10 / 4  # of eight images; the tenth part is for all four classes alike
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
    labels, seen = np.arange(4), np.ones(4, bool)
    logits = ((10.0 if bound == HIGHEST else 1e-4) * np.eye(4)[predicted]).astype(np.float32)
    margins = margins_of(torch.from_numpy(logits), labels, seen)
    run_logits = RunLogits(
        {"task": labels}, {1: {"task": logits.astype(np.float16)}}, {"task": seen}, {1: {"task": margins}}
    )
    selection = selected(tmp_path / "bound", {"zero_shot": [run_logits]})
    assert selection.runs[0].temperature == bound
    warning = calibration_warning("zero_shot", bound)
    assert warning is not None
    assert "zero_shot" in warning
    assert warning in selection_text(selection)
    assert warning not in selection_text(selected(tmp_path / "plain"))
    assert calibration_warning("zero_shot", 1.0) is None


def test_the_bootstrap_has_the_variance_of_means_of_coin_tosses() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    hits = np.array([[1.0] * 90 + [0.0] * 10, [1.0] * 45 + [0.0] * 45 + [1.0] * 5 + [0.0] * 5])
    means = bootstrap(hits, labels, 4000, np.random.default_rng(0), of_classes=False)
    np.testing.assert_allclose(means[0], [50, 50])
    np.testing.assert_allclose(means[1:, 0], 50)  # hits that are constant within a class have no variance
    assert means[1:, 1].mean() == pytest.approx(50, abs=0.5)
    # Half of two means of 90 and of 10 coin tosses.
    assert means[1:, 1].std() == pytest.approx(100 * np.sqrt(0.25 / 90 + 0.25 / 10) / 2, rel=0.05)


def test_a_bootstrap_of_classes_has_the_variance_between_classes() -> None:
    labels = np.repeat(np.arange(8), 5)
    hits = (labels < 4).astype(np.float64)[None]  # half of the classes are always right, and half always wrong
    means = bootstrap(hits, labels, 4000, np.random.default_rng(0), of_classes=True)
    assert means[0, 0] == 50
    assert means[1:, 0].mean() == pytest.approx(50, abs=1)
    assert means[1:, 0].std() == pytest.approx(100 * np.sqrt(0.25 / 8), rel=0.05)  # of eight coin tosses

    one_class = bootstrap(hits[:, :5], labels[:5], 100, np.random.default_rng(0), of_classes=True)
    np.testing.assert_array_equal(one_class, 100)


def test_the_same_logits_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        selected(tmp_path / name)
    path = "selection/mine/mine.json"
    assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()


def test_logits_of_other_images_are_rejected_together(tmp_path: Path) -> None:
    others = np.array([0, 0, 1, 1, 2, 2, 2, 3])
    runs = {
        "zero_shot": RUNS["zero_shot"],
        "coop": [seed_logits(seed, ALL, ALL, labels=others) for seed in (1, 2)],
    }
    with pytest.raises(InputError, match="dvc repro") as caught:
        selected(tmp_path, runs)
    _, first, second = str(caught.value).splitlines()
    for line, seed in ((first, "seed 1"), (second, "seed 2")):
        assert "coop" in line
        assert seed in line
        assert "zero_shot" in line


def test_logits_labels_and_margins_are_read_back_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "logits/mine/mine/coop.h5"
    written = replace(RUNS["coop"][0], problems={"fold2": "é"}, fitted_to_images=False)
    write_logits(path, written)
    read = read_logits(path)
    assert (read.problems, read.fitted_to_images) == ({"fold2": "é"}, False)
    for name in KINDS:
        np.testing.assert_array_equal(read.labels[name], written.labels[name])
        np.testing.assert_array_equal(read.seen[name], written.seen[name])
        np.testing.assert_array_equal(read.seeds[1][name], written.seeds[1][name])
        for key, value in vars(written.margins[1][name]).items():
            np.testing.assert_array_equal(getattr(read.margins[1][name], key), value)

    write_logits(path, replace(written, labels={"task": LABELS}, seen={}, margins={}))
    with pytest.raises(InputError, match=r"coop\.h5.*seed=1/fold1"):
        read_logits(path)


@pytest.mark.parametrize(("largest", "dtype"), [(60_000, np.float16), (-70_000, np.float32)])
def test_logits_that_float16_cannot_hold_stay_finite(largest: float, dtype: type) -> None:
    values = stored(torch.tensor([[0.1, largest]]))
    assert values.dtype == dtype
    assert values[0, 1] == largest
    assert stored(torch.zeros(0, 2)).shape == (0, 2)


def test_the_text_shows_the_selected_run_its_confidence_and_the_result_of_every_run(tmp_path: Path) -> None:
    first, images, _, head, *rows = selection_text(selected(tmp_path)).splitlines()
    assert first.startswith("mine: ")
    assert "`coop+ship`, seed 1" in first
    assert "8 validation images" in images
    assert "98 of 100" in images
    assert head.split()[:4] == ["seen", "unseen", "H", "offset"]
    assert [row.split()[0] for row in rows[:3]] == [run for run in RUNS if run != "tip_adapter"]
    assert rows[0].split()[:8] == ["zero_shot", "50.0", "50.0", "50.0", "0.00", "50.0", "50.0", "50.0"]
    assert "tip_adapter: not compared: " in "\n".join(rows[3:])
