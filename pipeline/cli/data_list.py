"""Output of `shipyard data list`: a table of the data sets of `params.yaml`, or the details of one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from features.datasets.base import Origin, Reader, reader_from
from features.datasets.image_table import ImageTable
from features.errors import InputError, Problems, nearest
from features.runtime.text_table import text_table
from pipeline.config.params import PATH, Params

HEADER = ("data set", "classes", "train", "val", "test", "licence", "present")
TEXT_COLUMNS = (0, 5, 6)  # the other columns are numbers


def reader_of(params: Params, name: str) -> Reader:
    """Return the reader of a data set of `params.yaml`.

    Raises:
        InputError: there is no such data set, or its block is invalid.
    """
    sets = params.data.sets
    if name not in sets:
        raise InputError(f"{name!r} is not in `data.sets` of {PATH}; {nearest(name, sets)}")
    return reader_from(sets[name], f"{PATH}: data.sets.{name}")


def folder_of(params: Params, name: str) -> Path:
    """Return the folder that holds the images of a data set.

    Raises:
        InputError: the folder does not exist, or `reader_of` fails.
    """
    return reader_of(params, name).folder(Path(params.data.root))


def data_paths(params: Params) -> Iterator[Path]:
    """Yield the folders and tables of all data sets that have a valid block, whether or not they exist."""
    # `shipyard check` reports invalid blocks. Such a block names no folder.
    problems = Problems()
    for name in params.data.sets:
        reader = problems.attempt(partial(reader_of, params, name))
        if reader is not None:
            folder = Path(params.data.root) / reader.path
            yield folder
            if isinstance(reader, ImageTable):  # its tables may lie elsewhere
                yield from (
                    folder / table for table in ([reader.table] if isinstance(reader.table, str) else reader.table)
                )


def table(params: Params) -> str:
    """Return a table with one row per data set: published counts, licence, and whether its folder exists."""
    return "\n".join(text_table([HEADER, *(_row(params, name) for name in params.data.sets)], left=TEXT_COLUMNS))


def _row(params: Params, name: str) -> tuple[str, ...]:
    """Return the cells of one data set."""
    origin = _origin(reader_of(params, name))
    counts = origin.counts if origin else None
    numbers = (counts.classes, counts.train, counts.val, counts.test) if counts else ()
    cells = [f"{number:,}" for number in numbers] or ["–"] * 4
    return (name, *cells, origin.licence if origin else "yours", "yes" if _present(params, name) else "no")


def details(params: Params, name: str) -> str:
    """Return everything that the reader of a data set declares, one line per item.

    Raises:
        InputError: there is no such data set, or its block is invalid.
    """
    reader = reader_of(params, name)
    origin = _origin(reader)
    items: dict[str, str] = {}

    if origin:
        items |= {
            "title": origin.title,
            "licence": origin.licence,
            "home": origin.home,
            "cite": origin.citation,
        }

    present = _present(params, name)
    items |= {
        "reader": reader.reader,
        "folder": str(folder_of(params, name) if present else Path(params.data.root) / reader.path),
        "state": "present" if present else "missing",
        "layout": reader.layout,
    }

    if origin and (counts := origin.counts):
        items["images"] = f"{counts.train:,} train, {counts.val:,} val, {counts.test:,} test"
        items["classes"] = f"{counts.classes:,}"
    items["prompts"] = "; ".join(getattr(reader, "templates", ()))
    items["to get it"] = reader.source

    # The addresses are longer than the other labels, so the column does not follow their width.
    width = max(map(len, items))
    for archive in reader.archives:
        items[f"from {archive.url}"] = archive.checksum or "no published checksum"
    return "\n".join(f"{label.ljust(width)}  {value}" for label, value in items.items() if value)


def _origin(reader: Reader) -> Origin | None:
    """Return the published facts of a data set; None for a data set of the user."""
    origin = getattr(reader, "origin", None)
    return origin if isinstance(origin, Origin) else None


def _present(params: Params, name: str) -> bool:
    """Return whether the folder of a data set exists."""
    try:
        folder_of(params, name)
    except InputError:
        return False
    return True
