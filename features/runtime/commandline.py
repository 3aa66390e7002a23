"""Run a command line to its end: print errors without a traceback, and give each kind of end its exit status."""

from __future__ import annotations

import sys
from io import TextIOWrapper

import typer

from features.errors import InputError
from features.runtime.interruption import INTERRUPTED


def run_app(app: typer.Typer, resume_hint: str) -> None:
    """Run a command line and exit with its status.

    Exit status: 0 done; 1 an `InputError` or an error of the system, such as a full disk, whose text is printed on
    stderr without a traceback; 2 wrong usage; 130 interrupted, and `resume_hint` is printed.
    """
    print_any_text()
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        # A failing disk can fail anywhere. Where the user can do more than replace it, the code raises an InputError.
        about = f"{error.filename}: " if error.filename else ""
        print(f"error: {about}{error.strerror or error}", file=sys.stderr)
        sys.exit(1)
    except SystemExit as end:
        # typer turns a KeyboardInterrupt into this status.
        if end.code == INTERRUPTED:
            print(f"interrupted: {resume_hint}", file=sys.stderr)
        raise


def print_any_text() -> None:
    """Write a character that the encoding of the terminal or the log lacks as its code, instead of ending with it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
