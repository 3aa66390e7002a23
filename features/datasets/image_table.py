"""Own images in a table with the columns `path`, `label` and, optionally, `split` and `group`.

Images of one group (a subject, a camera, a burst) stay in one split, if the split is drawn.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import ClassVar, NamedTuple
from urllib.parse import unquote

from features.datasets.base import SPLITS, Listing, PassedOver, Split
from features.errors import are, counted
from features.splits.folder_layout import near_split, split_in_name, split_of, splits_of_names
from features.splits.image_files import IMAGE_SUFFIXES, examples, find_images
from features.splits.label_table import read_label_table
from features.splits.listed import describe_missing
from features.splits.own_images import OwnImages, Row

NO_LABEL = "rows without a label"
NO_ROW = "images in no row of the table"
SAME_NAME = "an earlier row leads to the same file, by its name alone, so a file is missing"
NO_LABELS = frozenset({"", "-", "?", "n/a", "na", "nan", "none", "null"})  # what programs write for a missing label


class ImageTable(OwnImages):
    """Options of `reader: image_table`, in addition to those of `OwnImages`.

    Attributes:
        table: The file or the files with the labels, in `path` or by an absolute path: CSV, TSV, JSON lines, JSON, XML
            or Parquet (`features.splits.label_table`). Paths of images are relative to their table or to `path`. Of
            several files, each may be the table of a split, by its name or its folder.
    """

    table: str | list[str] = "labels.csv"

    layout: ClassVar[str] = "a CSV or Parquet file with the columns path and label, and the images that it names"
    source: ClassVar[str] = "the images are your own"

    def read(self, root: Path) -> Listing:
        """List the rows of the tables; see `Reader.read`."""
        folder = self.folder(root)
        files = [self.table] if isinstance(self.table, str) else self.table
        paths = _Paths(folder)
        rows: list[_TableRow] = []
        notes: list[str] = []
        for name in files:
            table = read_label_table(folder / name)
            split = split_in_name(name) if len(files) > 1 else None
            rows += [_TableRow(name, number, line, split) for number, line in enumerate(table.rows, start=1)]
            notes += [note for note in table.notes if note not in notes]
        return self._listing(paths, rows, notes)

    def _listing(self, paths: _Paths, table: Sequence[_TableRow], notes: list[str]) -> Listing:
        splits, split_notes = splits_of_names({row.split for row in table if row.split})
        problems: dict[str, list[str]] = defaultdict(list)
        passed_over = []
        rows: dict[str, Row] = {}
        texts: dict[str, str | None] = {}  # path -> as the first row with it writes it
        repeated = 0
        for line in table:
            path, label = paths.resolve(line), line.cells["label"]
            faults = [*paths.faults(path), *_split_faults(line.split, splits)]
            for fault in faults:
                problems[fault].append(str(line))
            if faults or path is None:
                continue
            if label is None:
                passed_over.append(PassedOver(path, NO_LABEL))
                continue
            row = Row(path, label, splits[line.split] if line.split else None, line.cells["group"])
            first = rows.setdefault(path, row)
            first_text = texts.setdefault(path, line.cells["path"])
            if path in paths.by_name and first_text != line.cells["path"]:
                problems[SAME_NAME].append(str(line))
                continue
            repeated += first is not row and first == row
            if first != row:
                problems["an earlier row has another label, split or group"].append(str(line))

        passed_over += _unnamed(paths.folder, {*rows}, {path for path, _ in passed_over})
        notes += [*split_notes, *paths.notes(), *_odd_labels(rows.values())]
        if repeated:
            verb = are(repeated, "repeats an earlier one and is", "repeat an earlier one and are")
            notes.append(f"{counted(repeated, 'row')} {verb} ignored")
        if (unsplit := sum(row.split is None for row in table)) and unsplit < len(table):
            notes.append(f"{unsplit} of {len(table)} rows {are(unsplit, 'has', 'have')} no split; it is drawn")
        return self.listing([*rows.values()], _problem_lines(problems), passed_over=passed_over, notes=notes)


class _TableRow(NamedTuple):
    """A row: its table, its number from 1 on, its cells, and the split of the whole table if it is known."""

    table: str
    number: int
    cells: Mapping[str, str | None]
    split_of_table: str | None

    @property
    def split(self) -> str | None:
        return self.cells["split"] or self.split_of_table

    def __str__(self) -> str:
        return f"{PurePosixPath(self.table).name}, row {self.number} ({self.cells['path'] or 'no path'})"


class _Paths:
    """The paths of tables as paths below a folder, and in how many ways they had to be understood."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts: dict[str, list[str]] = defaultdict(list)
        self.ambiguous: set[str] = set()
        self.by_name: set[str] = set()  # files that are not where a row says

    def resolve(self, row: _TableRow) -> str | None:
        """Return the POSIX path of an existing file; else the text of the row as it is."""
        text = row.cells["path"]
        if text is None:
            return None
        if not os.path.isabs(text):  # noqa: PTH117 (a hundred thousand rows)
            for base in dict.fromkeys([os.path.dirname(row.table), ""]):  # noqa: PTH120 (as above)
                if (relative := self._inside(os.path.join(base, text))) is not None:  # noqa: PTH118 (as above)
                    return relative
        for how, candidate in _candidates(text):
            if (relative := self._inside(candidate)) is not None:
                self.counts[how].append(text)
                return relative
        if (found := self._by_name(text, row.split or split_in_name(row.table))) is not None:
            self.counts["files are found by their names, below the folder"].append(text)
            self.by_name.add(found)
            return found
        return text

    def _inside(self, text: str) -> str | None:
        """Return the path below the folder of an existing file; None if it is elsewhere or does not exist."""
        file = os.path.join(self.folder, text)  # noqa: PTH118 (a hundred thousand rows)
        if "\0" in text or not os.path.isfile(file):  # noqa: PTH113 (as above)
            return None
        if not os.path.isabs(text) and ".." not in text.split("/"):  # noqa: PTH117 (as above)
            return PurePosixPath(text).as_posix()
        for folder in (self.folder, self.folder.resolve()):
            if Path(file).is_relative_to(folder) and ".." not in Path(file).parts:
                return Path(file).relative_to(folder).as_posix()
        return None

    def _by_name(self, text: str, split: str | None) -> str | None:
        """Return the one image below the folder whose name, and most of the folders before it, are those of a path.

        Of several, the one in a folder of the row's split is taken. If the path's own folder exists, but does not hold
        the file, the file is missing: one of the same name in another folder is another image. So it is if two rows
        lead to one file (`by_name`).
        """
        wanted = PurePosixPath(unquote(text.replace("\\", "/")))
        names = [wanted.name]
        if "-" in wanted.name and "/upload/" in text:  # Label Studio puts a number before the name of an upload
            names.append(wanted.name.partition("-")[2])
        found = next((self._images[name] for name in names if name in self._images), [])
        found = found or next((self._folded[one] for name in names if (one := name.casefold()) in self._folded), [])
        agreement = {path: _common_end(PurePosixPath(path).parent.parts, wanted.parent.parts) for path in found}
        best = [path for path in found if agreement[path] == max(agreement.values())]
        if best and not agreement[best[0]] and self._is_folder(wanted.parent):
            return None
        if len(best) > 1 and split:
            best = [path for path in best if split_of(split_in_name(path) or "") == split_of(split)]
        if len(best) > 1:
            self.ambiguous.add(text)
        return best[0] if len(best) == 1 else None

    def _is_folder(self, wanted: PurePosixPath) -> bool:
        """Return whether a folder exists, even if it holds no image, or one of its name does that holds some."""
        exists = bool(wanted.name) and not wanted.is_absolute() and os.path.isdir(self.folder / wanted)  # noqa: PTH112
        return exists or wanted.name in self._folder_names

    @cached_property
    def _images(self) -> Mapping[str, list[str]]:
        """The images below the folder, by name, and by name without the suffix."""
        found: dict[str, list[str]] = defaultdict(list)
        for path in find_images(self.folder).images:
            pure = PurePosixPath(path)
            found[pure.name].append(path)
            found[pure.stem].append(path)
        return found

    @cached_property
    def _folded(self) -> Mapping[str, list[str]]:
        """The same by names without regard to case, as Windows finds files."""
        found: dict[str, list[str]] = defaultdict(list)
        for name, paths in self._images.items():
            found[name.casefold()] += paths
        return found

    @cached_property
    def _folder_names(self) -> frozenset[str]:
        """The names of the folders that hold images."""
        folders = {PurePosixPath(path).parent for paths in self._images.values() for path in paths}
        return frozenset(part for folder in folders for part in folder.parts)

    def faults(self, path: str | None) -> Iterator[str]:
        """Yield the kinds of problems of a path that `resolve` returned."""
        if path is None:
            yield "path is empty; expected a text"
            return
        if path in self.ambiguous:
            yield f"there is no such file, and several below {self.folder} have its name; give paths with folders"
            return
        inside = not os.path.isabs(path) and ".." not in path.split("/")  # noqa: PTH117 (fast)
        if os.path.isfile(os.path.join(self.folder, path)):  # noqa: PTH113, PTH118 (as above)
            if not inside:
                yield f"the file exists, but not below {self.folder}; move the table to a folder above all images"
            return
        described = describe_missing(self.folder, path)
        # The command that renames accents is the same for all rows.
        yield described.removeprefix(f"{path}: ") if described != path else f"there is no such file below {self.folder}"

    def notes(self) -> Iterator[str]:
        """Yield one line for each way in which paths had to be understood."""
        for how, paths in self.counts.items():
            yield f"{counted(len(paths), 'row')}: {how} ({examples(paths)})"


def _candidates(text: str) -> Iterator[tuple[str, str]]:
    """Yield ways to understand a path, each with its description."""
    yield "absolute paths are read relative to the folder", text
    if "\\" in text:
        yield "backslashes are read as /", PureWindowsPath(text).as_posix()
    if text.startswith("file://"):
        yield "addresses of files are read as paths", unquote(text.removeprefix("file://"))
    if "?d=" in text:  # Label Studio's local storage
        yield "paths of Label Studio are read relative to the folder", unquote(text.partition("?d=")[2])


def _common_end(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many parts at the end of two paths are equal."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _unnamed(folder: Path, named: set[str], known: set[str]) -> Iterator[PassedOver]:
    """Yield the images beside those of a table that no row names; other folders are not searched."""
    for parent in sorted({path.rpartition("/")[0] for path in named}):
        names = (name for name in os.listdir(folder / parent) if not name.startswith("."))  # noqa: PTH208 (many)
        files = sorted(name for name in names if PurePosixPath(name.lower()).suffix in IMAGE_SUFFIXES)
        paths = (f"{parent}/{name}" if parent else name for name in files)
        yield from (PassedOver(path, NO_ROW) for path in paths if path not in named and path not in known)


def _split_faults(split: str | None, splits: Mapping[str, Split | None]) -> Iterator[str]:
    if split and split not in splits:
        hint = f" (did you mean {close!r}?)" if (close := near_split(split)) else ""
        yield f"split is {split!r}{hint}; expected {', '.join(SPLITS)}, or no value"


def _problem_lines(problems: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield one line for each kind of problem: how many rows have it, and examples."""
    for kind, rows in problems.items():
        count = f"{len(rows)} rows: " if len(rows) > 1 else ""
        yield f"{count}{kind}: {examples(rows)}"


def _odd_labels(rows: Iterable[Row]) -> Iterator[str]:
    odd = [row for row in rows if row.label.casefold() in NO_LABELS]
    if odd:
        labels = sorted({repr(row.label) for row in odd})
        yield (
            f"{counted(len(odd), 'row')} {are(len(odd), 'has', 'have')} the label {' or '.join(labels)}, which becomes "
            f"a class; remove what means no label ({examples([row.path for row in odd])})"
        )
