"""Stage `select`: choose the offset of every run, select the run to use for new images, and calibrate it.

Everything is learned from validation images of the seen classes, which `validate` scored: with the run itself, and with
its fits on two folds in which seen classes play unseen. Methods such as Tip-Adapter have used the same images to tune
their own settings, so their seen accuracy is a little too high.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError, counted, raise_all
from features.formats.seal import write_sealed_json
from pipeline.artifacts.logits import TASK, RunLogits, read_logits
from pipeline.artifacts.paths import TaskPaths, logits_file
from pipeline.artifacts.selection import HIGHEST, LOWEST, Candidate, Predicted, Selection
from pipeline.artifacts.selection_doubts import share_best
from pipeline.metrics.accuracy import harmonic_mean
from pipeline.metrics.balance import Floats
from pipeline.metrics.calibration import fit_temperature
from pipeline.metrics.offset import (
    SMALLEST,
    SeedMargins,
    choose_offsets,
    predicted_accuracies,
    predicted_hits,
    trained_badly,
)

SAMPLES = 1000  # bootstrap samples
Labels = NDArray[np.int64]
Seeds = Mapping[int, RunLogits]  # seed -> the validation logits of a run


def select(cell: TaskPaths, runs: Sequence[str], *, seeds: Sequence[int], balance: bool) -> Selection:
    """Choose an offset for each run, compare the runs with their offsets, and write which one is the best.

    The best run has the highest score: the harmonic mean of the measured seen and the predicted unseen accuracy. If two
    are equal, the first in the grid is selected. Without unseen classes the score is the seen accuracy. The seed is the
    first one, because what a seed gives on a fold says nothing about another fit.

    Without a validation image, or with a single seen class beside unseen ones, nothing tells which run is better. The
    first one that can score every class is then selected, and the result says why.

    Args:
        cell: paths of the task. The validation logits are read, and the result is written to `cell.selection`.
        runs: names of the runs, in the order of the grid.
        seeds: seeds of the grid.
        balance: whether runs get an offset; else every offset is 0.

    Raises:
        InputError: no run can score every class, or logits are missing, damaged or of other images than the first
            run's.
    """
    logits = {
        run: {seed: read_logits(logits_file(cell.validation_logits(run), seed)) for seed in seeds} for run in runs
    }
    labels = _common_labels(logits)
    if reason := _no_comparison(labels, logits):
        selection = _first(cell, logits, seeds, labels, reason)
        write_sealed_json(cell.selection, selection.model_dump(mode="json"))
        return selection

    validated = {run: _validated(values) for run, values in logits.items()}
    comparable = {run: margins for run, margins in validated.items() if margins is not None}
    if not comparable:
        raise _nothing_to_select(cell)

    # (1 + SAMPLES, R) scores of R runs: of all images first, then of each bootstrap sample.
    offsets = {run: _offsets(logits[run], margins, balance=balance) for run, margins in comparable.items()}
    scores = np.stack([_scores(comparable[run], offsets[run].values, labels) for run in comparable], axis=1)
    best = int(scores[0].argmax())

    candidates = {
        run: _candidate(run, comparable[run], logits[run], offsets[run], scores[:, i])
        for i, run in enumerate(comparable)
    }
    selection = Selection(
        dataset=cell.dataset,
        task=cell.task,
        run=list(comparable)[best],
        seed=seeds[0],
        images=len(labels[0]),
        confidence=share_best(scores[1:], best),
        chance=_chance(logits.values()),
        runs=tuple(candidates.get(run) or Candidate(run=run, reason=_why_unscored(logits[run])) for run in runs),
    )
    write_sealed_json(cell.selection, selection.model_dump(mode="json"))
    return selection


@dataclass(frozen=True)
class Offsets:
    """The offset of each seed of a run, and the reason if none could be chosen and all are 0."""

    values: tuple[float, ...]
    reason: str | None = None


def _chance(runs: Iterable[Seeds]) -> float:
    """Return the accuracy, and so the harmonic mean, of guessing among all classes of the task, in percent."""
    return 100 / max(len(values.seen[TASK]) for by_seed in runs for values in by_seed.values() if TASK in values.seen)


def _no_comparison(labels: Sequence[Labels], logits: Mapping[str, Seeds]) -> str:
    """Return why the runs of a task cannot be compared; empty if they can."""
    if not all(map(len, labels)):
        return "no class has a validation image"

    seen = [values.seen[TASK] for by_seed in logits.values() for values in by_seed.values() if TASK in values.seen]
    if seen and seen[0].sum() == 1 < len(seen[0]):
        return "a single class has images, so nothing shows what a run does with images of the other classes"
    return ""


def _first(
    cell: TaskPaths, logits: Mapping[str, Seeds], seeds: Sequence[int], labels: Sequence[Labels], reason: str
) -> Selection:
    """Return the first run that can score every class as the selected one.

    Raises:
        InputError: no run can.
    """
    usable = [run for run, by_seed in logits.items() if all(TASK in by_seed[seed].seeds[seed] for seed in seeds)]
    if not usable:
        raise _nothing_to_select(cell)
    return Selection(
        dataset=cell.dataset,
        task=cell.task,
        run=usable[0],
        seed=seeds[0],
        images=len(labels[0]),
        confidence=0.0,
        chance=_chance(logits.values()),
        runs=tuple(Candidate(run=run, reason=None if run in usable else _why_unscored(logits[run])) for run in logits),
        reason=reason,
    )


def _nothing_to_select(cell: TaskPaths) -> InputError:
    return InputError(f"{cell.dataset}/{cell.task}: no run can score every class, so none can be selected")


def _common_labels(logits: Mapping[str, Seeds]) -> list[Labels]:
    """Return the labels (N,) of the validation images of each seed, which all runs must share."""
    first = next(iter(logits))
    problems = [
        f"{run}, seed {seed}: validated on other images than {first}"
        for run, by_seed in logits.items()
        for seed, values in by_seed.items()
        if not np.array_equal(values.labels[TASK], logits[first][seed].labels[TASK])
    ]
    raise_all(problems, "logits of validation images do not match each other; run `dvc repro validate`")

    return [values.labels[TASK] for values in logits[first].values()]


def _validated(logits: Seeds) -> tuple[SeedMargins, ...] | None:
    """Return the margins of a run by each seed; None if it cannot score every class, or a fit on a fold failed."""
    seeds = []
    for seed, values in logits.items():
        margins = values.margins[seed]
        if margins.keys() != values.seen.keys() or values.problems:
            return None
        folds = [name for name in sorted(margins) if name != TASK]
        unseen = tuple(int((~values.seen[name]).sum()) for name in (TASK, *folds))
        seeds.append(SeedMargins(margins[TASK], tuple(margins[name] for name in folds), unseen))
    return tuple(seeds)


def _why_unscored(logits: Seeds) -> str:
    """Return why a run cannot be compared with others."""
    problems = [f"{fold}: {problem}" for values in logits.values() for fold, problem in values.problems.items()]
    return problems[0] if problems else "it cannot score every class"


def run_offsets(logits: Seeds) -> Offsets:
    """Return the offsets of a run from its validation logits; zeros with a reason where they cannot be known."""
    seeds = _validated(logits)
    if seeds is None:
        return Offsets((0.0,) * len(logits), _why_unscored(logits))
    return _offsets(logits, seeds, balance=True)


def _offsets(logits: Seeds, seeds: Sequence[SeedMargins], *, balance: bool) -> Offsets:
    """Return the offsets of a run that can be compared."""
    none = (0.0,) * len(seeds)
    if not np.isfinite(seeds[0].task.margin).all():
        return Offsets(none)  # no class is unseen, so there is nothing to balance

    reason = _refusal(logits, seeds) if balance else "grid.balance is false"
    values = None if reason else choose_offsets(seeds)
    if values is None:
        return Offsets(none, reason or "H is predicted to be 0 at every offset")
    return Offsets(tuple(values))


def _refusal(logits: Seeds, seeds: Sequence[SeedMargins]) -> str:
    """Return why folds cannot tell the offset of a run; empty if they can."""
    if not all(values.fitted_to_images for values in logits.values()):
        return "it is not fitted to images"
    if not seeds[0].folds:
        return "a single seen class cannot be divided into folds"

    sides = [fold.labels[group] for seed in seeds for fold in seed.folds for group in (fold.seen, ~fold.seen)]
    smallest = min(len(np.unique(labels)) for labels in sides)
    if smallest < SMALLEST:
        some = counted(smallest, "class")
        return f"one side of a fold has {some} with validation images; at least {SMALLEST} are needed"
    if trained_badly(seeds):
        return "its fit on a fold is less than half as accurate as the run itself"
    return ""


def _scores(seeds: Sequence[SeedMargins], offsets: Sequence[float], labels: Sequence[Labels]) -> Floats:
    """Return (1 + SAMPLES,) scores of a run with its offsets: of all images, then of each bootstrap sample of them.

    Samples also draw the classes if the unseen accuracy is predicted, because it is that of other classes.
    """
    accuracies = []
    for margins, offset, of_seed in zip(seeds, offsets, labels, strict=True):
        hits = np.stack(predicted_hits(margins, offset))
        # Every run and seed draws from a generator of its own with the same seed: equal images give equal samples.
        rng = np.random.default_rng(0)
        sampled = bootstrap(hits, of_seed, SAMPLES, rng, of_classes=len(hits) == 2)
        accuracies.append(np.minimum(sampled, 100))  # hits of folds may count more than once, see `among`
    means: Floats = np.mean(accuracies, axis=0)  # (1 + SAMPLES, 1 or 2)
    if means.shape[1] == 1:
        return means[:, 0]
    return np.array([harmonic_mean(seen, unseen) for seen, unseen in means])


def _candidate(run: str, seeds: Sequence[SeedMargins], logits: Seeds, offsets: Offsets, scores: Floats) -> Candidate:
    """Return the result of one run."""
    low, high = np.percentile(scores[1:], [2.5, 97.5])
    by_seed = dict(zip(logits, offsets.values, strict=True))
    return Candidate(
        run=run,
        plain=_predicted(seeds, [0.0] * len(seeds)),
        balanced=_predicted(seeds, offsets.values),
        offsets=by_seed,
        reason=offsets.reason,
        score=float(scores[0]),
        low=float(low),
        high=float(high),
        temperature=_temperature(logits, by_seed),
    )


def _predicted(seeds: Sequence[SeedMargins], offsets: Sequence[float]) -> Predicted:
    """Return the seen and the unseen accuracy of a run with an offset for each seed."""
    seen, *unseen = predicted_accuracies(seeds, offsets)
    return Predicted(seen=seen, unseen=unseen[0] if unseen else None)


def bootstrap(hits: Floats, labels: Labels, samples: int, rng: np.random.Generator, *, of_classes: bool) -> Floats:
    """Return the accuracy, averaged over classes, of all images and of bootstrap samples of them.

    Images are drawn with replacement within their class. The draw is the same for all leading dimensions.

    Args:
        hits: (..., N), 1 for a correct prediction, 0 for a wrong one, or a share.
        labels: (N,) class of each image.
        samples: number of bootstrap samples.
        rng: source of the samples.
        of_classes: whether a sample also draws its classes with replacement, as for a statement about other classes.

    Returns:
        (1 + samples, ...) accuracies in percent: of all images first, then of each sample.
    """
    classes = np.unique(labels)
    total = np.zeros((1 + samples, *hits.shape[:-1]))
    drawn = np.ones((samples, len(classes)), np.int64)  # how often each class is in each sample
    if of_classes:
        drawn = rng.multinomial(len(classes), np.full(len(classes), 1 / len(classes)), samples)

    for label, times in zip(classes, drawn.T, strict=True):
        inside = hits[..., labels == label]
        count = inside.shape[-1]

        # A sample with replacement is a multinomial count of each image; the first row counts every image once.
        counts = np.vstack([np.ones(count), rng.multinomial(count * times, np.full(count, 1 / count))])
        total += np.tensordot(counts, inside, (1, -1)) / count

    return 100 * total / len(classes)


def _temperature(logits: Seeds, offsets: Mapping[int, float]) -> float:
    """Return the temperature of a run with the offset of each seed, fitted on all seeds together.

    The folds have images of seen classes and of classes that play unseen. Without folds, the run itself is used.
    """
    sets, labels = [], []
    for seed, values in logits.items():
        for name in [name for name in values.seeds[seed] if name != TASK] or [TASK]:
            sets.append(values.seeds[seed][name].astype(np.float64) - offsets[seed] * values.seen[name])
            labels.append(values.labels[name])
    return fit_temperature(np.stack(sets), np.stack(labels), lowest=LOWEST, highest=HIGHEST)
