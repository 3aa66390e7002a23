"""How every program of this project ends: errors said plainly, interruptions explained, each with its own status."""

from __future__ import annotations

import sys

import typer

from features.errors import InputError
from features.runtime.interruption import INTERRUPTED


def run_app(app: typer.Typer, resume: str) -> None:
    """Run a command line to its end.

    Exit status: 0 done, 1 an `InputError` (its text on stderr, no traceback), 2 wrong usage, 130 interrupted, when
    `resume` says how to go on.
    """
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print(f"interrupted: {resume}", file=sys.stderr)
        raise
