"""Ctrl-C while a program still imports, which takes seconds: a word in the place of a traceback.

To be imported and called before all else, so it imports nothing itself that Python has not imported to start.
"""

from __future__ import annotations

import sys
from types import TracebackType

INTERRUPTED = 130  # 128 + SIGINT, what shells expect and what typer ends with


def exit_cleanly_on_interrupt(resume: str) -> None:
    """From now on an interruption that nothing else handles ends the program with 130, and says how to go on."""

    def say(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, where)
            return
        print(f"interrupted: {resume}", file=sys.stderr)
        sys.exit(INTERRUPTED)

    sys.excepthook = say
