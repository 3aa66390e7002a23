"""`python -m benchmarks [--full] [NAME ...]`: run the comparisons, print them and record the results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

from benchmarks.measure import Row, markdown, table, verdict
from benchmarks.memory import ROOT
from features.errors import InputError, nearest
from features.runtime.commandline import run_app

NAMES = ("start_up", "index_files", "loading", "tip_grid", "text_tower", "training", "extraction", "predict", "growth")
OPTIONAL = ("peers",)  # runs only by its name, because it needs an extra
LATEST = ROOT / "benchmarks" / "latest.json"
PAGE = ROOT / "docs" / "performance.md"
MARKS = "<!-- written by python -m benchmarks -->\n", "<!-- end -->\n"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    chosen: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help=f"Comparisons to run: {', '.join(NAMES)}. Default: all.")
    ] = None,
    full: Annotated[
        bool, typer.Option(help="Use the sizes of the tables in docs/performance.md; takes an hour.")
    ] = False,
) -> None:
    """Run comparisons, print their rows and write them into benchmarks/latest.json and docs/performance.md.

    A run of all comparisons replaces all rows of this machine; with NAME, only the rows of these comparisons are
    replaced. Rows of other machines stay.
    """
    for name in chosen or ():
        if name not in (*NAMES, *OPTIONAL):
            raise InputError(f"unknown benchmark {name!r}; {nearest(name, (*NAMES, *OPTIONAL))}")
    measured: list[Row] = []
    for name in chosen or NAMES:
        rows = import_module(f"benchmarks.{name}").rows(small=not full)
        print(table(rows), flush=True)
        keep(rows)
        measured += rows
    if not chosen:
        write([*(row for row in read_latest() if row.machine != measured[0].machine), *measured])
    latest = read_latest()
    missed = sum(verdict(row) != "ok" for row in latest)
    print(f"{LATEST.relative_to(ROOT)}: {len(latest)} comparisons, {missed} missed")


def keep(rows: Sequence[Row]) -> None:
    """Replace the rows of the same names and machine, or add them."""
    kept = {(row.name, row.machine): row for row in (*read_latest(), *rows)}
    write(list(kept.values()))


def write(latest: Sequence[Row]) -> None:
    """Write the rows into the file and the page, in place of those there."""
    LATEST.write_text(json.dumps([row.as_dict() for row in latest], indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(in_page(PAGE.read_text(encoding="utf-8"), latest), encoding="utf-8")


def read_latest() -> list[Row]:
    """Return the rows of the last measurements."""
    return [Row(**row) for row in json.loads(LATEST.read_text(encoding="utf-8"))] if LATEST.exists() else []


def in_page(page: str, rows: Sequence[Row]) -> str:
    """Return the text of the page with these rows as its table."""
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return f"{before}{MARKS[0]}\n{markdown(rows)}\n{MARKS[1]}{after}"


if __name__ == "__main__":
    run_app(app, "finished comparisons are in benchmarks/latest.json; run the others by name")
