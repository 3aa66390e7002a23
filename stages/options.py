"""Command-line options that stages share."""

from __future__ import annotations

from typing import Annotated

import typer

Dataset = Annotated[str, typer.Option(help="Data set: a key of `data.sets` in params.yaml.")]
Task = Annotated[str, typer.Option(help="Task: a key of `tasks` in params.yaml.")]
MethodName = Annotated[str, typer.Option("--method", help="Method: the name of a file in pipeline/methods.")]
GeneratorName = Annotated[
    str, typer.Option("--generator", help="Generator: the name of a file in pipeline/generators.")
]
OptionalGenerator = Annotated[
    str | None,
    typer.Option("--generator", help="Generator whose synthetic features are added; omit for real features only."),
]
