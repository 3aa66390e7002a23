"""Means over data sets as the papers print them: per seed, with equal weight for every data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from statistics import fmean

from pipeline.artifacts.scores import AVERAGE, Scores, SeedScores, SplitScore
from pipeline.metrics.accuracy import harmonic_mean


def averages(scores: Sequence[Scores]) -> Iterator[tuple[tuple[str, ...], list[Scores]]]:
    """Yield the names of the data sets and the mean of every run, for each task with two or more data sets.

    The source of a transfer is left out, as in CoCoOp's Table 2. H is the harmonic mean of the means, as in the papers.
    Data sets with different evaluation splits have no mean.
    """
    ordered = sorted(scores, key=lambda s: s.task)  # stable, so the order within a task is kept
    for _, group in groupby(ordered, key=lambda s: s.task):
        task_scores = list(group)
        # In a task that is not a transfer, every data set is its own source, and none is left out.
        task_scores = [s for s in task_scores if s.trained_on != s.dataset] or task_scores

        datasets = tuple(dict.fromkeys(s.dataset for s in task_scores))
        same_splits = len({s.eval_splits for s in task_scores}) == 1
        if len(datasets) > 1 and same_splits:
            runs = dict.fromkeys(s.run for s in task_scores)
            yield datasets, [_average([s for s in task_scores if s.run == run]) for run in runs]


def _average(runs: Sequence[Scores]) -> Scores:
    """Return the mean of one run's scores on several data sets."""
    first = runs[0]

    seeds = []
    for seed in (seed_scores.seed for seed_scores in first.seeds):
        parts = [(s.dataset, seed_scores) for s in runs for seed_scores in s.seeds if seed_scores.seed == seed]
        eval_splits = {
            name: _mean([(dataset, seed_scores.eval_splits[name]) for dataset, seed_scores in parts])
            for name in first.seeds[0].eval_splits
        }
        h = harmonic_mean(*(eval_splits[name].accuracy for name in first.harmonic)) if first.harmonic else None
        seeds.append(SeedScores(seed=seed, eval_splits=eval_splits, harmonic_mean=h))

    sources = {s.trained_on for s in runs}
    return first.model_copy(
        update={
            "dataset": AVERAGE,
            "trained_on": sources.pop() if len(sources) == 1 else AVERAGE,
            "seeds": tuple(seeds),
            "unreadable": _unreadable(runs),
            "missing": {dataset: count for s in runs for dataset, count in s.missing.items()},
            "validation_from": "test" if any(s.validation_from == "test" for s in runs) else first.validation_from,
        }
    )


def _unreadable(runs: Sequence[Scores]) -> dict[str, int]:
    """Return the total number of images that were left out; a source that several data sets share counts once."""
    training = sum({s.trained_on: s.unreadable.get("training", 0) for s in runs}.values())
    total = sum((Counter(s.unreadable) for s in runs), Counter[str]())
    return {name: training if name == "training" else count for name, count in total.items()}


def _mean(parts: Sequence[tuple[str, SplitScore]]) -> SplitScore:
    """Return the mean of one evaluation split over data sets; a dash if one of them has a dash."""
    numbers = [score.accuracy for _, score in parts if score.accuracy is not None]
    dashes = [dataset for dataset, score in parts if score.accuracy is None]

    return parts[0][1].model_copy(
        update={
            "accuracy": None if dashes else fmean(numbers),
            "n": sum(score.n for _, score in parts),
            "classes": sum(score.classes for _, score in parts),
            "reason": f"no mean without {', '.join(dashes)}" if dashes else None,
        }
    )
