"""`python -m benchmarks.balance`: what the offsets that `select` chose are worth on test images.

Reads every selection under `artifacts/`, of all encoders and data sets. For each run it compares the harmonic mean of
seen and unseen accuracy: of the plain logits, with the chosen offsets, with an offset that keeps 75 % of the seen
accuracy on validation images (no folds), and with the best distance on test images, which is not allowed and only shows
what is left. A second table has what a generator adds to a method. `docs/balance.md` has the output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated

import numpy as np
import typer
from scipy.stats import spearmanr

from features.errors import InputError, raise_all
from features.runtime.commandline import run_app
from features.runtime.text_table import text_table
from pipeline.artifacts.logits import TASK, read_logits
from pipeline.artifacts.paths import EncoderPaths, TaskPaths, logits_file
from pipeline.artifacts.selection import read_selection
from pipeline.metrics.accuracy import harmonic_mean
from pipeline.metrics.balance import Margins, ausuc, joined
from pipeline.metrics.offset import SeedMargins

KEPT = 0.75  # share of the seen accuracy that the rule without folds keeps
DISTANCES = np.linspace(-5, 5, 401)


@dataclass(frozen=True)
class Row:
    """H of a run on test images in percent, by the offset that is subtracted, and what was predicted of it.

    Attributes:
        run: name of the run.
        plain: without an offset.
        chosen: with the offsets of `select`.
        keep: with the offset that keeps `KEPT` of the seen accuracy.
        best: with the best offset on test images.
        predicted: H that `select` predicted.
        area: AUSUC.
    """

    run: str
    plain: float
    chosen: float
    keep: float
    best: float
    predicted: float
    area: float


def rows(cell: TaskPaths) -> list[Row]:
    """Return the results of every run of a task that has a score."""
    found: list[Row] = []
    for candidate in read_selection(cell.selection).runs:
        logits = read_logits(cell.logits(candidate.run))
        seeds = list(candidate.offsets)
        if candidate.score is None or not all(logits.margins[seed] for seed in seeds):
            continue

        test = [joined(list(logits.margins[seed].values())) for seed in seeds]
        validated = [read_logits(logits_file(cell.validation_logits(candidate.run), seed)) for seed in seeds]
        own = [SeedMargins(v.margins[seed][TASK], (), ()) for v, seed in zip(validated, seeds, strict=True)]

        def h(offsets: Sequence[float], test: Sequence[Margins] = test) -> float:
            return fmean(harmonic_mean(*m.accuracies(g)) or 0.0 for m, g in zip(test, offsets, strict=True))

        plain = h([0.0] * len(seeds))
        chosen = h([candidate.offsets[seed] for seed in seeds])
        keep = h([_keep(seed.task) for seed in own])
        best = max(plain, chosen, _best(own, h))
        area = fmean(ausuc(margins) or 0.0 for margins in test)
        found.append(Row(candidate.run, plain, chosen, keep, best, candidate.score, area))
    return found


def find_selections(folders: Sequence[Path]) -> dict[str, TaskPaths]:
    """Return the tasks that have a selection, by encoder, data set and task.

    Raises:
        InputError: there is none, or two folders have the same task.
    """
    found: dict[str, TaskPaths] = {}
    repeated = []
    for path in [path for folder in folders for path in sorted(folder.glob("*/selection/*/*.json"))]:
        encoder, dataset, task = path.parents[2], path.parent.name, path.stem
        name = f"{encoder.name}, {dataset}, {task}"
        if name in found:
            repeated.append(f"{path}: {found[name].selection} has the same task; give one of the folders")
        found[name] = EncoderPaths(encoder).cell(dataset, task)
    raise_all(repeated, "tasks that two folders have")
    if not found:
        raise InputError("no selection found; run a recipe with tasks in grid.select, such as docs/results/balance_*")
    return found


def _keep(margins: Margins) -> float:
    """Return the largest offset that keeps `KEPT` of the seen accuracy on validation images."""
    wanted = KEPT * margins.accuracies(0.0)[0]
    return max((float(g) for g in margins.margin if margins.accuracies(float(g))[0] >= wanted), default=0.0)


def _best(seeds: Sequence[SeedMargins], h: Callable[[Sequence[float]], float]) -> float:
    """Return the highest H on test images at one distance for all seeds."""
    return max(h([seed.offset(float(distance)) for seed in seeds]) for distance in DISTANCES)


def summary(tasks: dict[str, list[Row]], selected: dict[str, str]) -> list[list[str]]:
    """Return one line per task, and one of all: means over runs, and what the selected run is worth.

    Of all tasks, `share` is the ratio of the two means of H.

    Args:
        tasks: name of the task -> its runs.
        selected: name of the task -> the run that `select` selected.
    """
    head = ["", "runs", "plain", "chosen", f"keep {KEPT:.0%}", "best", "chosen / best", "lose > 1", "worst"]
    lines = [[*head, "selected", "its H", "best run", "share", "order"]]
    chosen_h, best_h = [], []
    for name, of_task in tasks.items():
        best = max(of_task, key=lambda row: row.chosen)
        run = next(row for row in of_task if row.run == selected[name])
        chosen_h.append(run.chosen)
        best_h.append(best.chosen)
        order = float(spearmanr([row.predicted for row in of_task], [row.chosen for row in of_task]).statistic)
        its = [run.run, f"{run.chosen:.1f}", f"{best.chosen:.1f}", f"{run.chosen / best.chosen:.3f}", f"{order:.2f}"]
        lines.append([name, *_means(of_task), *its])
    every = [row for of_task in tasks.values() for row in of_task]
    its_h, highest = fmean(chosen_h), fmean(best_h)
    return [*lines, ["all", *_means(every), "", f"{its_h:.1f}", f"{highest:.1f}", f"{its_h / highest:.3f}", ""]]


def _means(found: Sequence[Row]) -> list[str]:
    """Return the cells of `summary` that are means over runs."""
    plain, chosen, keep, best = (fmean(values) for values in zip(*(_h(row) for row in found), strict=True))
    changes = [row.chosen - row.plain for row in found]
    numbers = [f"{value:.1f}" for value in (plain, chosen, keep, best)]
    lost = sum(change < -1 for change in changes)
    return [str(len(found)), *numbers, f"{chosen / best:.3f}", str(lost), f"{min(changes):+.1f}"]


def _h(row: Row) -> tuple[float, float, float, float]:
    return row.plain, row.chosen, row.keep, row.best


def gains(tasks: dict[str, list[Row]]) -> list[list[str]]:
    """Return what a generator adds to each method: H plain and balanced, and AUSUC, in points."""
    lines = [["", "run", "H plain", "H balanced", "AUSUC"]]
    for name, of_task in tasks.items():
        by_run = {row.run: row for row in of_task}
        for row in of_task:
            method, plus, _ = row.run.partition("+")
            if plus and method in by_run:
                alone = by_run[method]
                pairs = ((row.plain, alone.plain), (row.chosen, alone.chosen), (row.area, alone.area))
                lines.append([name, row.run, *(f"{value - other:+.1f}" for value, other in pairs)])
    return lines


def main(artifacts: Annotated[list[Path] | None, typer.Argument(help="Folders of artifacts.")] = None) -> None:
    """Print H of every run, the means, and what the selected run and the generators are worth."""
    cells = find_selections(artifacts or [Path("artifacts")])
    tasks = {name: rows(cell) for name, cell in cells.items()}
    selected = {name: read_selection(cell.selection).run for name, cell in cells.items()}

    head = ["", "run", "plain", "chosen", f"keep {KEPT:.0%}", "best on test", "predicted"]
    lines = [
        [name, row.run, *(f"{value:.1f}" for value in (*_h(row), row.predicted))]
        for name, of_task in tasks.items()
        for row in of_task
    ]
    for table in ([head, *lines], summary(tasks, selected), gains(tasks)):
        print("\n".join(text_table(table)), end="\n\n")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run_app(app, "nothing was written; start again")
