"""Score files: `evaluate` writes one per run (`scores/<dataset>/<task>/<run>.json`), and `report` reads them all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from features.errors import raise_all
from features.formats.seal import read_sealed_json, write_sealed_json
from features.settings import Settings, parse
from pipeline.artifacts.paths import EncoderPaths, run_name
from pipeline.config.params import Params
from pipeline.metrics.accuracy import harmonic_mean
from pipeline.metrics.balance import Margins

Percent = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=1)]
HARMONIC_MEAN = "harmonic_mean"  # column of H in tables; no evaluation split may have this name
AVERAGE = "average"  # name of the mean over data sets in tables; no data set may have this name
RECREATE_HINT = "remove it and run `dvc repro` to create it again"


class SplitScore(Settings):
    """Accuracy of one seed on one evaluation split."""

    accuracy: Percent | None  # None: the run cannot be scored, and tables print a dash
    n: Count  # test images
    classes: Count  # candidate classes
    average: Literal["micro", "per_class"]
    reason: str | None = None  # why there is no accuracy


class Balance(Settings):
    """Accuracies on images of seen and of unseen classes, each classified among all classes, in percent.

    They are means over classes. `harmonic_mean` is that of the two.
    """

    seen: Percent
    unseen: Percent
    harmonic_mean: Percent

    @classmethod
    def at(cls, margins: Margins, offset: float) -> Balance:
        """Return the accuracies when `offset` is subtracted from the logits of the seen classes."""
        seen, unseen = margins.accuracies(offset)
        return cls(seen=seen, unseen=unseen, harmonic_mean=harmonic_mean(seen, unseen) or 0.0)


class SeedScores(Settings):
    """Scores of one seed: every evaluation split, and the harmonic mean of two of them.

    Attributes:
        seed: the seed.
        eval_splits: evaluation split -> its score; empty without test images.
        harmonic_mean: H of the two evaluation splits of `Scores.harmonic`.
        plain: for a task that classifies images of both kinds among all classes: seen and unseen accuracy of the
            logits as they are.
        ausuc: for such a task: area under the seen-unseen curve, in percent (`pipeline.metrics.balance`).
    """

    seed: Annotated[int, Field(ge=0)]
    eval_splits: dict[str, SplitScore]
    harmonic_mean: Percent | None = None
    plain: Balance | None = None
    ausuc: Percent | None = None

    def accuracy(self, eval_split: str) -> float | None:
        """Return the accuracy of an evaluation split, or H for `harmonic_mean`, in percent; None if there is none."""
        return self.harmonic_mean if eval_split == HARMONIC_MEAN else self.eval_splits[eval_split].accuracy


class EncoderId(Settings):
    """The encoder that computed the features: its name and the hash of its weights."""

    name: str
    weights_sha256: str


class Scores(Settings):
    """Scores of one run (a method, or a method with a generator) on one task and data set, with every seed."""

    dataset: str
    trained_on: str  # data set of the training images; differs from `dataset` in a transfer
    task: str
    protocol: str
    run: str
    method: str
    generator: str | None
    shots: Count | None  # training images per seen class; None: all of them, or the method uses none
    encoder: EncoderId
    harmonic: Annotated[tuple[str, str] | None, Field(strict=False)]  # evaluation splits of H
    unreadable: dict[str, Count] = Field(default_factory=dict)  # images left out; see `Header`
    seeds: Annotated[tuple[SeedScores, ...], Field(min_length=1, strict=False)]
    missing: dict[str, Count] = Field(default_factory=dict)  # partial data set -> number of missing images
    validation_from: Literal["val", "train", "test"] = "val"  # test: settings were selected on test images

    @property
    def eval_splits(self) -> tuple[str, ...]:
        """Names in display order: the two of H, the others alphabetically, then `harmonic_mean` if there is one."""
        pair = self.harmonic or ()
        others = sorted(set(self.seeds[0].eval_splits) - set(pair))
        return (*pair, *others, HARMONIC_MEAN) if pair else tuple(others)


class Cell(NamedTuple):
    """One score file of the grid."""

    dataset: str
    task: str
    method: str
    generator: str | None

    @property
    def run(self) -> str:
        """Name of the run, such as `coop` or `coop+ship`."""
        return run_name(self.method, self.generator)

    @property
    def stage(self) -> str:
        """DVC stage that writes the file."""
        return "evaluate_synthetic" if self.generator else "evaluate"


def score_path(artifacts: Path, cell: Cell) -> Path:
    """Return the path of a cell's score file below `artifacts/<encoder>`."""
    return EncoderPaths(artifacts).cell(cell.dataset, cell.task).scores(cell.run)


def grid_runs(params: Params) -> list[Cell]:
    """Return every cell of the grid in display order: each method, followed by the method with each generator."""
    grid = params.grid
    methods = [*grid.methods, *(method for method in grid.synthetic_methods if method not in grid.methods)]

    runs: list[tuple[str, str | None]] = []
    for method in methods:
        if method in grid.methods:
            runs.append((method, None))
        if method in grid.synthetic_methods:
            runs += [(method, generator) for generator in grid.generators]

    return [Cell(dataset, task, *run) for dataset in grid.datasets for task in grid.tasks for run in runs]


def write_scores(path: Path, scores: Scores) -> None:
    """Write a score file, either the whole file or nothing. Equal scores give equal bytes.

    Raises:
        ValueError: the scores contradict themselves. This is a bug of the caller, not a user's mistake.
    """
    problems = _contradictions(scores)
    if problems:
        raise ValueError(f"{path}: " + "; ".join(problems))
    write_sealed_json(path, scores.model_dump(mode="json"))


def read_scores(path: Path) -> Scores:
    """Read a score file and check that it is consistent.

    Raises:
        InputError: the file is not JSON or not a score file, was written by an older version, contradicts itself, or
            was copied or renamed. The error lists every problem.
    """
    values = read_sealed_json(path, RECREATE_HINT)
    scores = parse(Scores, values, f"{path} ({RECREATE_HINT})")

    # The file may have been edited, merged or copied by hand since `write_scores` checked its content.
    problems = _contradictions(scores)
    expected = "/".join((scores.dataset, scores.task, f"{scores.run}.json"))
    if "/".join(path.parts[-3:]) != expected:
        problems.append(f"the file holds the scores of {expected}, so it was copied or renamed")

    raise_all(problems, f"{path} cannot be used ({RECREATE_HINT})")
    return scores


def _contradictions(scores: Scores) -> list[str]:
    """Return the contradictions between fields that are each valid by themselves."""
    problems = []

    expected = run_name(scores.method, scores.generator)
    if scores.run != expected:
        problems.append(f"run: {scores.run!r} does not match method and generator: expected {expected!r}")

    seeds = [seed.seed for seed in scores.seeds]
    duplicates = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    problems += [f"seeds: {seed} occurs more than once" for seed in duplicates]

    names = set(scores.seeds[0].eval_splits)
    if HARMONIC_MEAN in names:
        problems.append(f"eval_splits: {HARMONIC_MEAN!r} is reserved for the column H")

    # Without its two evaluation splits H cannot be checked seed by seed.
    if scores.harmonic and not set(scores.harmonic) <= names:
        return [*problems, f"harmonic: {list(scores.harmonic)} are not all among the eval_splits {sorted(names)}"]

    for seed in scores.seeds:
        problems += [f"seed {seed.seed}: {problem}" for problem in _seed_contradictions(seed, names, scores.harmonic)]
    return problems


def _seed_contradictions(seed: SeedScores, names: set[str], pair: tuple[str, str] | None) -> list[str]:
    """Return the contradictions of one seed; `names` are the evaluation splits of the first seed, `pair` those of H."""
    if set(seed.eval_splits) != names:
        return [f"eval_splits: {sorted(seed.eval_splits)} differ from those of the first seed, {sorted(names)}"]

    problems = [
        f"eval_splits.{name}: expected either an accuracy or a reason why there is none"
        for name, score in seed.eval_splits.items()
        if (score.accuracy is None) != bool(score.reason)
    ]

    expected = harmonic_mean(*(seed.accuracy(name) for name in pair)) if pair else None
    actual = seed.harmonic_mean
    if (actual is None) != (expected is None) or abs((actual or 0) - (expected or 0)) > 1e-6:
        problems.append(f"harmonic_mean: {actual} does not match the eval_splits: expected {expected}")

    return problems
