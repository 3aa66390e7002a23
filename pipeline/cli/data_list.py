"""What `shipyard data list` prints: every data set of `params.yaml`, or all that is known of one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from features.datasets.base import Origin, Reader, reader_from
from features.errors import InputError, Problems, nearest
from pipeline.config.params import PATH, Params

HEADER = ("data set", "classes", "train", "val", "test", "licence", "here")


def reader_of(params: Params, name: str) -> Reader:
    """The reader of one data set of `params.yaml`.

    Raises:
        InputError: there is no such data set, or its block is wrong.
    """
    sets = params.data.sets
    if name not in sets:
        raise InputError(f"{name!r} is not in `data.sets` of {PATH}; {nearest(name, sets)}")
    return reader_from(sets[name], f"{PATH}: data.sets.{name}")


def data_folders(params: Params) -> list[Path]:
    """Return the folders below `data.root` of all data sets in `params.yaml` whose block can be read."""
    problems = Problems()  # a wrong block has no folder; `shipyard check` reports it
    readers = [problems.attempt(partial(reader_of, params, name)) for name in params.data.sets]
    return [Path(params.data.root) / reader.path for reader in readers if reader is not None]


def table(params: Params) -> str:
    """A line a data set, aligned: published numbers, licence, and whether its folder is there."""
    lines = [HEADER, *(_line(name, reader_of(params, name), Path(params.data.root)) for name in params.data.sets)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    left = {0, len(HEADER) - 2, len(HEADER) - 1}  # texts; numbers are aligned at their last digit
    rows = (
        "  ".join(
            cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
    return "\n".join(row.rstrip() for row in rows)


def _line(name: str, reader: Reader, root: Path) -> tuple[str, ...]:
    origin = _origin(reader)
    counts = origin and origin.counts
    numbers = [counts.classes, counts.train, counts.val, counts.test] if counts else []
    cells = [f"{number:,}" for number in numbers] or ["–"] * 4
    return (name, *cells, origin.licence if origin else "yours", "yes" if _here(reader, root) else "no")


def details(params: Params, name: str) -> str:
    """All that its reader knows of a data set, a line a fact."""
    reader, root = reader_of(params, name), Path(params.data.root)
    origin = _origin(reader)
    facts = {"reader": reader.reader, "folder": f"{_here(reader, root) or root / reader.path}"}
    facts["state"] = "there" if _here(reader, root) else "not there"
    facts["layout"] = reader.layout
    if origin:
        facts = {
            "title": origin.title,
            "licence": origin.licence,
            "home": origin.home,
            "cite": origin.citation,
            **facts,
        }
    if origin and (counts := origin.counts):
        facts["images"] = f"{counts.train:,} train, {counts.val:,} val, {counts.test:,} test"
        facts["classes"] = f"{counts.classes:,}"
    facts["prompts"] = "; ".join(getattr(reader, "templates", ()))
    facts["to get it"] = reader.source
    for archive in reader.archives:
        facts[f"from {archive.url}"] = archive.checksum or "no published checksum"
    width = max(len(key) for key in facts if not key.startswith("from "))
    return "\n".join(f"{key.ljust(width)}  {value}" for key, value in facts.items() if value)


def _origin(reader: Reader) -> Origin | None:
    found = getattr(reader, "origin", None)
    return found if isinstance(found, Origin) else None


def _here(reader: Reader, root: Path) -> Path | None:
    try:
        return reader.folder(root)
    except InputError:
        return None
