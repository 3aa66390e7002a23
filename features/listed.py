"""Data sets that name their images, in a split file or a list: which of them this copy has."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from features.datasets.base import SPLITS, Image, Rows
from features.errors import raise_all

EXTENSIONS = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def taken(folder: Path, rows: Rows, *, allow_partial: bool) -> tuple[tuple[Image, ...], int]:
    """The named images that are below `folder`, and how many are not.

    Raises:
        InputError: images are missing and `allow_partial` is not set; every one of them.
    """
    found = on_disk(folder, (path for part in SPLITS for path, _ in rows[part]))
    missing = [path for path, there in found.items() if there is None]
    if not allow_partial:
        raise_all(missing, f"{folder} lacks images of the split; mend the copy, or set `allow_partial: true`")
    images = tuple(Image(there, label, part) for part in SPLITS for path, label in rows[part] if (there := found[path]))
    return images, len(missing)


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


def _entries(folder: Path) -> dict[str, str]:
    """What lies in a folder, by its name and by its name with a lower-case extension; {} without such a folder."""
    names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    return {_folded(name): name for name in names} | {name: name for name in names}


def _folded(name: str) -> str:
    pure = PurePosixPath(name)
    return pure.stem + pure.suffix.lower()
