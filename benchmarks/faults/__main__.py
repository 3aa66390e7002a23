"""`python -m benchmarks.faults [PART ...]`: break a small run in many ways and record the outcomes in a page."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from typing import Annotated

import typer

from benchmarks.faults.workspace import Row, workspace
from benchmarks.memory import ROOT
from features.errors import InputError, nearest
from features.formats.files import atomic_file
from features.runtime.commandline import run_app

PARTS = ("kills", "ended", "grid", "edits", "disks", "paths", "beside", "stores", "machine")
PAGE = ROOT / "docs" / "reliability.md"
HEAD = "| fault | tried | what came of it |\n|---|--:|---|\n"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    chosen: Annotated[
        list[str] | None, typer.Argument(metavar="PART", help=f"Of {', '.join(PARTS)}. Default: all.")
    ] = None,
    times: Annotated[int, typer.Option(min=1, help="Number of kills per stage and of flipped bits per file.")] = 20,
) -> None:
    """Break, inspect and run again, and write each part's table into docs/reliability.md; exit with 1 if one failed."""
    for name in chosen or ():
        if name not in PARTS:
            raise InputError(f"unknown part {name!r}; {nearest(name, PARTS)}")
    wrong = 0
    with workspace() as space:
        for part in chosen or PARTS:
            rows: list[Row] = []
            for row in import_module(f"benchmarks.faults.{part}").rows(space, times):
                rows.append(row)
                print(row.line(), end="", flush=True)
                put(part, rows)  # after each row, because a part takes hours and may be stopped
            wrong += sum(bool(row.wrong) for row in rows)
    if wrong:
        raise typer.Exit(1)


def put(part: str, rows: list[Row]) -> None:
    """Write a part's table into the page, between the two marks of the part."""
    begin, end = (f"<!-- {mark} of {part} -->\n" for mark in ("table", "end"))
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.partition(begin)[0], text.partition(end)[2]
    with atomic_file(PAGE) as page:
        page.write_text(before + begin + HEAD + "".join(row.line() for row in rows) + end + after, encoding="utf-8")


def may_mount() -> None:
    """Start this program again in a user namespace if that gives it the right to mount."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if os.geteuid() == 0:
        return
    try:
        allowed = subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode == 0  # noqa: S603 (fixed words)
    except OSError:
        return
    if allowed:
        os.execvp(unshare[0], [*unshare, sys.executable, "-m", "benchmarks.faults", *sys.argv[1:]])  # noqa: S606 (ours)


if __name__ == "__main__":
    may_mount()
    run_app(app, "docs/reliability.md has the tables of the finished parts")
