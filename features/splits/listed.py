"""Find the images of a data set that names them, in a split file or a list."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from features.datasets.base import SPLITS, Image, Listing, Published, Rows
from features.errors import Problems, raise_all

EXTENSIONS = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
UNICODE_FORMS: tuple[tuple[Literal["NFD", "NFC"], str, str], ...] = (  # form, description, option of convmv for a fix
    ("NFD", "letter and accent as two characters", "nfc"),
    ("NFC", "one character", "nfd"),
)
FIX_HINT = "fix the copy, or set `allow_partial: true`"


def listing_of(reader: Published, folder: Path, classes: Sequence[str], rows: Rows, problems: Problems) -> Listing:
    """Return the listing of the images that a data set names, with their paths below `folder`.

    If the reader allows a partial copy, missing images are left out and counted. Otherwise one more fault, after those
    in `problems`, names all of them.
    """
    paths = on_disk(folder, (path for split in SPLITS for path, _ in rows[split]))
    missing = [path for path, actual in paths.items() if actual is None]

    if not reader.allow_partial:
        absent = [describe_missing(folder, path) for path in missing]
        problems.attempt(lambda: raise_all(absent, f"{folder} lacks images of the split; {FIX_HINT}"))
        # Missing images stay in the listing, so that its counts are those of the split file.
        paths = {path: actual or path for path, actual in paths.items()}

    images = []
    for split in SPLITS:
        for path, label in rows[split]:
            actual = paths[path]
            if actual:
                images.append(Image(actual, label, split))
    return Listing(
        images=tuple(images),
        classes=tuple(classes),
        templates=reader.templates,
        origin=reader.origin,
        missing=len(missing) if reader.allow_partial else 0,
        faults=tuple(problems.messages),
    )


def on_disk(folder: Path, paths: Iterable[str]) -> dict[str, str | None]:
    """Return for each path relative to `folder` the path that exists, or None.

    Copies of a data set differ in the case of extensions (`.JPG` for `.jpg`), so such a file is accepted.
    """
    entries: dict[str, dict[str, str]] = {}
    result: dict[str, str | None] = {}
    for path in paths:
        parent, _, name = path.rpartition("/")
        if parent not in entries:
            entries[parent] = _entries(folder / parent)

        actual = entries[parent].get(name) or entries[parent].get(_lower_extension(name))
        if actual is None:
            result[path] = None
        else:
            result[path] = f"{parent}/{actual}" if parent else actual
    return result


def describe_missing(folder: Path, path: str) -> str:
    """Return the line of an error message for a path that is not below `folder`.

    If only the Unicode form of its accents differs, the line gives the command that renames it. Such a file is not
    accepted silently, because an image's views depend on its path.
    """
    for form, description, option in UNICODE_FORMS:
        other = unicodedata.normalize(form, path)
        if other != path and (folder / other).exists():
            return (
                f"{path}: the file exists with each accented letter as {description} (Unicode {form}; macOS writes "
                f"NFD): rename with `convmv -r -f utf8 -t utf8 --{option} --notest {folder}`"
            )
    return path


def _entries(folder: Path) -> dict[str, str]:
    """Return the entries of a folder by name and by name with a lower-case extension; {} if there is no folder."""
    names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    # Exact names last, so that they take precedence over names with another case.
    return {_lower_extension(name): name for name in names} | {name: name for name in names}


def _lower_extension(name: str) -> str:
    pure = PurePosixPath(name)
    return pure.stem + pure.suffix.lower()
