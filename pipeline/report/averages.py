"""Means over data sets, as the papers print them: per seed, every data set counting the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from statistics import fmean

from pipeline.artifacts.scores import AVERAGE, Scores, SeedScores, SplitScore
from pipeline.metrics.accuracy import harmonic_mean


def averages(scores: Sequence[Scores]) -> Iterator[tuple[tuple[str, ...], list[Scores]]]:
    """For each task with two data sets or more: their names, and the mean of every run over them.

    A transfer's own source is left out, as in CoCoOp's Table 2. H is taken of the means, as in the papers. Data sets
    that are judged by different eval_splits have no mean.
    """
    ordered = sorted(scores, key=lambda s: s.task)  # stable: within a task, as they came
    for _, group in groupby(ordered, key=lambda s: s.task):
        found = list(group)
        found = [s for s in found if s.trained_on != s.dataset] or found
        datasets = tuple(dict.fromkeys(s.dataset for s in found))
        if len(datasets) > 1 and len({s.eval_splits for s in found}) == 1:
            yield (
                datasets,
                [_average([s for s in found if s.run == run]) for run in dict.fromkeys(s.run for s in found)],
            )


def _average(runs: Sequence[Scores]) -> Scores:
    """One run's scores on several data sets as scores on their average."""
    first, sources = runs[0], {s.trained_on for s in runs}
    seeds = []
    for seed in [found.seed for found in first.seeds]:
        parts = [(s.dataset, found) for s in runs for found in s.seeds if found.seed == seed]
        eval_splits = {
            name: _mean([(dataset, found.eval_splits[name]) for dataset, found in parts])
            for name in first.seeds[0].eval_splits
        }
        h = harmonic_mean(*(eval_splits[name].accuracy for name in first.harmonic)) if first.harmonic else None
        seeds.append(SeedScores(seed=seed, eval_splits=eval_splits, harmonic_mean=h))
    return first.model_copy(
        update={
            "dataset": AVERAGE,
            "trained_on": sources.pop() if len(sources) == 1 else AVERAGE,
            "seeds": tuple(seeds),
            "unreadable": _unreadable(runs),
            "missing": {dataset: lacks for s in runs for dataset, lacks in s.missing.items()},
        }
    )


def _unreadable(runs: Sequence[Scores]) -> dict[str, int]:
    """Images that were left out of all of them together; those of a source that several share count once."""
    training = sum({s.trained_on: s.unreadable.get("training", 0) for s in runs}.values())
    judged = sum((Counter(s.unreadable) for s in runs), Counter[str]())
    return {name: training if name == "training" else count for name, count in judged.items()}


def _mean(parts: Sequence[tuple[str, SplitScore]]) -> SplitScore:
    """The mean of one eval_split over data sets; a dash where one of them has a dash."""
    numbers = [part.accuracy for _, part in parts if part.accuracy is not None]
    dashes = [dataset for dataset, part in parts if part.accuracy is None]
    return parts[0][1].model_copy(
        update={
            "accuracy": None if dashes else fmean(numbers),
            "n": sum(part.n for _, part in parts),
            "classes": sum(part.classes for _, part in parts),
            "reason": f"no mean without {', '.join(dashes)}" if dashes else None,
        }
    )
