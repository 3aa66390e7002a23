"""Exit cleanly on Ctrl-C: without a traceback during slow imports, and also when a library loses the interrupt.

A program imports this module and calls it before everything else. The module therefore imports nothing that Python has
not already imported at its start.
"""

from __future__ import annotations

import sys
from types import FrameType, TracebackType

INTERRUPTED = 130  # 128 + SIGINT, the status that shells expect and typer uses

_came = False  # whether an interrupt came


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
    sys.unraisablehook = ignored  # `raise_lost_interrupt` ends the program, if Python is not about to end it

    import signal  # noqa: PLC0415 (at the top, an interrupt during it would print a traceback)

    # A signal that is ignored stays ignored, as for a program that a shell started in the background.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Handle a signal as Ctrl-C, and remember that it came."""
    global _came  # noqa: PLW0603 (a signal handler has no owner to keep it in)
    _came = True
    raise KeyboardInterrupt


def raise_lost_interrupt() -> None:
    """Raise KeyboardInterrupt if an interrupt came and the program goes on all the same.

    Python drops an exception raised in `__del__` or in the callback of a weak reference, and C code that imports
    modules may drop it too. Both happen while the libraries of a stage load. Whatever runs for long calls this between
    two steps, and before its result gets its name.
    """
    if _came:
        raise KeyboardInterrupt
