"""What every stage does around its work: say errors plainly, leave nothing behind when interrupted, tell its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from features.commandline import run_app
from stages.times import timed

Dataset = Annotated[str, typer.Option(help="A name in `data.sets` of params.yaml.")]
Task = Annotated[str, typer.Option(help="A name in `tasks` of params.yaml.")]
MethodName = Annotated[str, typer.Option("--method", help="A file in pipeline/methods.")]
GeneratorName = Annotated[str, typer.Option("--generator", help="A file in pipeline/generators.")]
OptionalGenerator = Annotated[str | None, typer.Option("--generator", help="Whose features to fit with; none: plain.")]


def run(main: Callable[..., None]) -> None:
    """Run one stage's `main` as a command line whose options are the function's arguments.

    Exit status: 0 done, 1 an `InputError` (its text on stderr, no traceback), 2 wrong usage, 130 interrupted.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(timed(main))
    run_app(app, "no output was changed; `dvc repro` goes on from here")
