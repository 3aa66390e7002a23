"""`python -m benchmarks.faults [PART ...]`: break a small run in many ways, and put what came of it into a page."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer

from benchmarks.faults.workspace import Row, workspace
from benchmarks.measure import ROOT
from features.errors import InputError, nearest
from features.formats.files import atomic_file
from features.runtime.commandline import run_app

PARTS = ("kills", "stores", "machine")
PAGE = ROOT / "docs" / "reliability.md"
HEAD = "| fault | tried | what came of it |\n|---|--:|---|\n"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    chosen: Annotated[list[str] | None, typer.Argument(metavar="PART", help=f"Of {', '.join(PARTS)}.")] = None,
    times: Annotated[int, typer.Option(min=1, help="Kills of each stage, and flipped bits of each file.")] = 20,
) -> None:
    """Break, look, run again; write each part's table into docs/reliability.md; status 1 if anything went wrong."""
    for name in chosen or ():
        if name not in PARTS:
            raise InputError(f"{name!r} is no part; {nearest(name, PARTS)}")
    wrong = 0
    with workspace() as space:
        for part in chosen or PARTS:
            rows: list[Row] = []
            for row in import_module(f"benchmarks.faults.{part}").rows(space, times):
                rows.append(row)
                print(row.line(), end="", flush=True)
            put(part, rows)
            wrong += sum(bool(row.wrong) for row in rows)
    if wrong:
        raise typer.Exit(1)


def put(part: str, rows: list[Row]) -> None:
    """Into the page, between the part's two marks."""
    begin, end = (f"<!-- {mark} of {part} -->\n" for mark in ("table", "end"))
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.partition(begin)[0], text.partition(end)[2]
    with atomic_file(PAGE) as page:
        page.write_text(before + begin + HEAD + "".join(row.line() for row in rows) + end + after, encoding="utf-8")


if __name__ == "__main__":
    run_app(app, "docs/reliability.md has the tables of the parts that were done")
