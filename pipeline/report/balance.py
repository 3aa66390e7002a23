"""The table of seen and unseen accuracies among all classes: plain, with the chosen offset, and over all offsets."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from types import MappingProxyType

from features.errors import raise_all
from pipeline.artifacts.balanced_scores import BalancedRun, BalancedScores, read_balanced_scores
from pipeline.artifacts.paths import EncoderPaths
from pipeline.artifacts.scores import Scores, SeedScores
from pipeline.config.params import Params
from pipeline.report.summary import BalanceRow, Measure, Table

PARTS = ("seen", "unseen", "harmonic_mean")  # of `Balance`
# Measure -> heading, in the order of the columns. The offset stands between the plain and the balanced accuracies.
PLAIN = MappingProxyType({"ausuc": "AUSUC", "plain_seen": "seen", "plain_unseen": "unseen", "plain_harmonic_mean": "H"})
BALANCED = MappingProxyType(
    {
        "balanced_seen": "seen, balanced",
        "balanced_unseen": "unseen, balanced",
        "balanced_harmonic_mean": "H, balanced",
    }
)
CAPTION = (
    "Test images of seen and of unseen classes, classified among all classes; means over classes, in percent. AUSUC: "
    "area under the curve of seen over unseen accuracy, for all offsets of the logits of seen classes (Chao et al. "
    "2016). It compares runs without choosing an offset."
)
CAPTION_BALANCED = (
    "balanced: the offset is subtracted from the logits of seen classes. It was chosen from validation images of seen "
    "classes alone. Published values are of plain logits."
)


def read_balanced(params: Params) -> list[BalancedScores]:
    """Read the balanced scores of every data set and task of `grid.select`.

    Raises:
        InputError: files are missing, damaged, or of other seeds or runs than the grid.
    """
    cells = [(dataset, task) for dataset in params.grid.datasets for task in params.grid.select]
    paths = [EncoderPaths(params.artifacts).cell(*cell).balanced for cell in cells]
    missing = [f"{path}: run `dvc repro evaluate_balanced`" for path in paths if not path.is_file()]
    raise_all(missing, "balanced scores of the grid are missing")
    return [read_balanced_scores(path) for path in paths]


def with_balance(table: Table, scores: Sequence[Scores], balanced: Sequence[BalancedScores]) -> Table:
    """Return the table with what `select` and `evaluate_balanced` found.

    It has a row for each run whose seen and unseen accuracies among all classes are known.

    Args:
        table: a table of one data set; a mean over data sets is returned as it is.
        scores: scores of the grid.
        balanced: what `evaluate_balanced` wrote, for the tasks that have it.
    """
    key = (table.dataset, table.task)
    of_table = next((b for b in balanced if (b.dataset, b.task) == key), None)

    rows = []
    for run in scores:
        if (run.dataset, run.task) != key or any(seed.plain is None for seed in run.seeds):
            continue
        rows.append(_row(run, of_table.run(run.run) if of_table else None))
    calibrated = {run.run: run.reliability for run in of_table.runs if run.reliability} if of_table else {}
    selection = of_table.selection if of_table else None
    return table.model_copy(update={"balance": tuple(rows), "calibrated": calibrated, "selection": selection})


def seed_values(seed: SeedScores, balanced: BalancedRun | None) -> dict[str, float]:
    """Return every measure of one seed by its name; empty if the task has none."""
    values: dict[str, float] = {}
    if seed.plain is not None and seed.ausuc is not None:
        values["ausuc"] = seed.ausuc
        values |= {f"plain_{part}": getattr(seed.plain, part) for part in PARTS}
    if balanced is not None and seed.seed in balanced.seeds:
        values |= {f"balanced_{part}": getattr(balanced.seeds[seed.seed], part) for part in PARTS}
    return values


def _row(run: Scores, balanced: BalancedRun | None) -> BalanceRow:
    """Return the row of one run, with means and standard deviations over seeds."""
    by_seed = [seed_values(seed, balanced) for seed in run.seeds]
    measures = {}
    for name in by_seed[0]:
        values = [of_seed[name] for of_seed in by_seed if name in of_seed]
        if len(values) == len(by_seed):
            measures[name] = Measure(mean=fmean(values), std=stdev(values) if len(values) > 1 else None)
    return BalanceRow(
        run=run.run,
        offset=fmean(balanced.offsets.values()) if balanced and balanced.offsets else None,
        reason=balanced.reason if balanced else None,
        measures=measures,
    )


def balance_cells(rows: Sequence[BalanceRow]) -> list[list[str]]:
    """Return the cells of the table as text, headings first; the balanced columns only if some run has them."""
    balanced = any(row.offset is not None for row in rows)
    head = ["run", *PLAIN.values(), *(["offset", *BALANCED.values()] if balanced else [])]

    lines = [head]
    for row in rows:
        cells = [row.run, *(_cell(row.measures.get(name)) for name in PLAIN)]
        if balanced:
            offset = "–" if row.offset is None else f"{row.offset:.2f}"
            cells += [offset, *(_cell(row.measures.get(name)) for name in BALANCED)]
        lines.append(cells)
    return lines


def balance_caption(rows: Sequence[BalanceRow]) -> list[str]:
    """Return the caption of the table, one sentence or more per item, with the reasons of runs without an offset."""
    lines = [CAPTION]
    if any(row.offset is not None for row in rows):
        lines.append(CAPTION_BALANCED)
    lines += [f"{row.run}: no offset, because {row.reason}." for row in rows if row.reason]
    return lines


def _cell(measure: Measure | None) -> str:
    if measure is None:
        return "–"
    return f"{measure.mean:.2f}" + ("" if measure.std is None else f" ± {measure.std:.2f}")
