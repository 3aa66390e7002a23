"""Own images in a table with the columns `path`, `label` and, optionally, `split` and `group`.

Images of one group (a subject, a camera, a burst) stay in one split, if the split is drawn.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import ClassVar
from urllib.parse import unquote

from features.datasets.base import SPLITS, Listing, Split
from features.splits.folder_layout import splits_of_names
from features.splits.image_files import examples
from features.splits.label_table import read_label_table
from features.splits.listed import describe_missing
from features.splits.own_images import OwnImages, Row

NO_LABELS = frozenset({"", "-", "?", "n/a", "na", "nan", "none", "null"})  # what programs write for a missing label


class ImageTable(OwnImages):
    """Options of `reader: image_table`, in addition to those of `OwnImages`.

    Attributes:
        table: The file in `path`: CSV, TSV, JSON lines, JSON or Parquet (`features.splits.label_table`); its image
            paths are relative to `path`, too.
    """

    table: str = "labels.csv"

    layout: ClassVar[str] = "a CSV or Parquet file with the columns path and label, and the images that it names"
    source: ClassVar[str] = "the images are your own"

    def read(self, root: Path) -> Listing:
        """List the rows of the table; see `Reader.read`."""
        folder = self.folder(root)
        table = read_label_table(folder / self.table)
        names = {row["split"] for row in table.rows}
        splits, split_notes = splits_of_names([name for name in names if name])
        problems: dict[str, list[str]] = defaultdict(list)
        paths = _Paths(folder)

        rows: dict[str, Row] = {}
        repeated = 0
        for number, line in enumerate(table.rows, start=1):
            path, label, split = paths.resolve(line["path"]), line["label"], line["split"]
            faults = list(_faults(folder, line, path, splits))
            for fault in faults:
                problems[fault].append(f"row {number} ({line['path'] or 'no path'})")
            if faults or path is None or label is None:
                continue
            row = Row(path, label, splits[split] if split else None, line["group"])
            first = rows.setdefault(path, row)
            repeated += first is not row and first == row
            if first != row:
                problems["an earlier row has another label, split or group"].append(f"row {number} ({path})")

        notes = [*table.notes, *split_notes, *paths.notes(), *_odd_labels(rows.values())]
        if repeated:
            notes.append(f"{repeated} rows repeat an earlier one and are ignored")
        if (unsplit := sum(row["split"] is None for row in table.rows)) and unsplit < len(table.rows):
            notes.append(f"{unsplit} of {len(table.rows)} rows have no split; theirs is drawn")
        return self.listing([*rows.values()], _problem_lines(self.table, problems), notes=notes)


class _Paths:
    """The paths of a table as paths below a folder, and in how many ways they had to be understood."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts: dict[str, list[str]] = defaultdict(list)

    def resolve(self, text: str | None) -> str | None:
        """Return the POSIX path of an existing file; else the text as it is."""
        if text is None or (os.path.isfile(f"{self.folder}/{text}") and not os.path.isabs(text)):  # noqa: PTH113, PTH117
            return text and PurePosixPath(text).as_posix()
        for how, candidate in self._candidates(text):
            relative = self._inside(candidate)
            if relative is not None:
                self.counts[how].append(text)
                return relative
        return text

    def _candidates(self, text: str) -> Iterator[tuple[str, str]]:
        yield "absolute paths are read relative to the folder", text
        if "\\" in text:
            yield "backslashes are read as /", PureWindowsPath(text).as_posix()
        if text.startswith("file://"):
            yield "addresses of files are read as paths", unquote(text.removeprefix("file://"))
        if "?d=" in text:  # Label Studio's local storage
            yield "paths of Label Studio are read relative to the folder", unquote(text.partition("?d=")[2])
        name = unquote(text.replace("\\", "/").rpartition("/")[2])
        if name != text:
            yield "files are found by their names alone, beside the table", name
            if "-" in name and "/upload/" in text:  # Label Studio puts a number before the name of an upload
                yield "files are found by their names alone, beside the table", name.partition("-")[2]

    def _inside(self, text: str) -> str | None:
        """Return the path below the folder of an existing file; None if it is elsewhere or does not exist."""
        file = self.folder / text
        if "\0" in text or not file.is_file():
            return None
        for folder in (self.folder, self.folder.resolve()):
            if file.is_relative_to(folder) and ".." not in file.parts:
                return file.relative_to(folder).as_posix()
        return None

    def notes(self) -> Iterator[str]:
        """Yield one line for each way in which paths had to be understood."""
        for how, paths in self.counts.items():
            yield f"{len(paths)} rows: {how} ({examples(paths)})"


def _faults(
    folder: Path, line: Mapping[str, str | None], path: str | None, splits: Mapping[str, Split | None]
) -> Iterator[str]:
    """Yield the kinds of problems of a row."""
    for column in ("path", "label"):
        if line[column] is None:
            yield f"{column} is empty; expected a text"
    if line["split"] and line["split"] not in splits:
        yield f"split is {line['split']!r}; expected {', '.join(SPLITS)}, or no value"
    if path is None:
        return
    inside = not os.path.isabs(path) and ".." not in path.split("/")  # noqa: PTH117 (fast)
    if os.path.isfile(os.path.join(folder, path)):  # noqa: PTH113, PTH118 (as above)
        if not inside:
            yield f"the file exists, but not below {folder}; move the table to a folder above all images"
        return
    described = describe_missing(folder, path)
    # The command that renames accents is the same for all rows.
    yield described.removeprefix(f"{path}: ") if described != path else "there is no file"


def _problem_lines(table: str, problems: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield one line for each kind of problem: how many rows have it, and examples."""
    for kind, rows in problems.items():
        count = f"{len(rows)} rows: " if len(rows) > 1 else ""
        yield f"{table}: {count}{kind}: {examples(rows)}"


def _odd_labels(rows: Iterable[Row]) -> Iterator[str]:
    odd = [row for row in rows if row.label.casefold() in NO_LABELS]
    if odd:
        labels = sorted({repr(row.label) for row in odd})
        yield (
            f"{len(odd)} rows have the label {' or '.join(labels)}, which becomes a class; remove the rows if it means "
            f"no label ({examples([row.path for row in odd])})"
        )
