"""`python -m benchmarks.balance`: what the offsets that `select` chose are worth on test images.

Reads the artifacts of a finished run whose grid has tasks in `grid.select`, and compares for each run the harmonic mean
of seen and unseen accuracy: of the plain logits, with the chosen offsets, with an offset that keeps 75 % of the seen
accuracy on validation images (no folds), and with the best distance on test images, which is not allowed and only shows
what is left. `docs/balance.md` has its output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np
import typer

from features.runtime.commandline import run_app
from features.runtime.text_table import text_table
from pipeline.artifacts.logits import TASK, read_logits
from pipeline.artifacts.paths import EncoderPaths, TaskPaths, logits_file
from pipeline.artifacts.selection import read_selection
from pipeline.config.params import load
from pipeline.metrics.accuracy import harmonic_mean
from pipeline.metrics.balance import Margins, joined
from pipeline.metrics.offset import SeedMargins

KEPT = 0.75  # share of the seen accuracy that the rule without folds keeps
DISTANCES = np.linspace(-5, 5, 401)
HEAD = ("task", "run", "plain", "chosen", f"keep {KEPT:.0%}", "best on test", "predicted")
Row = tuple[str, str, float, float, float, float, float]


def rows(cell: TaskPaths, seeds: Sequence[int]) -> list[Row]:
    """Return H in percent of every run of a task that has a score, in the order of `HEAD`."""
    found: list[Row] = []
    for candidate in read_selection(cell.selection).runs:
        logits = read_logits(cell.logits(candidate.run))
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
        found.append((cell.task, candidate.run, plain, chosen, keep, best, candidate.score))
    return found


def _keep(margins: Margins) -> float:
    """Return the largest offset that keeps `KEPT` of the seen accuracy on validation images."""
    wanted = KEPT * margins.accuracies(0.0)[0]
    return max((float(g) for g in margins.margin if margins.accuracies(float(g))[0] >= wanted), default=0.0)


def _best(seeds: Sequence[SeedMargins], h: Callable[[Sequence[float]], float]) -> float:
    """Return the highest H on test images at one distance for all seeds."""
    return max(h([seed.offset(float(distance)) for seed in seeds]) for distance in DISTANCES)


def main() -> None:
    """Print H of every run, the means, and what the run that `select` selected is worth."""
    params = load()
    found: list[Row] = []
    selected: list[tuple[float, float]] = []  # H of the selected run and of the best run of the same task
    for dataset in params.grid.datasets:
        for task in params.grid.select:
            cell = EncoderPaths(params.artifacts).cell(dataset, task)
            of_task = rows(cell, params.grid.seeds)
            run = read_selection(cell.selection).run
            selected.append((next(row[3] for row in of_task if row[1] == run), max(row[3] for row in of_task)))
            found += [(f"{dataset}, {row[0]}", *row[1:]) for row in of_task]

    cells = [[row[0], row[1], *(f"{value:.1f}" for value in row[2:])] for row in found]
    plain, chosen, keep, best = (np.array(column) for column in list(zip(*found, strict=True))[2:6])
    print("\n".join(text_table([list(HEAD), *cells])))
    print(f"\nmean of {len(found)} runs: plain {plain.mean():.1f}, chosen {chosen.mean():.1f}, ", end="")
    print(f"keep {KEPT:.0%} {keep.mean():.1f}, best on test {best.mean():.1f}")
    print(f"chosen / best on test: {chosen.mean() / best.mean():.3f}; keep: {keep.mean() / best.mean():.3f}")
    for name, values in (("chosen", chosen), (f"keep {KEPT:.0%}", keep)):
        change = values - plain
        print(
            f"{name}: worst change {change.min():+.1f}; {int((change < -1).sum())} of {len(change)} lose over a point"
        )
    print(f"selected run: H {fmean(h for h, _ in selected):.1f}, best run {fmean(h for _, h in selected):.1f}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run_app(app, "nothing was written; start again")
