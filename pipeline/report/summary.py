"""Turn scores into the tables of the report: one table per task and data set, one row per run.

`Summary` is also the schema of `summary.json`. Programs, the terminal and the page all read the same data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from statistics import fmean, stdev
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from features.errors import raise_all
from features.settings import Settings
from pipeline.artifacts.balanced_scores import ReliabilityBin
from pipeline.artifacts.scores import HARMONIC_MEAN, Scores
from pipeline.artifacts.selection import Selection
from pipeline.config.params import Params
from pipeline.report.averages import averages
from pipeline.report.published import Published, find_published, identify, tables_of

T = TypeVar("T")
Series = Annotated[tuple[T, ...], Field(strict=False)]  # JSON has lists only


class Value(Settings):
    """The accuracy of one run on one evaluation split, in percent."""

    mean: float | None  # over seeds; None: a dash
    std: float | None  # sample standard deviation over seeds (divided by n - 1); None with a single seed
    reason: str | None  # why there is no mean
    published: float | None
    difference: float | None  # mean - published, in points
    partial: bool = False  # whether images of the data set are missing


class Gain(Settings):
    """The effect of a generator's features: the run minus the plain method, seed by seed, in percentage points."""

    mean: float
    std: float | None
    raised: int  # number of seeds in which the run is higher
    lowered: int  # number of seeds in which the run is lower
    seeds: int


class Row(Settings):
    """One run, which is one row of a table."""

    run: str
    method: str
    generator: str | None
    values: dict[str, Value]
    gains: dict[str, Gain]  # empty for a plain method


class EvaluatedSplit(Settings):
    """The images and the candidate classes behind an accuracy."""

    name: str
    n: int  # test images
    classes: int  # candidate classes
    average: Literal["micro", "per_class"]


class Measure(Settings):
    """One measure of a generator's features."""

    mean: float
    std: float | None  # sample standard deviation over seeds; None with a single seed


class GeneratorRow(Settings):
    """The measures of one generator's features, compared with test images of unseen classes."""

    generator: str
    images: int  # test images of the measured classes
    classes: int  # measured classes: unseen classes with at least two test images
    named: int  # all unseen classes
    measures: dict[str, Measure]


class BalanceRow(Settings):
    """Seen and unseen accuracies of one run among all classes (`pipeline.report.balance`)."""

    run: str
    offset: float | None  # mean over seeds; None: the task is not in `grid.select`, or the run has no score
    reason: str | None  # why there is no offset
    measures: dict[str, Measure]


class PublishedNote(Settings):
    """The source of a table's published values, whether they are of the same encoder, and if its weights say so."""

    source: str
    encoder: str
    shots: int | None
    same_encoder: bool
    checked: bool


class Reference(Settings):
    """A published row on other features than CLIP's, which no run of ours can match."""

    name: str
    features: str
    values: dict[str, float]


class Table(Settings):
    """The results of one task on one data set, or the means over several (`averaged`; empty for one data set)."""

    task: str
    dataset: str
    protocol: str
    shots: int | None
    eval_splits: Series[EvaluatedSplit]
    harmonic: Annotated[tuple[str, str] | None, Field(strict=False)]
    published: PublishedNote | None
    unreadable: dict[str, int]  # images left out: of `training` and of each evaluation split
    rows: Series[Row]
    generators: Series[GeneratorRow] = ()
    balance: Series[BalanceRow] = ()
    selection: Selection | None = None  # for new images; None: the task is not in `grid.select`
    calibrated: dict[str, Series[ReliabilityBin]] = Field(default_factory=dict)  # run -> bins, if it is calibrated
    references: Series[Reference] = ()
    averaged: Series[str] = ()
    selected_on_test: bool = False  # whether methods selected their settings on the test images
    at_edge: dict[str, Series[str]] = Field(default_factory=dict)  # run -> selected settings at an end of their range
    missing: dict[str, int] = Field(default_factory=dict)  # partial data set -> number of missing images

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns in display order: the evaluation splits, then H."""
        names = tuple(eval_split.name for eval_split in self.eval_splits)
        return (*names, HARMONIC_MEAN) if self.harmonic else names

    @property
    def title(self) -> str:
        """Data set and task; one name for the task of a user's own images."""
        return self.dataset if self.task == self.dataset else f"{self.dataset}, {self.task}"

    @property
    def scored(self) -> tuple[Row, ...]:
        """The rows with a number, ours or a published one; all rows if none has any."""
        rows = [
            row for row in self.rows if any(v.mean is not None or v.published is not None for v in row.values.values())
        ]
        return tuple(rows) or self.rows

    @property
    def unscored(self) -> tuple[Row, ...]:
        """The rows that are not in `scored`, such as a cache of images on a task that has classes without any."""
        return tuple(row for row in self.rows if row not in self.scored)

    @property
    def best(self) -> Row:
        """The row with the highest mean in the last column; the first one if there are no columns."""
        return max(self.rows, key=lambda row: [row.values[column].mean or 0.0 for column in self.columns[-1:]])


class Encoder(Settings):
    """The encoder that computed the features."""

    name: str
    model: str
    pretrained: str | None
    weights_sha256: str


class Summary(Settings):
    """The whole report."""

    encoder: Encoder
    seeds: Series[int]
    notes: Series[str]  # sentences to read before the numbers
    tables: Series[Table]


def build_tables(params: Params, scores: Sequence[Scores]) -> tuple[Table, ...]:
    """Return one table per task with the means over data sets, then one per task and data set, in the grid's order.

    Args:
        params: parameters, for the encoder: it decides which published values are comparable.
        scores: scores of a complete grid in display order, from `build.read_grid`.

    Raises:
        InputError: runs of one table were not evaluated on the same images and classes.
    """
    groups = [list(group) for _, group in groupby(scores, key=lambda s: (s.dataset, s.task))]

    problems = [problem for group in groups for problem in _mismatches(group)]
    raise_all(problems, "scores of one table do not match each other")

    means = [_table(params, group, averaged) for averaged, group in averages(scores)]
    return (*means, *(_table(params, group) for group in groups))


def _mismatches(group: Sequence[Scores]) -> list[str]:
    """Return a problem for each run that was evaluated on other images or classes than the first run of its table."""
    first = group[0]
    expected = _evaluated_splits(first)

    problems = []
    for s in group[1:]:
        actual = _evaluated_splits(s)
        if (actual, s.protocol, s.harmonic) != (expected, first.protocol, first.harmonic):
            problems.append(
                f"{s.dataset}/{s.task}: {s.run} was evaluated on {actual}, {first.run} on {expected}; run `dvc repro`"
            )
    return problems


def _evaluated_splits(scores: Scores) -> tuple[EvaluatedSplit, ...]:
    """Return the evaluation splits of a run in display order, without H."""
    splits = []
    for name in scores.eval_splits:
        if name == HARMONIC_MEAN:
            continue
        score = scores.seeds[0].eval_splits[name]
        splits.append(EvaluatedSplit(name=name, n=score.n, classes=score.classes, average=score.average))
    return tuple(splits)


def _sources(of_run: Mapping[str, str], used: Sequence[Published]) -> str:
    """Return every source that a row is compared with, each once; of several, with the runs whose values it gives."""
    sources = dict.fromkeys(table.source for table in used)
    if len(sources) == 1:
        return next(iter(sources))

    cited = []
    for source in sources:
        runs = [run for run, theirs in of_run.items() if theirs == source]
        cited.append(f"{source} ({', '.join(runs)})" if runs else source)
    return "; ".join(cited)


def _table(params: Params, group: Sequence[Scores], averaged: tuple[str, ...] = ()) -> Table:
    """Return the table of some runs on one task and data set (or their means), with the published values."""
    first = group[0]
    identity = identify(params.encoder, first.encoder.weights_sha256)
    published = {scores.run: find_published(scores, averaged, params) for scores in group}

    references = []
    for table in tables_of(first.protocol, identity.encoder):
        references += [(table, reference) for reference in table.references(first.dataset)]

    used = [table for table, _ in published.values() if table] + [table for table, _ in references]
    note = None
    if used:
        note = PublishedNote(
            source=_sources({run: table.source for run, (table, _) in published.items() if table}, used),
            encoder=str(used[0].encoder),
            shots=used[0].shots,
            same_encoder=used[0].encoder == identity.encoder,
            checked=identity.checked,
        )

    return Table(
        task=first.task,
        dataset=first.dataset,
        protocol=first.protocol,
        shots=next((scores.shots for scores in group if scores.shots), None),
        eval_splits=_evaluated_splits(first),
        harmonic=first.harmonic,
        published=note,
        unreadable=first.unreadable,
        rows=tuple(_row(scores, group, published[scores.run][1]) for scores in group),
        references=tuple(
            Reference(name=name, features=features, values=dict(values)) for _, (name, features, values) in references
        ),
        averaged=averaged,
        missing={name: count for scores in group for name, count in scores.missing.items()},
        selected_on_test=any(scores.validation_from == "test" for scores in group),
    )


def _row(scores: Scores, group: Sequence[Scores], published: Mapping[str, float]) -> Row:
    """Return the row of one run; its gains are over the same method without a generator, if that is in `group`."""
    plain = next((s for s in group if s.method == scores.method and s.generator is None), None)

    gains = {}
    if plain and scores.generator:
        for name in scores.eval_splits:
            gain = _gain(scores, plain, name)
            if gain:
                gains[name] = gain

    return Row(
        run=scores.run,
        method=scores.method,
        generator=scores.generator,
        values={name: _value(scores, name, published.get(name)) for name in scores.eval_splits},
        gains=gains,
    )


def _value(scores: Scores, eval_split: str, published: float | None) -> Value:
    """Return mean and standard deviation over seeds, or a dash with its reason."""
    numbers = [number for seed in scores.seeds if (number := seed.accuracy(eval_split)) is not None]

    # No mean over some of the seeds: it would not be comparable with the means over all of them.
    if len(numbers) < len(scores.seeds):
        return Value(mean=None, std=None, reason=_reason(scores, eval_split), published=published, difference=None)

    mean = fmean(numbers)
    return Value(
        mean=mean,
        std=stdev(numbers) if len(numbers) > 1 else None,
        reason=None,
        published=published,
        difference=None if published is None else mean - published,
        partial=bool(scores.missing),
    )


def _reason(scores: Scores, eval_split: str) -> str:
    """Return why a run has no accuracy on an evaluation split, in one line."""
    if eval_split == HARMONIC_MEAN:
        dashes = [name for name in scores.harmonic or () if any(seed.accuracy(name) is None for seed in scores.seeds)]
        return f"no H without {' and '.join(dashes)}"
    reason = next(reason for seed in scores.seeds if (reason := seed.eval_splits[eval_split].reason))
    return " ".join(reason.split())  # without line breaks: it becomes a footnote


def _gain(scores: Scores, plain: Scores, eval_split: str) -> Gain | None:
    """Return the gain over the plain method with the same seed; None unless every seed has both accuracies."""
    plain_accuracy = {seed.seed: seed.accuracy(eval_split) for seed in plain.seeds}

    gains = []
    for seed in scores.seeds:
        accuracy = seed.accuracy(eval_split)
        baseline = plain_accuracy.get(seed.seed)
        if accuracy is None or baseline is None:
            return None
        gains.append(accuracy - baseline)

    return Gain(
        mean=fmean(gains),
        std=stdev(gains) if len(gains) > 1 else None,
        raised=sum(gain > 0 for gain in gains),
        lowered=sum(gain < 0 for gain in gains),
        seeds=len(gains),
    )
