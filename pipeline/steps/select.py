"""Choose the run to use for new images, and calibrate it, by what the task's rehearsal got on validation photographs.

In a rehearsal (`pipeline/protocols/validation_proxy.py`) some classes with images were only named, so photographs say what a
generator's features are worth. What it cannot say: it has fewer seen classes than the task has, and the validation
images of its seen half have also chosen what methods choose on validation, such as Tip-Adapter's alpha and beta.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from features.errors import raise_all
from features.formats.files import write_json
from pipeline.artifacts.logits import RunLogits, read_logits
from pipeline.artifacts.paths import TaskPaths
from pipeline.artifacts.selection import Candidate, Selection
from pipeline.metrics.accuracy import harmonic_mean
from pipeline.metrics.calibration import fit_temperature

SAMPLES = 1000  # of the bootstrap
Floats = NDArray[np.float64]


def select(cell: TaskPaths, runs: Sequence[str], *, seeds: Sequence[int]) -> Selection:
    """Compare the runs on the task's rehearsal, and write which is best.

    The best has the highest score, the mean over seeds of the harmonic mean of seen and unseen; of equal ones the first
    is taken. The seed is the first: how one did in the rehearsal says nothing of another fit.

    Raises:
        InputError: logits that are missing or damaged, of other seeds, or of other images than the first run's.
    """
    found = {run: read_logits(cell.proxy.logits(run)) for run in runs}
    labels = next(iter(found.values())).labels
    raise_all(_misfits(found, labels, seeds), "the rehearsal's logits do not fit together; run `dvc repro`")
    whole = {
        run: logits
        for run, logits in found.items()
        if all(logits.seeds[seed].keys() == labels.keys() for seed in seeds)
    }
    rng = np.random.default_rng(0)
    accuracies = {  # (1 + samples, runs, seeds) each
        name: bootstrap(np.stack([_hits(logits, name, seeds) for logits in whole.values()]), labels[name], SAMPLES, rng)
        for name in labels
    }
    scores = _score(list(accuracies.values())).mean(-1)
    best = int(scores[0].argmax())
    rehearsed = {
        run: _candidate(
            run, {name: found[0, i] for name, found in accuracies.items()}, scores[:, i], _temperature(logits, seeds)
        )
        for i, (run, logits) in enumerate(whole.items())
    }
    choice = Selection(
        dataset=cell.dataset,
        task=cell.task,
        run=list(whole)[best],
        seed=seeds[0],
        images={name: len(values) for name, values in labels.items()},
        confidence=float(100 * (scores[1:].argmax(1) == best).mean()),
        runs=tuple(rehearsed.get(run, Candidate(run=run, accuracies={})) for run in runs),
    )
    write_json(cell.selection, choice.model_dump(mode="json"))
    return choice


def _candidate(run: str, accuracies: Mapping[str, Floats], scores: Floats, temperature: float) -> Candidate:
    """One run's accuracies (S,) by seed, and its scores (1 + samples,), put together."""
    low, high = np.percentile(scores[1:], [2.5, 97.5])
    return Candidate(
        run=run,
        accuracies={name: float(found.mean()) for name, found in accuracies.items()},
        score=float(scores[0]),
        low=float(low),
        high=float(high),
        temperature=temperature,
    )


def _misfits(
    found: Mapping[str, RunLogits], labels: Mapping[str, NDArray[np.int64]], seeds: Sequence[int]
) -> list[str]:
    problems = [
        f"{run}: seeds {sorted(logits.seeds)}, but grid.seeds is {list(seeds)}"
        for run, logits in found.items()
        if not {*seeds} <= {*logits.seeds}
    ]
    first = next(iter(found))
    return problems + [
        f"{run}: judged on other images than {first}"
        for run, logits in found.items()
        if logits.labels.keys() != labels.keys()
        or not all(np.array_equal(logits.labels[name], labels[name]) for name in labels)
    ]


def _hits(found: RunLogits, eval_split: str, seeds: Sequence[int]) -> Floats:
    """(S, N): whether each seed is right about each image."""
    labels = found.labels[eval_split]
    return np.stack([found.seeds[seed][eval_split].argmax(1) == labels for seed in seeds]).astype(np.float64)


def bootstrap(hits: Floats, labels: NDArray[np.int64], samples: int, rng: np.random.Generator) -> Floats:
    """Means over classes, in percent, of hits (..., N): (1 + samples, ...), of all images first, then of samples.

    Images are drawn with replacement within their class, the same for every run and seed, so that these are compared
    on the same images.
    """
    classes = np.unique(labels)
    found = np.zeros((1 + samples, *hits.shape[:-1]))
    for label in classes:
        inside = hits[..., labels == label]
        count = inside.shape[-1]
        counts = np.vstack([np.ones(count), rng.multinomial(count, np.full(count, 1 / count), samples)])
        found += np.tensordot(counts, inside, (1, -1)) / count
    return 100 * found / len(classes)


def _score(accuracies: Sequence[Floats]) -> Floats:
    """The harmonic mean of two accuracies, or the one that there is."""
    if len(accuracies) == 1:
        return accuracies[0]
    joined: Floats = np.vectorize(harmonic_mean, otypes=[float])(*accuracies)
    return joined


def _temperature(found: RunLogits, seeds: Sequence[int]) -> float:
    """The temperature of a run: on all judged images, by all seeds at once."""
    logits = [np.concatenate([found.seeds[seed][name] for name in found.labels]) for seed in seeds]
    return fit_temperature(np.stack(logits), np.concatenate(list(found.labels.values())))
