"""`python -m benchmarks [--full] [NAME ...]`: run the comparisons, print them, and write `benchmarks/latest.json`."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Annotated

import typer

from benchmarks.measure import ROOT, Row, table, verdict
from features.commandline import run_app
from features.errors import InputError, nearest

NAMES = ("start_up", "loading", "tip_grid", "text_tower", "training", "extraction", "growth")
LATEST = ROOT / "benchmarks" / "latest.json"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    chosen: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help=f"Of {', '.join(NAMES)}; else all.")
    ] = None,
    full: Annotated[bool, typer.Option(help="Sizes of the tables in docs/performance.md; takes an hour.")] = False,
) -> None:
    """Compare, print, and write benchmarks/latest.json when all were run."""
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
        missed = sum(verdict(row) != "ok" for row in found)
        print(f"{LATEST.relative_to(ROOT)}: {len(found)} comparisons, {missed} missed")


if __name__ == "__main__":
    run_app(app, "nothing is kept; run it again")
