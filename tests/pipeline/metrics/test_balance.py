"""The seen-unseen curve, its area and the choice of an offset, against computations by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.metrics.accuracy import per_class_accuracy
from pipeline.metrics.balance import Margins, ausuc, curve, joined, margins_of
from pipeline.metrics.diagnostics import curve_points
from pipeline.metrics.offset import (
    SeedMargins,
    choose_offsets,
    growth_factor,
    predicted_accuracies,
    predicted_hits,
    trained_badly,
)

SEEN = np.array([True, True, True, False, False])
LABELS = np.repeat(np.arange(5), [7, 3, 5, 6, 4])


def logits(seed: int = 0) -> NDArray[np.float32]:
    """Return logits (25, 5) that prefer the label a little, and seen classes more."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(25, 5)) + 1.2 * np.eye(5)[LABELS] + 1.5 * SEEN).astype(np.float32)


def by_hand(values: NDArray[np.float32], offset: float) -> tuple[float, float]:
    """Return seen and unseen accuracy by subtracting the offset and taking the highest logit."""
    predicted = (values.astype(np.float64) - offset * SEEN).argmax(1)
    of_class = [100 * float((predicted[label == LABELS] == label).mean()) for label in range(5)]
    return float(np.mean(of_class[:3])), float(np.mean(of_class[3:]))


def margins(seed: int = 0) -> Margins:
    return margins_of(torch.from_numpy(logits(seed)), LABELS, SEEN)


@pytest.mark.parametrize("offset", [-9.0, -1.0, 0.0, 0.4, 1.5, 3.0, 9.0])
def test_the_accuracies_at_an_offset_are_those_of_shifted_logits(offset: float) -> None:
    assert margins().accuracies(offset) == pytest.approx(by_hand(logits(), offset))


def test_an_offset_of_zero_gives_the_accuracies_of_the_logits_to_the_last_bit() -> None:
    values = torch.from_numpy(logits())
    for position, group in enumerate((LABELS < 3, LABELS >= 3)):
        expected = per_class_accuracy(values[group], torch.from_numpy(LABELS[group]))
        assert margins().accuracies(0.0)[position] == pytest.approx(expected, abs=1e-12)
    assert (margins().hits(0.0) == (logits().argmax(1) == LABELS)).all()


def test_equal_logits_of_both_groups_give_the_seen_class_as_argmax_does() -> None:
    values = torch.tensor([[1.0, 0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0, 0.0]])
    assert margins_of(values, np.array([0, 3]), SEEN).hits(0.0).tolist() == [True, True]
    assert margins_of(values, np.array([3, 3]), SEEN).hits(0.0).tolist() == [False, True]


def test_the_curve_and_its_area_are_those_of_all_offsets_tried_one_by_one() -> None:
    margin = np.sort(margins().margin.astype(np.float64))
    offsets = [margin[0] - 1, *(margin[1:] + margin[:-1]) / 2, margin[-1] + 1]
    points = np.array([by_hand(logits(), offset) for offset in offsets])
    seen, unseen = curve(margins())
    np.testing.assert_allclose(np.column_stack([seen, unseen]), points, atol=1e-9)

    area = sum(
        (points[i, 0] + points[i + 1, 0]) / 2 * (points[i + 1, 1] - points[i, 1]) for i in range(len(points) - 1)
    )
    assert ausuc(margins()) == pytest.approx(area / 100)


def test_a_perfect_classifier_has_the_whole_area_and_one_that_confuses_the_groups_half_of_it() -> None:
    perfect = margins_of(torch.eye(5)[torch.from_numpy(LABELS)], LABELS, SEEN)
    assert ausuc(perfect) == pytest.approx(100)
    undecided = Margins(np.zeros(25, np.float32), np.ones(25, bool), LABELS, SEEN[LABELS])
    assert ausuc(undecided) == pytest.approx(50)


def test_there_is_no_area_with_images_of_one_group_only() -> None:
    values = torch.from_numpy(logits())
    assert ausuc(margins_of(values[:15], LABELS[:15], SEEN)) is None
    assert ausuc(margins_of(values[15:], LABELS[15:], SEEN)) is None


def test_margins_of_two_splits_joined_are_those_of_all_images() -> None:
    values = torch.from_numpy(logits())
    parts = joined([margins_of(values[:15], LABELS[:15], SEEN), margins_of(values[15:], LABELS[15:], SEEN)])
    assert parts.accuracies(0.7) == margins().accuracies(0.7)


def test_without_unseen_candidates_every_offset_leaves_the_seen_accuracy() -> None:
    seen = margins_of(torch.from_numpy(logits()[:15, :3]), LABELS[:15], SEEN[:3])
    assert np.isposinf(seen.margin).all()
    assert seen.hits(5.0).tolist() == (logits()[:15, :3].argmax(1) == LABELS[:15]).tolist()


def test_the_points_of_the_figure_lie_on_the_curve_and_include_the_plain_logits() -> None:
    seeds = [margins(0), margins(1)]
    points = curve_points(seeds, 21)
    assert [point for point in points if point[0] == 0.0] == [
        (0.0, *np.mean([seed.accuracies(0.0) for seed in seeds], axis=0))
    ]
    assert points[0][2] == 0.0, "everything is given to seen classes"
    assert points[-1][1] == 0.0
    for offset, *accuracies in points:
        assert accuracies == pytest.approx(np.mean([seed.accuracies(offset) for seed in seeds], axis=0))


# Four seen classes of six validation images; folds keep classes 0 and 2, or 1 and 3.
CLASSES = np.repeat(np.arange(4), 6)
FOLDS = [np.array([True, False, True, False]), np.array([False, True, False, True])]


def validated(seed: int, *, scale: float = 1.0, accurate: float = 1.0) -> SeedMargins:
    """Return margins of a run with six classes and of its folds, whose logits are larger by `scale`."""
    rng = np.random.default_rng(seed)
    preferred = 2.0 * np.array([1, 1, 1, 1, 0, 0])
    values = rng.normal(size=(24, 6)) + 2.5 * np.eye(6)[CLASSES] + preferred
    task = margins_of(torch.from_numpy(values.astype(np.float32)), CLASSES, np.arange(6) < 4)
    folds = []
    for kept in FOLDS:
        values = scale * (rng.normal(size=(24, 4)) + 2.5 * accurate * np.eye(4)[CLASSES] + 2.0 * kept)
        folds.append(margins_of(torch.from_numpy(values.astype(np.float32)), CLASSES, kept))
    return SeedMargins(task, tuple(folds), (2, 2, 2))


def predicted_by_hand(seeds: list[SeedMargins], distance: float) -> tuple[float, float]:
    """Return S and U at a distance from the mean, by loops over seeds, folds, readings, classes and images."""
    s, u = [], []
    for seed in seeds:
        offset = seed.task.margin.astype(np.float64).mean() + distance * seed.task.margin.astype(np.float64).std()
        offset = round(float(offset), 4)
        s.append(np.mean([seed.task.hits(offset)[c == CLASSES].mean() for c in range(4)]))
        of_class: dict[int, list[float]] = {}
        for fold, kept in zip(seed.folds, FOLDS, strict=True):
            of_seen = fold.margin[kept[CLASSES]].astype(np.float64)
            for reading in (offset, of_seen.mean() + distance * of_seen.std()):
                for c in np.flatnonzero(~kept):
                    of_class.setdefault(int(c), []).append(float(fold.hits(float(reading))[c == CLASSES].mean()))
        u.append(np.mean([np.mean(values) for values in of_class.values()]))
    return 100 * float(np.mean(s)), 100 * float(np.mean(u))


@pytest.mark.parametrize("distance", [-2.0, 0.0, 0.7])
def test_the_predicted_accuracies_are_the_means_over_folds_and_both_readings(distance: float) -> None:
    seeds = [validated(1, scale=1.7), validated(2, scale=1.7)]
    offsets = [seed.offset(distance) for seed in seeds]
    assert predicted_accuracies(seeds, offsets) == pytest.approx(predicted_by_hand(seeds, distance), abs=1e-9)


def test_the_offsets_are_at_the_mean_distance_weighted_with_the_sixteenth_power_of_h() -> None:
    seeds = [validated(1), validated(2)]
    scaled = []
    for part in (part for seed in seeds for part in (seed.task, *seed.folds)):
        of_seen = part.margin[part.seen].astype(np.float64)
        scaled.append((part.margin - of_seen.mean()) / of_seen.std())
    distances = np.linspace(min(map(np.min, scaled)), max(map(np.max, scaled)), 401)
    h = np.array([2 * s * u / max(s + u, 1e-9) for s, u in (predicted_by_hand(seeds, float(z)) for z in distances)])
    distance = float((h**16 @ distances) / (h**16).sum())
    chosen = choose_offsets(seeds)
    assert chosen is not None
    assert chosen == pytest.approx([seed.offset(distance) for seed in seeds], abs=2e-3)
    assert all(0.5 < offset < 3.5 for offset in chosen), "seen classes are preferred by 2"
    assert predicted_accuracies(seeds, chosen)[1] > predicted_accuracies(seeds, [0.0, 0.0])[1]


def test_a_seed_with_logits_of_another_scale_has_an_offset_of_that_scale() -> None:
    seed = validated(1)
    large = SeedMargins(
        *(replace(m, margin=50 * m.margin) for m in (seed.task,)),
        tuple(replace(fold, margin=50 * fold.margin) for fold in seed.folds),
        seed.unseen,
    )
    (alone,) = choose_offsets([seed]) or [0.0]
    small, big = choose_offsets([seed, large]) or [0.0, 0.0]
    assert small == pytest.approx(alone, abs=1e-3)
    assert big == pytest.approx(50 * alone, rel=1e-3)


def test_a_fold_without_images_of_its_seen_classes_is_read_at_the_offset_alone() -> None:
    seed = validated(1)
    rows = np.isin(CLASSES, [1, 3])  # in the first fold these play unseen, and no class that keeps images has any
    part = [Margins(m.margin[rows], m.correct[rows], m.labels[rows], m.seen[rows]) for m in (seed.task, *seed.folds)]
    _, as_unseen = predicted_hits(SeedMargins(part[0], tuple(part[1:]), seed.unseen), 1.0)
    np.testing.assert_array_equal(as_unseen, part[1].hits(1.0))


def test_no_offset_is_chosen_if_no_unseen_image_is_ever_classified_correctly() -> None:
    seed = validated(1)
    hopeless = [Margins(fold.margin, fold.correct & fold.seen, fold.labels, fold.seen) for fold in seed.folds]
    assert choose_offsets([SeedMargins(seed.task, tuple(hopeless), seed.unseen)]) is None


@pytest.mark.parametrize("right", [1, 2, 3, 6])
def test_more_unseen_candidates_lower_the_predicted_accuracy_by_a_power_of_it(right: int) -> None:
    labels = np.repeat(np.arange(4), 6)
    kept = labels < 2
    correct = np.tile(np.arange(6) < right, 4)  # accuracy right / 6 among the two classes that play unseen
    fold = Margins(np.where(kept, 1.0, -1.0).astype(np.float32), correct, labels, kept)
    accuracy = right / 6
    assert growth_factor(2, fold, 2) == 1.0
    assert accuracy * growth_factor(8, fold, 2) == pytest.approx(accuracy**3)
    assert accuracy * growth_factor(1, fold, 2) == pytest.approx(1.0), "a single class cannot be confused with another"


def test_guessing_among_few_classes_predicts_guessing_among_many() -> None:
    seed = validated(1)
    more = replace(seed, unseen=(8, 2, 2))
    for fold in seed.folds:
        unseen = ~fold.seen
        guessed = fold.correct.copy()
        guessed[unseen] = np.arange(unseen.sum()) % 2 == 0
        assert growth_factor(8, replace(fold, correct=guessed), 2) * 0.5 == pytest.approx(1 / 8)
    assert predicted_accuracies([more], [1.0])[1] < predicted_accuracies([seed], [1.0])[1]
    assert predicted_accuracies([more], [1.0])[0] == predicted_accuracies([seed], [1.0])[0]


def test_a_fold_whose_unseen_classes_are_never_recognized_or_single_changes_nothing() -> None:
    fold = validated(1).folds[0]
    assert growth_factor(8, replace(fold, correct=fold.correct & fold.seen), 2) == 1.0
    assert growth_factor(8, fold, 1) == 1.0


def test_a_fold_that_trained_badly_is_recognized() -> None:
    assert not trained_badly([validated(1), validated(2)])
    assert trained_badly([validated(1, accurate=-3.0)])
