"""Select the run to use for new images, and calibrate it, by its logits on the task's validation proxy.

In a validation proxy (`pipeline/protocols/validation_proxy.py`) some classes with images are treated as unseen, so
their images show what synthetic features are worth. It has two limits. It has fewer seen classes than the task. And
methods such as Tip-Adapter have already used the validation images of its seen half, to tune their alpha and beta.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from features.errors import raise_all
from features.formats.seal import write_sealed_json
from pipeline.artifacts.logits import RunLogits, read_logits
from pipeline.artifacts.paths import TaskPaths
from pipeline.artifacts.selection import HIGHEST, LOWEST, Candidate, Selection
from pipeline.artifacts.selection_doubts import share_best
from pipeline.metrics.accuracy import harmonic_mean
from pipeline.metrics.calibration import fit_temperature

SAMPLES = 1000  # bootstrap samples
Floats = NDArray[np.float64]
Labels = Mapping[str, NDArray[np.int64]]  # evaluation split -> (N,) labels


def select(cell: TaskPaths, runs: Sequence[str], *, seeds: Sequence[int]) -> Selection:
    """Compare the runs on the task's validation proxy, and write which one is the best.

    The best run has the highest score: the harmonic mean of the seen and the unseen accuracy, averaged over seeds. If
    two are equal, the first in the grid is selected. The seed is the first one, because the proxy's result with a seed
    predicts nothing about another fit with that seed.

    Args:
        cell: paths of the task. The logits are read from its proxy, and the result is written to `cell.selection`.
        runs: names of the runs, in the order of the grid.
        seeds: seeds of the grid.

    Raises:
        InputError: logits are missing or damaged, lack a seed, or are of other images than the first run's.
    """
    run_logits = {run: read_logits(cell.proxy.logits(run)) for run in runs}
    labels = next(iter(run_logits.values())).labels
    raise_all(
        _mismatches(run_logits, labels, seeds),
        "logits of the validation proxy do not match each other; run `dvc repro`",
    )

    # A run that cannot score every class has no logits on some evaluation split. It is listed without a score.
    scorable = {
        run: logits
        for run, logits in run_logits.items()
        if all(logits.seeds[seed].keys() == labels.keys() for seed in seeds)
    }

    # Accuracies per evaluation split, each (1 + samples, runs, seeds). One generator draws for all of them in order.
    rng = np.random.default_rng(0)
    accuracies = {}
    for name in labels:
        hits = np.stack([_hits(logits, name, seeds) for logits in scorable.values()])
        accuracies[name] = bootstrap(hits, labels[name], SAMPLES, rng)

    # (1 + samples, runs): H is computed per seed, then averaged over seeds.
    scores = _score(list(accuracies.values())).mean(-1)
    best = int(scores[0].argmax())

    candidates = {}
    for i, (run, logits) in enumerate(scorable.items()):
        by_split = {name: values[0, i] for name, values in accuracies.items()}
        candidates[run] = _candidate(run, by_split, scores[:, i], _temperature(logits, seeds))

    selection = Selection(
        dataset=cell.dataset,
        task=cell.task,
        run=list(scorable)[best],
        seed=seeds[0],
        images={name: len(values) for name, values in labels.items()},
        confidence=share_best(scores[1:], best),
        chance=_chance(scorable.values()),
        runs=tuple(candidates.get(run, Candidate(run=run, accuracies={})) for run in runs),
    )
    write_sealed_json(cell.selection, selection.model_dump(mode="json"))
    return selection


def _chance(runs: Iterable[RunLogits]) -> float:
    """Return the accuracy, and so the harmonic mean, of guessing among the classes that are scored, in percent."""
    classes: set[int] = {logits.shape[1] for run in runs for splits in run.seeds.values() for logits in splits.values()}
    return 100 / max(classes)


def _candidate(run: str, accuracies: Mapping[str, Floats], scores: Floats, temperature: float) -> Candidate:
    """Return the result of one run from its accuracies (S,) per seed and its scores (1 + samples,)."""
    low, high = np.percentile(scores[1:], [2.5, 97.5])
    return Candidate(
        run=run,
        accuracies={name: float(values.mean()) for name, values in accuracies.items()},
        score=float(scores[0]),
        low=float(low),
        high=float(high),
        temperature=temperature,
    )


def _mismatches(run_logits: Mapping[str, RunLogits], labels: Labels, seeds: Sequence[int]) -> list[str]:
    """Return a problem for each run that lacks a seed or has other labels than the first run."""
    problems = [
        f"{run}: seeds {sorted(logits.seeds)}, but grid.seeds is {list(seeds)}"
        for run, logits in run_logits.items()
        if not {*seeds} <= {*logits.seeds}
    ]

    first = next(iter(run_logits))
    for run, logits in run_logits.items():
        same_splits = logits.labels.keys() == labels.keys()
        if not same_splits or not all(np.array_equal(logits.labels[name], labels[name]) for name in labels):
            problems.append(f"{run}: evaluated on other images than {first}")

    return problems


def _hits(run_logits: RunLogits, eval_split: str, seeds: Sequence[int]) -> Floats:
    """Return (S, N): 1 where a seed predicts the label of an image, else 0."""
    labels = run_logits.labels[eval_split]
    return np.stack([run_logits.seeds[seed][eval_split].argmax(1) == labels for seed in seeds]).astype(np.float64)


def bootstrap(hits: Floats, labels: NDArray[np.int64], samples: int, rng: np.random.Generator) -> Floats:
    """Return the accuracy, averaged over classes, of all images and of bootstrap samples of them.

    Images are drawn with replacement within their class. The draw is the same for all leading dimensions, so that runs
    and seeds are compared on the same images.

    Args:
        hits: (..., N), 1 for a correct prediction, else 0.
        labels: (N,) class of each image.
        samples: number of bootstrap samples.
        rng: source of the samples.

    Returns:
        (1 + samples, ...) accuracies in percent: of all images first, then of each sample.
    """
    classes = np.unique(labels)
    total = np.zeros((1 + samples, *hits.shape[:-1]))

    for label in classes:
        inside = hits[..., labels == label]
        count = inside.shape[-1]

        # A sample with replacement is a multinomial count of each image; the first row counts every image once.
        counts = np.vstack([np.ones(count), rng.multinomial(count, np.full(count, 1 / count), samples)])
        total += np.tensordot(counts, inside, (1, -1)) / count

    return 100 * total / len(classes)


def _score(accuracies: Sequence[Floats]) -> Floats:
    """Return the elementwise harmonic mean of two accuracies, or the only accuracy."""
    if len(accuracies) == 1:
        return accuracies[0]

    scores: Floats = np.vectorize(harmonic_mean, otypes=[float])(*accuracies)
    return scores


def _temperature(run_logits: RunLogits, seeds: Sequence[int]) -> float:
    """Return the temperature of a run, fitted on the images of all evaluation splits and on all seeds together."""
    logits = [np.concatenate([run_logits.seeds[seed][name] for name in run_logits.labels]) for seed in seeds]
    labels = np.concatenate(list(run_logits.labels.values()))
    return fit_temperature(np.stack(logits), labels, lowest=LOWEST, highest=HIGHEST)
