"""Settings that a run selected at an end of the range that was tried, so that a value beyond it may be better."""

from __future__ import annotations

from pipeline.artifacts.paths import EncoderPaths
from pipeline.artifacts.searches import edge_warnings, read_searches
from pipeline.config.params import Params
from pipeline.report.summary import Table


def with_searches(params: Params, table: Table) -> Table:
    """Return the table with what its runs selected at an end of a range; a mean over data sets as it is.

    Raises:
        InputError: a file is damaged.
    """
    if table.averaged:
        return table

    cell = EncoderPaths(params.artifacts).cell(table.dataset, table.task)
    warnings = {
        row.run: tuple(edge_warnings(read_searches(cell.diagnostics(row.run) / "searches.csv"))) for row in table.rows
    }
    return table.model_copy(update={"at_edge": {run: lines for run, lines in warnings.items() if lines}})
