"""Data sets that name their images, in a split file or a list: which of them this copy has."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from features.datasets.base import SPLITS, Image, Listing, Published, Rows
from features.errors import Problems, raise_all

EXTENSIONS = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
FORMS: tuple[tuple[Literal["NFD", "NFC"], str, str], ...] = (  # of Unicode: what it does, convmv's way back
    ("NFD", "letter and accent apart", "nfc"),
    ("NFC", "one character", "nfd"),
)
MEND = "mend the copy, or set `allow_partial: true`"


def listing_of(reader: Published, folder: Path, classes: Sequence[str], rows: Rows, problems: Problems) -> Listing:
    """The images that a data set names, as they lie below `folder`.

    Those that are missing are left out and counted where the reader allows it. Else they are a fault, after those of
    `problems`, that names every one of them.
    """
    found = on_disk(folder, (path for part in SPLITS for path, _ in rows[part]))
    missing = [path for path, there in found.items() if there is None]
    if not reader.allow_partial:
        absent = [lacking(folder, path) for path in missing]
        problems.attempt(lambda: raise_all(absent, f"{folder} lacks images of the split; {MEND}"))
        found = {path: there or path for path, there in found.items()}  # so that the split's numbers can be told, too
    named = ((part, path, label) for part in SPLITS for path, label in rows[part])
    return Listing(
        images=tuple(Image(there, label, part) for part, path, label in named if (there := found[path])),
        classes=tuple(classes),
        templates=reader.templates,
        origin=reader.origin,
        missing=len(missing) if reader.allow_partial else 0,
        faults=tuple(problems.messages),
    )


def on_disk(folder: Path, paths: Iterable[str]) -> dict[str, str | None]:
    """For each path relative to `folder`, the path that is there, or None.

    Copies of one data set differ in the case of extensions (`.JPG` for `.jpg`), so such a file is taken too.
    """
    listed: dict[str, dict[str, str]] = {}
    found: dict[str, str | None] = {}
    for path in paths:
        parent, _, name = path.rpartition("/")
        if parent not in listed:
            listed[parent] = _entries(folder / parent)
        there = listed[parent].get(name) or listed[parent].get(_folded(name))
        found[path] = None if there is None else (f"{parent}/{there}" if parent else there)
    return found


def lacking(folder: Path, path: str) -> str:
    """What to tell of a path that is not below `folder`: where only its accents are coded otherwise, how to mend that.

    Such a file is not taken for the other, because an image's views depend on its path.
    """
    for form, kind, option in FORMS:
        other = unicodedata.normalize(form, path)
        if other != path and (folder / other).exists():
            return (
                f"{path}: it is there, but with each accented letter as {kind} (Unicode {form}; macOS writes NFD): "
                f"rename with `convmv -r -f utf8 -t utf8 --{option} --notest {folder}`"
            )
    return path


def _entries(folder: Path) -> dict[str, str]:
    """What lies in a folder, by its name and by its name with a lower-case extension; {} without such a folder."""
    names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    return {_folded(name): name for name in names} | {name: name for name in names}


def _folded(name: str) -> str:
    pure = PurePosixPath(name)
    return pure.stem + pure.suffix.lower()
