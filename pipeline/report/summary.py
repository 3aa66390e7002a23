"""From score files to what the report says: a table per task and data set, a row a run.

`Summary` is also the schema of `summary.json`, so that a program, the terminal and the page read the same thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from statistics import fmean, stdev
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from features.errors import raise_all
from features.settings import Settings
from pipeline.artifacts.scores import HARMONIC_MEAN, Scores
from pipeline.config.params import Params
from pipeline.report.averages import averages
from pipeline.report.published import find, tables_of

T = TypeVar("T")
Series = Annotated[tuple[T, ...], Field(strict=False)]  # JSON knows lists only


class Value(Settings):
    """One eval_split of one run, in percent."""

    mean: float | None  # over seeds; None: a dash
    std: float | None  # sample standard deviation over seeds (divided by n - 1); None with a single seed
    reason: str | None  # why it is a dash
    published: float | None
    difference: float | None  # mean - published, in points
    partial: bool = False  # of a data set of which images are missing


class Gain(Settings):
    """What a generator's features changed: the run minus the plain method, seed by seed, in points."""

    mean: float
    std: float | None
    raised: int  # seeds in which the run is higher
    lowered: int  # seeds in which it is lower
    seeds: int


class Row(Settings):
    """One run."""

    run: str
    method: str
    generator: str | None
    values: dict[str, Value]
    gains: dict[str, Gain]  # empty for a plain method


class EvaluatedSplit(Settings):
    """What an accuracy is an accuracy of."""

    name: str
    n: int  # test images
    classes: int  # candidates
    average: Literal["micro", "per_class"]


class Measure(Settings):
    """One measure of a generator's features."""

    mean: float
    std: float | None  # sample standard deviation over seeds; None with a single seed


class GeneratorRow(Settings):
    """One generator's features, against test images of unseen classes."""

    generator: str
    images: int  # test images of the judged classes
    classes: int  # unseen classes that have at least two
    named: int  # all unseen classes
    measures: dict[str, Measure]


class PublishedNote(Settings):
    """Where a table's published values come from, and whether they are of the same encoder."""

    source: str
    encoder: str
    shots: int | None
    same_encoder: bool


class Reference(Settings):
    """A published row that no run of ours can be, for it is of other features."""

    name: str
    features: str
    values: dict[str, float]


class Table(Settings):
    """One task on one data set, or the mean over several: `averaged`, empty for one."""

    task: str
    dataset: str
    protocol: str
    shots: int | None
    judged: Series[EvaluatedSplit]
    harmonic: Annotated[tuple[str, str] | None, Field(strict=False)]
    published: PublishedNote | None
    unreadable: dict[str, int]  # images that were left out, of `training` and of each eval_split; empty if none was
    rows: Series[Row]
    generators: Series[GeneratorRow] = ()
    references: Series[Reference] = ()
    averaged: Series[str] = ()
    missing: dict[str, int] = Field(default_factory=dict)  # partial data sets -> how many images they lack

    @property
    def columns(self) -> tuple[str, ...]:
        """EvalSplits in display order, H last."""
        return (*(judged.name for judged in self.judged), *((HARMONIC_MEAN,) if self.harmonic else ()))


class Encoder(Settings):
    """What the features were made with."""

    name: str
    model: str
    pretrained: str | None
    weights_sha256: str


class Summary(Settings):
    """The whole report."""

    encoder: Encoder
    seeds: Series[int]
    notes: Series[str]  # what to know before reading a number, a plain sentence each
    tables: Series[Table]


def tables(params: Params, scores: Sequence[Scores]) -> tuple[Table, ...]:
    """The means over data sets, a table a task; then a table per task and data set, in the grid's order.

    Args:
        params: for the encoder, which decides whether published values are of the same thing.
        scores: a complete grid in display order, as `build.read_grid` gives it.

    Raises:
        InputError: runs of one table were not judged on the same images and classes.
    """
    groups = [list(group) for _, group in groupby(scores, key=lambda s: (s.dataset, s.task))]
    raise_all([problem for group in groups for problem in _differing(group)], "scores of one table do not fit together")
    means = [_table(params, group, averaged) for averaged, group in averages(scores)]
    return (*means, *(_table(params, group) for group in groups))


def _differing(group: Sequence[Scores]) -> list[str]:
    first = group[0]
    return [
        f"{s.dataset}/{s.task}: {s.run} was judged on {_judged(s)}, {first.run} on {_judged(first)}; run `dvc repro`"
        for s in group[1:]
        if (_judged(s), s.protocol, s.harmonic) != (_judged(first), first.protocol, first.harmonic)
    ]


def _judged(scores: Scores) -> tuple[EvaluatedSplit, ...]:
    eval_splits = scores.seeds[0].eval_splits
    return tuple(
        EvaluatedSplit(name=name, n=eval_split.n, classes=eval_split.classes, average=eval_split.average)
        for name in scores.eval_splits
        if name != HARMONIC_MEAN and (eval_split := eval_splits[name])
    )


def _table(params: Params, group: Sequence[Scores], averaged: tuple[str, ...] = ()) -> Table:
    first = group[0]
    beside = {scores.run: find(scores, averaged, params) for scores in group}
    known = tables_of(first.protocol, params.encoder)
    references = [(table, row) for table in known for row in table.references(first.dataset)]
    used = [table for table, _ in beside.values() if table] + [table for table, _ in references]
    note = None
    if used:
        note = PublishedNote(
            source="; ".join(dict.fromkeys(table.source for table in used)),
            encoder=str(used[0].encoder),
            shots=used[0].shots,
            same_encoder=used[0].encoder.same_as(params.encoder),
        )
    return Table(
        task=first.task,
        dataset=first.dataset,
        protocol=first.protocol,
        shots=next((scores.shots for scores in group if scores.shots), None),
        judged=_judged(first),
        harmonic=first.harmonic,
        published=note,
        unreadable=first.unreadable,
        rows=tuple(_row(scores, group, beside[scores.run][1]) for scores in group),
        references=tuple(Reference(name=name, features=what, values=dict(row)) for _, (name, what, row) in references),
        averaged=averaged,
        missing={name: count for scores in group for name, count in scores.missing.items()},
    )


def _row(scores: Scores, group: Sequence[Scores], beside: Mapping[str, float]) -> Row:
    plain = next((s for s in group if s.method == scores.method and s.generator is None), None)
    pairs = {name: _gain(scores, plain, name) for name in scores.eval_splits} if plain and scores.generator else {}
    return Row(
        run=scores.run,
        method=scores.method,
        generator=scores.generator,
        values={name: _value(scores, name, beside) for name in scores.eval_splits},
        gains={name: gain for name, gain in pairs.items() if gain},
    )


def _value(scores: Scores, eval_split: str, beside: Mapping[str, float]) -> Value:
    published = beside.get(eval_split)
    numbers = [number for seed in scores.seeds if (number := seed.accuracy(eval_split)) is not None]
    if len(numbers) < len(scores.seeds):  # a mean over some of the seeds would stand beside means over all of them
        return Value(mean=None, std=None, reason=_reason(scores, eval_split), published=published, difference=None)
    mean, std = fmean(numbers), stdev(numbers) if len(numbers) > 1 else None
    difference, partial = None if published is None else mean - published, bool(scores.missing)
    return Value(mean=mean, std=std, reason=None, published=published, difference=difference, partial=partial)


def _reason(scores: Scores, eval_split: str) -> str:
    if eval_split == HARMONIC_MEAN:
        dashes = [name for name in scores.harmonic or () if any(seed.accuracy(name) is None for seed in scores.seeds)]
        return f"no H without {' and '.join(dashes)}"
    reason = next(reason for seed in scores.seeds if (reason := seed.eval_splits[eval_split].reason))
    return " ".join(reason.split())  # one line, so that it can be a footnote


def _gain(scores: Scores, plain: Scores, eval_split: str) -> Gain | None:
    before = {seed.seed: seed.accuracy(eval_split) for seed in plain.seeds}
    gains = [
        number - other
        for seed in scores.seeds
        if (number := seed.accuracy(eval_split)) is not None and (other := before.get(seed.seed)) is not None
    ]
    if len(gains) < len(scores.seeds):
        return None
    return Gain(
        mean=fmean(gains),
        std=stdev(gains) if len(gains) > 1 else None,
        raised=sum(gain > 0 for gain in gains),
        lowered=sum(gain < 0 for gain in gains),
        seeds=len(gains),
    )
