"""Choose the offset of a run's seen classes from validation images of the seen classes alone.

The seen accuracy S is measured: the run scores validation images of its seen classes among all classes. The unseen
accuracy U is predicted from fits on two folds (`pipeline.training.folds`), in which seen classes play unseen.

Logits of different seeds and folds differ in scale, those of `gda` by factors of ten. So an offset g is expressed as a
distance: the number of standard deviations by which it lies above the mean margin of the seen images. The distance is
chosen once for all seeds. It is the mean of all distances, weighted by H^16, where H is the harmonic mean of S and U.
A flat or jagged H therefore does not push the offset to an edge.

U of a fold is read at two places: at the offset g of the run itself, and at the offset of the fold that has the same
distance. Each counts half.

A fold has fewer unseen candidates than the task, so its U is too high. If a run has accuracy a among n unseen classes,
it is expected to have a^(log m / log n) among m. This is exact for a run that guesses (1 / n gives 1 / m) and for one
that is always right, and it needs no constant. U is multiplied by the ratio of the two.

`benchmarks/balance.py` compares this rule with others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.metrics.accuracy import harmonic_mean
from pipeline.metrics.balance import Floats, Margins

SMALLEST = 2  # classes on each side of a fold from which an offset may be learned
POWER = 16
DISTANCES = 401  # between the lowest and the highest margin of any image
DIGITS = 4  # decimals of an offset; those beyond differ by machine


@dataclass(frozen=True)
class SeedMargins:
    """Margins of N validation images of the seen classes, by one seed of a run.

    Attributes:
        task: of the run itself, with all classes as candidates.
        folds: of its fit on each fold, with the seen classes as candidates; the images are the same. There are none
            without unseen classes.
        unseen: number of candidates that are unseen classes, in the task and then in each fold.
    """

    task: Margins
    folds: tuple[Margins, ...]
    unseen: tuple[int, ...]

    def offset(self, distance: float) -> float:
        """Return the offset at a distance from the mean margin of the seen images."""
        mean, deviation = mean_and_deviation(self.task)
        return round(mean + distance * deviation, DIGITS)


def mean_and_deviation(margins: Margins) -> tuple[float, float]:
    """Return the mean margin of the images of seen classes, and their standard deviation; 1 if all are equal."""
    of_seen = margins.margin[margins.seen].astype(np.float64)
    return float(of_seen.mean()), float(of_seen.std()) or 1.0


def predicted_hits(seed: SeedMargins, offset: float) -> list[Floats]:
    """Return which images are classified correctly at an offset, for one seed of a run.

    Returns:
        (N,) with 1 or 0, by the run itself. Then, if there are folds, (N,) with the share of the two readings in which
        an image is classified correctly while its class plays unseen, times the `growth_factor`.
    """
    hits = [seed.task.hits(offset).astype(np.float64)]
    if not seed.folds:
        return hits

    as_unseen = np.zeros(len(seed.task.labels))
    for fold, candidates in zip(seed.folds, seed.unseen[1:], strict=True):
        unseen = ~fold.seen
        readings = [offset]
        if fold.has_both_groups:  # else the fold has no mean margin of seen images
            mean, deviation = mean_and_deviation(seed.task)
            fold_mean, fold_deviation = mean_and_deviation(fold)
            readings.append(fold_mean + (offset - mean) / deviation * fold_deviation)
        share = growth_factor(seed.unseen[0], fold, candidates) / len(readings)
        for reading in readings:
            as_unseen[unseen] += share * fold.hits(reading)[unseen]
    return [*hits, as_unseen]


def growth_factor(wanted: int, fold: Margins, candidates: int) -> float:
    """Return the factor that the accuracy on unseen classes of a fold is expected to change by in the task.

    Args:
        wanted: number of unseen candidates in the task.
        fold: margins of the fold.
        candidates: number of unseen candidates in the fold.
    """
    unseen = ~fold.seen
    accuracy = float(fold.class_weights[unseen] @ fold.correct[unseen])
    if candidates < SMALLEST or accuracy == 0:  # it tells nothing, or there is nothing to change
        return 1.0
    factor: float = accuracy ** (math.log(wanted) / math.log(candidates) - 1)
    return factor


def predicted_accuracies(seeds: Sequence[SeedMargins], offsets: Sequence[float]) -> list[float]:
    """Return the measured seen and the predicted unseen accuracy: means over classes, then over seeds, in percent.

    Args:
        seeds: margins by each seed of a run.
        offsets: the offset of each seed.
    """
    by_seed = [
        np.stack(predicted_hits(seed, offset)) @ seed.task.class_weights
        for seed, offset in zip(seeds, offsets, strict=True)
    ]
    return [min(100 * float(value), 100.0) for value in np.mean(by_seed, axis=0)]  # rounding may add a last digit


def choose_offsets(seeds: Sequence[SeedMargins]) -> list[float] | None:
    """Return the offset of each seed of a run; None if H is predicted to be 0 at every offset.

    Args:
        seeds: margins by each seed of the run, with at least one fold.
    """
    # Outside the margins of all images, each at its own scale, neither S nor U changes.
    distances = np.concatenate([_distances(part) for seed in seeds for part in (seed.task, *seed.folds)])
    grid = np.linspace(distances.min(), distances.max(), DISTANCES)
    h = np.array([_h(seeds, float(distance)) for distance in grid])
    if not h.any():
        return None

    weights = (h / h.max()) ** POWER
    distance = float(weights @ grid / weights.sum())
    return [seed.offset(distance) for seed in seeds]


def _distances(margins: Margins) -> Floats:
    """Return the distance (N,) of each margin from the mean margin of seen images."""
    mean, deviation = mean_and_deviation(margins)
    distances: Floats = (margins.margin.astype(np.float64) - mean) / deviation
    return distances


def _h(seeds: Sequence[SeedMargins], distance: float) -> float:
    """Return the predicted harmonic mean at a distance."""
    seen, unseen = predicted_accuracies(seeds, [seed.offset(distance) for seed in seeds])
    return harmonic_mean(seen, unseen) or 0.0


def trained_badly(seeds: Sequence[SeedMargins]) -> bool:
    """Return whether a fit on a fold is so much worse than the run itself that it predicts nothing about it.

    Compared is the accuracy on images of seen classes among seen classes alone. A fold has half as many of them, so a
    fit that works is at least as accurate as the run.
    """
    own = np.mean([seed.task.class_weights @ seed.task.correct for seed in seeds])
    for fold in zip(*(seed.folds for seed in seeds), strict=True):
        on_fold = np.mean([part.class_weights[part.seen] @ part.correct[part.seen] for part in fold])
        if on_fold < own / 2:
            return True
    return False
