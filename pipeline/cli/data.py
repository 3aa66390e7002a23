"""`shipyard data`: which data sets there are, and how they come here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.help import examples
from pipeline.config import params

app = typer.Typer(help="See which data sets there are, and fetch them.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list", epilog=examples("shipyard data list", "shipyard data list caltech101"))
def list_all(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Say all about this data set instead.")] = None,
) -> None:
    """Print every data set of params.yaml: published numbers, licence, and whether it is here."""
    from pipeline.cli.data_list import details, table

    found = params.load()
    if name:
        print(details(found, name))
        return
    print(table(found))
    print(f"\ndata.root is {found.data.root!r}. `shipyard data list NAME` says more, `shipyard data get NAME` fetches.")


@app.command(epilog=examples("shipyard data get caltech101"))
def get(name: Annotated[str, typer.Argument(metavar="NAME", help="In `data.sets` of params.yaml.")]) -> None:
    """Fetch a data set into data.root, check it and unpack it; what is behind a form is explained.

    Interrupted, it goes on from there when called again.
    """
    from features.errors import raise_all
    from features.fetching.fetch import fetch
    from features.index import mistakes
    from pipeline.cli.data_list import reader_of

    found = params.load()
    reader, root = reader_of(found, name), Path(found.data.root)
    fetch(reader, root, say=print, show=_show)
    listing = reader.read(root)
    raise_all([*mistakes(listing)], f"{name} is here, but cannot be used")
    print(f"{name}: {len(listing.images):,} images of {len(listing.classes):,} classes are in {reader.folder(root)}")


def _show(have: int, total: int | None) -> None:
    """A line on a terminal that is rewritten; nothing in a log."""
    if sys.stderr.isatty():
        of = f" of {total / 1e6:,.0f}" if total else ""
        print(f"\r\x1b[K{have / 1e6:,.0f}{of} MB", end="\n" if have == total else "", file=sys.stderr, flush=True)
