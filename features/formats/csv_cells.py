"""CSV whose cells a spreadsheet shows as they are: a class may be named `=HYPERLINK(...)` or `-1+1`.

A spreadsheet evaluates a cell that begins with one of a few signs. Such a text gets an apostrophe in front, which the
spreadsheet takes as "this is text"; numbers stay as they are. `read_rows` takes the apostrophe away again. JSON,
Parquet and HDF5, which programs read, hold every name unchanged.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

MARK = "'"
SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n", MARK)  # https://owasp.org/www-community/attacks/CSV_Injection


def write_rows(file: TextIO, rows: Iterable[Sequence[object]]) -> None:
    """Write rows to a file that is open for writing with `newline=""`."""
    csv.writer(file, lineterminator="\n").writerows([_guarded(value) for value in row] for row in rows)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a file of `write_rows` by the names of its header."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: value.removeprefix(MARK) for key, value in row.items()} for row in csv.DictReader(file)]


def _guarded(value: object) -> object:
    if isinstance(value, str) and value.startswith(SIGNS) and not _is_number(value):
        return MARK + value
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
