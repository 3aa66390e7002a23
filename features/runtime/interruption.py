"""Exit cleanly on Ctrl-C during slow imports instead of printing a traceback.

A program imports this module and calls it before everything else. The module therefore imports nothing that Python has
not already imported at its start.
"""

from __future__ import annotations

import sys
from types import TracebackType

INTERRUPTED = 130  # 128 + SIGINT, the status that shells expect and typer uses


def exit_cleanly_on_interrupt(resume_hint: str) -> None:
    """From now on, end the program with status 130 and `resume_hint` when nothing else handles a KeyboardInterrupt."""

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
            return

        print(f"interrupted: {resume_hint}", file=sys.stderr)
        sys.exit(INTERRUPTED)

    def ignored(error: sys.UnraisableHookArgs) -> None:
        if not issubclass(error.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(error)

    sys.excepthook = hook
    sys.unraisablehook = ignored  # an interrupt while Python ends, which can stop nothing any more
