"""The results table in a terminal: plain text, aligned, the published values under ours."""

from __future__ import annotations

import json
from pathlib import Path

from features.errors import InputError
from features.settings import parse
from pipeline.report.formatting import DASH, caption, footnotes, gain_sentences, heading, number, plus_minus
from pipeline.report.summary import Row, Summary, Table
from pipeline.report.tables import published_cells, reference_name


def read_summary(folder: Path) -> Summary:
    """The `summary.json` of a report's folder.

    Raises:
        InputError: there is no report yet, or it is damaged.
    """
    path = folder / "summary.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"there is no report in {folder} yet: run `dvc repro` (or `make demo`) first") from None
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read: {error}. Run `dvc repro report` to make it again.") from error
    return parse(Summary, values, str(path))


def results_text(summary: Summary, folder: Path, page: Path) -> str:
    """What `shipyard report` prints: every table, and where the page and the numbers lie."""
    parts = [f"Encoder {summary.encoder.name}, seeds {', '.join(map(str, summary.seeds))}: mean ± sample std, percent"]
    parts += [f"Note: {note}" for note in summary.notes]
    parts += [table_text(table) for table in summary.tables]
    parts += [f"Report: {page} (open it in a browser); numbers: {folder / 'results.csv'}"]
    return "\n\n".join(parts)


def table_text(table: Table) -> str:
    """One table as aligned lines, its footnotes and captions below."""
    reasons = footnotes(table)
    lines = [["", *(heading(column) for column in table.columns)]]
    for row in table.rows:
        lines.append([row.run, *(plus_minus(row.values[column], reasons) for column in table.columns)])
        if any(value.published is not None for value in row.values.values()):
            lines.append(_published_line(table, row))
    for reference in table.references:
        values = (reference.values.get(column) for column in table.columns)
        lines.append([reference_name(reference), *(DASH if value is None else number(value) for value in values)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = [f"{table.dataset}, {table.task}"]
    text += [_aligned(line, widths) for line in lines]
    text += [f"[{i}] {reason}" for i, reason in enumerate(reasons, start=1)]
    return "\n".join([*text, *caption(table), *gain_sentences(table)])


def _published_line(table: Table, row: Row) -> list[str]:
    cells = ["  published (difference)"]
    for column in table.columns:
        published, difference = published_cells(row.values[column])
        cells.append(published if difference == DASH else f"{published} ({difference})")
    return cells


def _aligned(cells: list[str], widths: list[int]) -> str:
    first, *others = (
        cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([first, *others]).rstrip()
