"""`shipyard data`: list the data sets of `params.yaml` and download them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.help import examples
from pipeline.config import params

app = typer.Typer(help="List data sets and download them.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list", epilog=examples("shipyard data list", "shipyard data list caltech101"))
def list_all(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show details of one data set.")] = None,
) -> None:
    """List the data sets of params.yaml.

    The columns are the published counts, the licence, and whether the folder of the images is present.
    """
    from pipeline.cli.data_list import details, table

    current = params.load()
    if name:
        print(details(current, name))
        return
    print(table(current))
    print(
        f"\ndata.root is {current.data.root!r}. `shipyard data list NAME` shows details, `shipyard data get NAME` "
        "downloads a data set."
    )


@app.command(epilog=examples("shipyard data get caltech101"))
def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Data set to download, a key of `data.sets`.")],
) -> None:
    """Download a data set into data.root, verify it and unpack it.

    An interrupted download continues when the command is run again. A data set that requires a registration cannot be
    downloaded; its steps are printed instead.
    """
    from features.errors import raise_all
    from features.fetching.fetch import fetch
    from features.listing_checks import mistakes
    from pipeline.cli.data_list import reader_of

    current = params.load()
    reader = reader_of(current, name)
    root = Path(current.data.root)

    fetch(reader, root, print, show=_print_progress)
    listing = reader.read(root)
    raise_all([*mistakes(listing)], f"{name} was downloaded, but cannot be used")
    print(f"{name}: {len(listing.images):,} images of {len(listing.classes):,} classes in {reader.folder(root)}")


def _print_progress(received: int, total: int | None) -> None:
    """Print the size of a download, in bytes, as a line that is overwritten; print nothing to a log."""
    if not sys.stderr.isatty():
        return
    of_total = f" of {total / 1e6:,.0f}" if total else ""
    end = "\n" if received == total else ""
    print(f"\r\x1b[K{received / 1e6:,.0f}{of_total} MB", end=end, file=sys.stderr, flush=True)
