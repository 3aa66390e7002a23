"""The score files: what `evaluate` writes and `report` reads, one file a run (`scores/<dataset>/<task>/<run>.json`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from features.errors import raise_all
from features.formats.files import write_json
from features.formats.untrusted import read_json
from features.settings import Settings, parse
from pipeline.artifacts.paths import EncoderPaths, run_name
from pipeline.config.params import Params
from pipeline.metrics.accuracy import harmonic_mean

Percent = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=1)]
HARMONIC_MEAN = "harmonic_mean"  # the name that no eval_split may have, for tables call H by it
AVERAGE = "average"  # the name that no data set may have, for tables call the mean over data sets by it
REMEDY = "remove it and run `dvc repro` to make it again"


class SplitScore(Settings):
    """One accuracy: of `n` test images among `classes` candidates; a dash where there is none, with its `reason`."""

    accuracy: Percent | None
    n: Count
    classes: Count
    average: Literal["micro", "per_class"]
    reason: str | None = None


class SeedScores(Settings):
    """What one seed got: every eval_split, and H of two of them."""

    seed: Annotated[int, Field(ge=0)]
    eval_splits: Annotated[dict[str, SplitScore], Field(min_length=1)]
    harmonic_mean: Percent | None = None

    def accuracy(self, eval_split: str) -> float | None:
        """The accuracy of a eval_split in percent, or H for `harmonic_mean`; None where it is a dash."""
        return self.harmonic_mean if eval_split == HARMONIC_MEAN else self.eval_splits[eval_split].accuracy


class EncoderId(Settings):
    """Which encoder the features came from: its name and the hash of its weights."""

    name: str
    weights_sha256: str


class Scores(Settings):
    """One run (a method, or a method with a generator) on one task of one data set, with every seed."""

    dataset: str
    trained_on: str  # the data set that was learned from: another one in a transfer
    task: str
    protocol: str
    run: str
    method: str
    generator: str | None
    shots: Count | None  # training images per seen class; None: all, or none are used
    encoder: EncoderId
    harmonic: Annotated[tuple[str, str] | None, Field(strict=False)]  # the two eval_splits that H is taken of
    unreadable: dict[str, Count] = Field(default_factory=dict)  # images left out (`learning.task_store.Header`)
    seeds: Annotated[tuple[SeedScores, ...], Field(min_length=1, strict=False)]
    missing: dict[str, Count] = Field(default_factory=dict)  # partial data sets -> how many images they lack

    @property
    def eval_splits(self) -> tuple[str, ...]:
        """Names in display order: the two of H, the others by alphabet, and `harmonic_mean` last where there is one."""
        pair = self.harmonic or ()
        others = sorted(set(self.seeds[0].eval_splits) - set(pair))
        return (*pair, *others, HARMONIC_MEAN) if pair else tuple(others)


class Cell(NamedTuple):
    """One score file that the grid asks for."""

    dataset: str
    task: str
    method: str
    generator: str | None

    @property
    def run(self) -> str:
        """What a row of a table is about: `coop`, or `coop+ship`."""
        return run_name(self.method, self.generator)

    @property
    def stage(self) -> str:
        """The DVC stage that writes the file."""
        return "evaluate_synthetic" if self.generator else "evaluate"


def score_path(artifacts: Path, cell: Cell) -> Path:
    """Where a cell's score file lies under `artifacts/<encoder>`."""
    return EncoderPaths(artifacts).cell(cell.dataset, cell.task).scores(cell.run)


def grid_runs(params: Params) -> list[Cell]:
    """Every cell that the grid names, in display order: a method, then the same with each generator's features."""
    grid = params.grid
    methods = [*grid.methods, *(method for method in grid.synthetic_methods if method not in grid.methods)]
    runs: list[tuple[str, str | None]] = []
    for method in methods:
        runs += [(method, None)] if method in grid.methods else []
        runs += [(method, generator) for generator in grid.generators if method in grid.synthetic_methods]
    return [Cell(dataset, task, *run) for dataset in grid.datasets for task in grid.tasks for run in runs]


def write_scores(path: Path, scores: Scores) -> None:
    """Write a score file, whole or not at all; the same scores give the same bytes.

    Raises:
        ValueError: scores that contradict themselves, which no input may lead to.
    """
    if problems := _contradictions(scores):
        raise ValueError(f"{path}: " + "; ".join(problems))
    write_json(path, scores.model_dump(mode="json"))


def read_scores(path: Path) -> Scores:
    """Read and check a score file.

    Raises:
        InputError: not JSON, not a score file, or one that contradicts itself or its own place; names every problem.
    """
    values = read_json(path, REMEDY)
    scores = parse(Scores, values, f"{path} ({REMEDY})")
    problems = _contradictions(scores)
    written = "/".join((scores.dataset, scores.task, f"{scores.run}.json"))
    if "/".join(path.parts[-3:]) != written:
        problems.append(f"it holds the scores of {written}, so it was copied or renamed")
    raise_all(problems, f"{path} cannot be used ({REMEDY})")
    return scores


def _contradictions(scores: Scores) -> list[str]:
    """What no single field shows to be wrong."""
    problems = []
    if scores.run != run_name(scores.method, scores.generator):
        problems.append(f"run is {scores.run!r}, but its parts make {run_name(scores.method, scores.generator)!r}")
    seeds = [seed.seed for seed in scores.seeds]
    problems += [f"seed {seed} stands twice" for seed in sorted({s for s in seeds if seeds.count(s) > 1})]
    names = set(scores.seeds[0].eval_splits)
    if HARMONIC_MEAN in names:
        problems.append(f"no eval_split may be called {HARMONIC_MEAN!r}: tables call H so")
    if scores.harmonic and not set(scores.harmonic) <= names:
        return [*problems, f"H is taken of {list(scores.harmonic)}, but the eval_splits are {sorted(names)}"]
    for seed in scores.seeds:
        problems += [f"seed {seed.seed}: {problem}" for problem in _seed_contradictions(seed, names, scores.harmonic)]
    return problems


def _seed_contradictions(seed: SeedScores, names: set[str], pair: tuple[str, str] | None) -> list[str]:
    if set(seed.eval_splits) != names:
        return [f"its eval_splits are {sorted(seed.eval_splits)}, those of the first seed {sorted(names)}"]
    problems = [
        f"{name}: a eval_split has either an accuracy or a reason why it has none"
        for name, eval_split in seed.eval_splits.items()
        if (eval_split.accuracy is None) != bool(eval_split.reason)
    ]
    expected = harmonic_mean(*(seed.accuracy(name) for name in pair)) if pair else None
    given = seed.harmonic_mean
    if (given is None) != (expected is None) or abs((given or 0) - (expected or 0)) > 1e-6:
        problems.append(f"harmonic_mean is {given}, but its eval_splits make {expected}")
    return problems
