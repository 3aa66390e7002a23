"""No cell of a CSV file begins with a sign that a spreadsheet evaluates, and reading gives the names back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from features.formats.csv_cells import read_rows, write_rows

NAMES = [
    "=cmd|' /C calc'!A0",
    '=HYPERLINK("x","y")',
    "@SUM(1)",
    "-1+1",
    "+1+1",
    "\t=1",
    "\r=1",
    "cat;=1+1;+1+1",
    "cat\t=1\n@SUM(1)",
    "＝1+1",
    "a;'b;''=c",
    "\r\n;'",
    "'s-Hertogenbosch",
    "cat",
    "''",
    "",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_guarded_and_read_back(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        write_rows(file, [("class", "x"), (name, "-0.5")])
    cells = re.split("[;\t\r\n]", path.read_bytes().decode().removeprefix("class,x\n").removesuffix(",-0.5\n"))
    assert not [cell for cell in cells if cell.lstrip('"').startswith(("=", "+", "-", "@", "＝"))]
    assert read_rows(path) == [{"class": name, "x": "-0.5"}]


def test_numbers_stay_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        write_rows(file, [("x",), (-1.5,), ("-2.25",), (None,)])
    assert path.read_text(encoding="utf-8") == 'x\n-1.5\n-2.25\n""\n'
