"""`select`: the run that a rehearsal prefers, how sure that is, and the temperature that calibrates it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from features.errors import InputError
from pipeline.artifacts.logits import RunLogits, read_logits, write_logits
from pipeline.artifacts.paths import TaskPaths
from pipeline.artifacts.selection import HIGHEST, LOWEST, Selection, read_selection, selection_text
from pipeline.metrics.calibration import fit_temperature
from pipeline.steps.select import bootstrap, select

# Four images of two seen classes, 0 and 1, and three of the unseen classes 2 and 3; classes are not of equal size.
LABELS = {"seen": np.array([0, 0, 0, 1]), "unseen": np.array([2, 2, 3])}
Said = dict[int, dict[str, list[int]]]  # seed -> eval_split -> the class that each image is taken for


def saying(said: Said, margin: float = 4.0) -> RunLogits:
    """Logits that are `margin` for the class that is said, and 0 for the three others."""
    return RunLogits(
        LABELS,
        {
            seed: {name: (margin * np.eye(4)[ids]).astype(np.float16) for name, ids in judged.items()}
            for seed, judged in said.items()
        },
    )


RIGHT = {"seen": [0, 0, 0, 1], "unseen": [2, 2, 3]}
SEEN_ALONE = {"seen": [0, 0, 0, 1], "unseen": [0, 1, 0]}
HALF = {"seen": [0, 0, 3, 1], "unseen": [2, 2, 0]}  # seen: (2/3 + 1) / 2 = 5/6; unseen: (1 + 0) / 2 = 1/2
RUNS = {
    "zero_shot": saying({1: HALF, 2: HALF}),
    "coop": saying({1: SEEN_ALONE, 2: SEEN_ALONE}),
    "coop+ship": saying({1: RIGHT, 2: HALF}),
    "tip_adapter": saying({seed: {"seen": RIGHT["seen"]} for seed in (1, 2)}),  # no scores of unseen classes
}
H = 2 * (5 / 6) * (1 / 2) / (5 / 6 + 1 / 2)


def chosen(tmp_path: Path, runs: dict[str, RunLogits] = RUNS, seeds: tuple[int, ...] = (1, 2)) -> Selection:
    cell = TaskPaths(tmp_path, "mine", "mine")
    for run, logits in runs.items():
        write_logits(cell.proxy.logits(run), logits)
    select(cell, list(runs), seeds=seeds)
    return read_selection(cell.selection)


def test_the_highest_mean_over_seeds_of_h_is_chosen_with_the_first_seed(tmp_path: Path) -> None:
    choice = chosen(tmp_path)
    assert (choice.dataset, choice.task, choice.run, choice.seed) == ("mine", "mine", "coop+ship", 1)
    assert choice.images == {"seen": 4, "unseen": 3}
    zero, plain, best, unable = choice.runs
    assert zero.accuracies == pytest.approx({"seen": 500 / 6, "unseen": 50})
    assert zero.score == pytest.approx(100 * H)
    assert (plain.accuracies, plain.score) == ({"seen": 100, "unseen": 0}, 0)
    assert best.accuracies == pytest.approx({"seen": (100 + 500 / 6) / 2, "unseen": 75})
    assert best.score == pytest.approx((100 + 100 * H) / 2)
    assert (unable.accuracies, unable.score, unable.temperature) == ({}, None, None)


def test_runs_are_compared_on_the_same_samples(tmp_path: Path) -> None:
    """In every sample the best run's first seed is right throughout and its second as good as zero-shot."""
    choice = chosen(tmp_path)
    zero, _, best, _ = choice.runs
    assert choice.confidence == 100
    assert best.low is not None
    assert best.high is not None
    assert zero.low is not None
    assert zero.high is not None
    assert best.low == pytest.approx((100 + zero.low) / 2)
    assert best.high == pytest.approx((100 + zero.high) / 2)
    assert zero.high == pytest.approx(200 / 3)  # of three images of class 0 none of those drawn is the wrong one


def test_of_runs_that_are_equal_the_first_of_the_grid_is_chosen_and_its_samples_are_its_own(tmp_path: Path) -> None:
    choice = chosen(tmp_path, {"b": RUNS["zero_shot"], "a": RUNS["zero_shot"]})
    assert (choice.run, choice.confidence) == ("b", 100)


def test_how_often_a_run_is_the_best_is_the_chance_of_the_images_that_tell(tmp_path: Path) -> None:
    """One of three images of a class decides: it is in a sample of three with probability 1 - (2/3)^3 = 19/27."""
    one = {"seen": [0, 0, 3, 1], "unseen": RIGHT["unseen"]}
    choice = chosen(tmp_path, {"worse": saying({1: one}), "better": saying({1: RIGHT})}, seeds=(1,))
    assert choice.run == "better"
    assert choice.confidence == pytest.approx(100 * 19 / 27, abs=5)  # 1000 samples: three standard errors are 4.3


def test_without_unseen_classes_the_seen_ones_decide(tmp_path: Path) -> None:
    def alone(found: RunLogits) -> RunLogits:
        seen = {seed: {"seen": judged["seen"]} for seed, judged in found.seeds.items()}
        return RunLogits({"seen": LABELS["seen"]}, seen)

    choice = chosen(tmp_path, {run: alone(RUNS[run]) for run in ("zero_shot", "coop", "tip_adapter")})
    assert choice.run == "coop"
    assert choice.images == {"seen": 4}
    assert [run.score for run in choice.runs] == pytest.approx([500 / 6, 100, 100])
    assert " H " not in selection_text(choice)


def test_a_temperature_is_fitted_to_each_run_with_classes_weighted_equally(tmp_path: Path) -> None:
    """Right with probability q in the mean over classes: softmax says q where T = margin / ln(3 q / (1 - q))."""
    (zero,) = chosen(tmp_path, {"zero_shot": RUNS["zero_shot"]}).runs
    right = (2 / 3 + 1 + 1 + 0) / 4  # seen and unseen together
    q = 8 / 9 * right + 1 / 9 / 4  # of seven images; the ninth part is for all four classes alike
    assert zero.temperature == pytest.approx(4 / np.log(3 * q / (1 - q)), rel=1e-3)


@pytest.mark.parametrize("temperature", [0.01, 1.0, 7.0, 300.0])
@pytest.mark.parametrize("seeds", [(), (2,)], ids=["one seed", "two seeds"])
def test_the_temperature_that_made_the_labels_is_found(temperature: float, seeds: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    sure = 5 * rng.standard_normal((20_000, 5))
    labels = (sure + rng.gumbel(size=sure.shape)).argmax(1)  # draws of the softmax
    logits = np.broadcast_to(sure * temperature, (*seeds, *sure.shape))
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)


def test_images_that_are_all_right_do_not_make_the_next_one_certain() -> None:
    labels = np.repeat(np.arange(4), 10)
    temperature = fit_temperature(20 * np.eye(4)[labels], labels)
    said = 1 / (1 + 3 * np.exp(-20 / temperature))
    assert said == pytest.approx(41 / 42 + 1 / 42 / 4)  # of forty images


@pytest.mark.parametrize(
    ("says", "bound", "words"),
    [
        ([1, 2, 3, 0], HIGHEST, "zero_shot: of the rehearsal's photographs its logits said no more than chance does"),
        ([0, 1, 2, 3], LOWEST, "zero_shot: the rehearsal's photographs could not show how sure it may be"),
    ],
    ids=["always wrong", "right by a hair"],
)
def test_a_temperature_at_a_bound_is_told(says: list[int], bound: float, words: str, tmp_path: Path) -> None:
    labels = {"seen": np.array([0, 1, 2, 3])}
    logits = (10.0 if bound == HIGHEST else 1e-4) * np.eye(4)[says]
    made = RunLogits(labels, {1: {"seen": logits.astype(np.float16)}})
    choice = chosen(tmp_path, {"zero_shot": made}, seeds=(1,))
    assert choice.runs[0].temperature == bound
    assert words in selection_text(choice)
    assert words not in selection_text(chosen(tmp_path))


def test_the_bootstrap_varies_as_means_of_coin_tosses_do() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    hits = np.array([[1.0] * 90 + [0.0] * 10, [1.0] * 45 + [0.0] * 45 + [1.0] * 5 + [0.0] * 5])
    found = bootstrap(hits, labels, 4000, np.random.default_rng(0))
    np.testing.assert_allclose(found[0], [50, 50])
    np.testing.assert_allclose(found[1:, 0], 50)  # hits that do not vary within a class leave nothing to chance
    assert found[1:, 1].mean() == pytest.approx(50, abs=0.5)
    # Half of two means of 90 and of 10 coin tosses.
    assert found[1:, 1].std() == pytest.approx(100 * np.sqrt(0.25 / 90 + 0.25 / 10) / 2, rel=0.05)


def test_the_same_logits_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        chosen(tmp_path / name)
    path = "selection/mine/mine.json"
    assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()


def test_logits_of_other_images_or_seeds_are_refused_all_at_once(tmp_path: Path) -> None:
    other: dict[str, NDArray[np.int64]] = {**LABELS, "unseen": np.array([2, 3, 3])}
    runs = {
        "zero_shot": RUNS["zero_shot"],
        "coop": RunLogits(other, RUNS["coop"].seeds),
        "taskres": saying({1: RIGHT}),
    }
    with pytest.raises(InputError, match=r"dvc repro.*\(2 problems\)") as caught:
        chosen(tmp_path, runs)
    assert "coop: judged on other images than zero_shot" in str(caught.value)
    assert "taskres: seeds [1], but grid.seeds is [1, 2]" in str(caught.value)


def test_logits_and_labels_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "logits/mine/mine/coop.h5"
    write_logits(path, RUNS["coop"])
    found = read_logits(path)
    assert {name: labels.tolist() for name, labels in found.labels.items()} == {
        name: labels.tolist() for name, labels in LABELS.items()
    }
    for seed, judged in RUNS["coop"].seeds.items():
        for name, logits in judged.items():
            np.testing.assert_array_equal(found.seeds[seed][name], logits)
    write_logits(path, RunLogits({"seen": LABELS["seen"]}, RUNS["coop"].seeds))
    with pytest.raises(InputError, match=r"seed=1/unseen .* has no labels that fit"):
        read_logits(path)


def test_the_text_says_who_is_chosen_how_surely_and_what_every_run_got(tmp_path: Path) -> None:
    first, photographs, head, *rows = selection_text(chosen(tmp_path)).splitlines()
    assert first == "mine: for new images `coop+ship`, seed 1, is chosen by a rehearsal"
    assert photographs == "  validation photographs: 4 seen and 3 unseen; the best in 100 of 100 bootstrap samples"
    assert head.split() == ["seen", "unseen", "H", "95", "%", "of", "samples"]
    assert [row.split()[0] for row in rows] == list(RUNS)
    assert rows[1].split() == ["coop", "100.0", "0.0", "0.0", "0.0", "to", "0.0"]
    assert rows[3].split() == ["tip_adapter", "–", "–", "–", "–"]
