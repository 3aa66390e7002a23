"""What every stage does around its work: say errors plainly, leave nothing behind when interrupted, tell its time.

A stage imports this before all else (pyproject.toml tells ruff so), so that Ctrl-C is answered from then on.
"""

from __future__ import annotations

from collections.abc import Callable

from features.runtime.interruption import exit_cleanly_on_interrupt

RESUME = "no output was changed; `dvc repro` goes on from here"
exit_cleanly_on_interrupt(RESUME)


def run(main: Callable[..., None]) -> None:
    """Run one stage's `main` as a command line whose options are the function's arguments.

    Exit status: 0 done, 1 an `InputError` (its text on stderr, no traceback), 2 wrong usage, 130 interrupted.
    """
    import typer  # noqa: PLC0415 (above, it would delay the answer to Ctrl-C)

    from features.runtime.commandline import run_app  # noqa: PLC0415
    from stages.times import timed  # noqa: PLC0415

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(timed(main))
    run_app(app, RESUME)
