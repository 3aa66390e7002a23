"""Run a stage: print errors plainly, leave nothing behind when interrupted, report its time.

A stage imports this module before everything else (`force-to-top` in pyproject.toml), so that Ctrl-C is handled while
the other imports load.
"""

from __future__ import annotations

from collections.abc import Callable

from features.runtime.interruption import exit_cleanly_on_interrupt, raise_lost_interrupt

RESUME_HINT = "no output was changed; `dvc repro` continues from here"
exit_cleanly_on_interrupt(RESUME_HINT)


def run(main: Callable[..., None]) -> None:
    """Run a stage's `main` as a command line; the function's arguments are its options.

    Exit status: 0 done; 1 an `InputError`, whose text is printed on stderr without a traceback; 2 wrong usage;
    130 interrupted.
    """
    import typer  # noqa: PLC0415 (at the top it would delay the handling of Ctrl-C)

    from features.formats.files import before_replacing  # noqa: PLC0415
    from features.runtime.commandline import run_app  # noqa: PLC0415
    from features.runtime.watch import end_with_the_run  # noqa: PLC0415
    from stages.times import timed  # noqa: PLC0415

    before_replacing(raise_lost_interrupt)
    end_with_the_run()
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(timed(main))
    run_app(app, RESUME_HINT)
