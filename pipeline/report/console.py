"""Tables of results as aligned plain text for the terminal, with the published values below ours."""

from __future__ import annotations

from pathlib import Path

from features.formats.seal import read_sealed_json
from features.runtime.text_table import text_table
from features.settings import parse
from pipeline.report.balance import balance_caption, balance_cells
from pipeline.report.formatting import DASH, caption, footnotes, gain_sentences, heading, number, over_seeds, plus_minus
from pipeline.report.summary import Row, Summary, Table
from pipeline.report.tables import published_cells, reference_name


def read_summary(folder: Path, hint: str = "run `shipyard run` first") -> Summary:
    """Read `summary.json` in the folder of a report.

    Raises:
        InputError: there is no report yet, or it is damaged; the message ends with `hint`.
    """
    path = folder / "summary.json"
    return parse(Summary, read_sealed_json(path, hint), str(path))


def results_text(summary: Summary, folder: Path, page: Path) -> str:
    """Return the output of `shipyard report`: every table, and the paths of the page and of the numbers."""
    parts = [f"Encoder {summary.encoder.name}, {over_seeds(summary.seeds)}, percent"]
    parts += [f"Note: {note}" for note in summary.notes]
    parts += [table_text(table) for table in summary.tables]
    parts += [f"Report: {page} (open in a browser). Numbers: {folder / 'results.csv'}"]
    return "\n\n".join(parts)


def table_text(table: Table) -> str:
    """Return one table as aligned lines, followed by its footnotes, caption and gains."""
    reasons = footnotes(table)

    lines = [["", *(heading(column) for column in table.columns)]]
    for row in table.scored:
        lines.append([row.run, *(plus_minus(row.values[column], reasons) for column in table.columns)])
        if any(value.published is not None for value in row.values.values()):
            lines.append(_published_line(table, row))
    for reference in table.references:
        values = (reference.values.get(column) for column in table.columns)
        lines.append([reference_name(reference), *(DASH if value is None else number(value) for value in values)])

    text = [table.title, *text_table(lines)]
    text += [f"[{i}] {reason}" for i, reason in enumerate(reasons, start=1)]
    text += [*caption(table), *gain_sentences(table)]
    if table.balance:
        text += ["", f"{table.title}: seen and unseen classes in balance"]
        text += [*text_table(balance_cells(table.balance)), *balance_caption(table.balance)]
    return "\n".join(text)


def _published_line(table: Table, row: Row) -> list[str]:
    """Return the cells of the line with the published values of a row."""
    cells = ["  published (difference)"]
    for column in table.columns:
        published, difference = published_cells(row.values[column])
        cells.append(published if difference == DASH else f"{published} ({difference})")
    return cells
