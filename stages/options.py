"""The options that stages share."""

from __future__ import annotations

from typing import Annotated

import typer

Dataset = Annotated[str, typer.Option(help="A name in `data.sets` of params.yaml.")]
Task = Annotated[str, typer.Option(help="A name in `tasks` of params.yaml.")]
MethodName = Annotated[str, typer.Option("--method", help="A file in pipeline/methods.")]
GeneratorName = Annotated[str, typer.Option("--generator", help="A file in pipeline/generators.")]
OptionalGenerator = Annotated[str | None, typer.Option("--generator", help="Whose features to fit with; none: plain.")]
