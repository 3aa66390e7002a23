"""CSV whose cells a spreadsheet shows as they are: a class may be named `=HYPERLINK(...)` or `-1+1`.

A spreadsheet evaluates a cell that begins with one of a few signs. Before such a sign a text gets an apostrophe, which
the spreadsheet takes as "this is text"; numbers stay as they are. The same is done after `;`, a tab and a line break,
because some spreadsheets take these as the end of a cell. `read_rows` takes the apostrophes away again. JSON, Parquet
and HDF5, which programs read, hold every name unchanged.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

MARK = "'"
# https://owasp.org/www-community/attacks/CSV_Injection; also as the wide signs of Chinese and Japanese keyboards
SIGNS = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n", MARK)
BEGINS = r"(?:^|(?<=[;\t\r\n]))"  # a cell
EVALUATED = re.compile(f"{BEGINS}(?=[{re.escape(''.join(SIGNS))}])")
MARKED = re.compile(BEGINS + MARK)


def write_rows(file: TextIO, rows: Iterable[Sequence[object]]) -> None:
    """Write rows to a file that is open for writing with `newline=""`."""
    usual = csv.writer(file, lineterminator="\n")
    quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        cells = [_cell(value) for value in row]
        # Python leaves a carriage return without quotes, and then reads it as the end of the row.
        has_return = any(isinstance(cell, str) and "\r" in cell for cell in cells)
        (quoted if has_return else usual).writerow(cells)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a file of `write_rows` by the names of its header."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: MARKED.sub("", value) for key, value in row.items()} for row in csv.DictReader(file)]


def guarded(text: str) -> str:
    """Return a text with an apostrophe before each sign that a spreadsheet would evaluate; a number as it is."""
    return text if _is_number(text) else EVALUATED.sub(MARK, text)


def _cell(value: object) -> object:
    return guarded(value) if isinstance(value, str) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
