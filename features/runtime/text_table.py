"""Tables in plain text."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def text_table(rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,)) -> list[str]:
    """Return the lines of a table with aligned columns, two spaces between them.

    Rows may have different lengths. Plain lines can be searched and pasted, whatever the width of the terminal;
    `rich.table` would wrap them.

    Args:
        rows: the cells of each row, the header first.
        left: columns that are aligned to the left. All others are aligned to the right, as numbers are.
    """
    columns = max(map(len, rows), default=0)
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(columns)]

    lines = []
    for row in rows:
        cells = [cell.ljust(widths[i]) if i in left else cell.rjust(widths[i]) for i, cell in enumerate(row)]
        lines.append("  ".join(cells).rstrip())
    return lines
