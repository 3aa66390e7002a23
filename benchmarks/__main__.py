"""`python -m benchmarks [--full] [NAME ...]`: run the comparisons, print them, and write down what all of them gave."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

from benchmarks.measure import ROOT, Row, markdown, table, verdict
from features.commandline import run_app
from features.errors import InputError, nearest

NAMES = ("start_up", "index_files", "loading", "tip_grid", "text_tower", "training", "extraction", "predict", "growth")
LATEST = ROOT / "benchmarks" / "latest.json"
PAGE = ROOT / "docs" / "performance.md"
MARKS = "<!-- written by python -m benchmarks -->\n", "<!-- end -->\n"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    chosen: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help=f"Of {', '.join(NAMES)}; else all.")
    ] = None,
    full: Annotated[bool, typer.Option(help="Sizes of the tables in docs/performance.md; takes an hour.")] = False,
) -> None:
    """Compare and print; when all were run, write benchmarks/latest.json and the table of docs/performance.md."""
    for name in chosen or ():
        if name not in NAMES:
            raise InputError(f"{name!r} is no benchmark; {nearest(name, NAMES)}")
    found: list[Row] = []
    for name in chosen or NAMES:
        rows = import_module(f"benchmarks.{name}").rows(small=not full)
        print(table(rows), flush=True)
        found += rows
    if not chosen:
        LATEST.write_text(json.dumps([row.as_dict() for row in found], indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(in_page(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
        missed = sum(verdict(row) != "ok" for row in found)
        print(f"{LATEST.relative_to(ROOT)}: {len(found)} comparisons, {missed} missed")


def in_page(page: str, rows: Sequence[Row]) -> str:
    """The page with these rows as its table."""
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return f"{before}{MARKS[0]}\n{markdown(rows)}\n{MARKS[1]}{after}"


if __name__ == "__main__":
    run_app(app, "nothing is kept; run it again")
