"""`shipyard encoders`: list the encoders of `params.yaml`."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import typer

from features.encoding.definition import EncoderSpec
from pipeline.cli.help import examples
from pipeline.config import params

app = typer.Typer(help="List encoders.", no_args_is_help=True, rich_markup_mode=None)

FACTS = Path("assets/encoders.csv")
HEADER = ("encoder", "weights", "licence", "commercial", "text tower", "tokens", "good for")
BYTES = 4  # of a float32
UNKNOWN = "–"


@app.callback()
def encoders() -> None:
    """List encoders."""


@app.command("list", epilog=examples("shipyard encoders list"))
def list_all() -> None:
    """List the encoders of params.yaml.

    The columns are the size of the weights in GB, the licence and whether it allows commercial use, the kind of the
    text tower, the longest prompt in tokens, and what the encoder is good for. assets/encoders.csv says where and when
    each licence was read; read it again before you rely on it.
    """
    from features.runtime.text_table import text_table

    rows = list(_rows(params.load()))
    print("\n".join(text_table([HEADER, *rows], left=(0, 2, 3, 4, 6))))


def _rows(settings: params.Params) -> Iterator[tuple[str, ...]]:
    with FACTS.open(encoding="utf-8", newline="") as file:
        facts = {(row["model"], row["pretrained"]): row for row in csv.DictReader(file)}
    for name, spec in settings.encoders.items():
        row = facts.get((spec.model, spec.pretrained or ""))
        known = (UNKNOWN,) * 3
        if row is not None:
            gigabytes = f"{float(row['parameters']) * BYTES / 1000:.1f}"
            known = (gigabytes, row["licence"], row["commercial"])
        yield (name, *known, *_text_tower(spec), row["good_for"] if row else UNKNOWN)


def _text_tower(spec: EncoderSpec) -> tuple[str, str]:
    """Return the kind of the text tower and its context length, by the configuration alone."""
    from features.encoding.configuration import model_config
    from features.encoding.text_support import text_support
    from features.errors import Problems

    config = Problems().attempt(lambda: model_config(spec))
    if config is None:
        return UNKNOWN, UNKNOWN
    support = text_support(config)
    return f"not supported: {support.kind}" if support.problems else support.kind, str(support.context_length)
