"""Read a table of images and labels as people and labelling tools write it: CSV, TSV, JSON, XML or Parquet."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from features.errors import InputError, combined_error, counted, shown
from features.formats import parquet
from features.formats.plain_text import decoded
from features.formats.untrusted import wrap_parser_errors
from features.splits.annotations import NO, SEVERAL, YES, cvat_records, label_of, one_hot_labels, records_of
from features.splits.folder_layout import split_of
from features.splits.image_files import IMAGE_SUFFIXES, examples
from features.splits.table_columns import COLUMNS, text_of

SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".json", ".xml", ".parquet")
FIX_HINT = "save it as CSV (UTF-8), with the columns path and label"

DELIMITERS = (",", ";", "\t", "|")
EXCEL_LINE = re.compile(r"\Asep=.\r?\n")  # names the delimiter
ROW_NUMBER = re.compile(r"|index|unnamed:_\d+")  # columns of numbers that pandas writes
BOXES = frozenset({"bbox", "box", "boxes", "xmin", "x_min", "bbox_x", "x1"})


@dataclass(frozen=True)
class LabelTable:
    """Rows with the keys `path`, `label`, `split` and `group`, each a text or None, and how they were understood."""

    rows: Sequence[Mapping[str, str | None]]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Cells:
    """A table as it stands in a file: names of columns, rows that may be shorter, and how it was understood."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    notes: tuple[str, ...] = ()


def read_label_table(file: Path) -> LabelTable:
    """Return the rows of a table.

    Raises:
        InputError: The file cannot be read, has another format, lacks a column, or images have several labels.
    """
    table = _read(file)
    several = [row for row in table.rows if (row["label"] or "").startswith(SEVERAL)]
    if several:
        listed = examples([f"{row['path']}: {', '.join(json.loads(row['label'] or '')['choices'])}" for row in several])
        raise InputError(
            f"{file}: {counted(len(several), 'image')} with several labels ({listed}): export one label an image, or "
            "crop the objects first"
        )
    return table


def holds_labels(file: Path) -> bool:
    """Return whether a file is a table of images and labels."""
    try:
        return bool(_read(file).rows)
    except InputError:
        return False


def image_paths(file: Path) -> list[str]:
    """Return the paths in a table, as they stand there; none if it cannot be read."""
    try:
        return [row["path"] for row in _read(file).rows if row["path"]]
    except InputError:
        return []


def _read(file: Path) -> LabelTable:
    """Return the rows of a table, also those with several labels."""
    with wrap_parser_errors(file, FIX_HINT):
        try:
            cells = _with_labels(_with_splits(_READERS.get(file.suffix.lower(), _read_delimited)(file)))
        except KeyError as error:  # whose text is the bare key
            raise InputError(f"{file} refers to {error}, which it does not have; {FIX_HINT}") from error
        positions = _positions(file, cells)
    understood = [f"{ours}: column {cells.columns[i]!r}" for ours, i in positions.items() if cells.columns[i] != ours]
    notes = [f"the table is read as {', '.join(understood)}"] if understood else []
    notes += _unread(cells, positions["label"])

    table = [{ours: _text(row[i]) if i < len(row) else None for ours, i in positions.items()} for row in cells.rows]
    rows = [{"path": None, "label": None, "split": None, "group": None, **row} for row in table]
    return LabelTable(rows, (*cells.notes, *notes))


def _unread(cells: _Cells, label: int) -> Iterator[str]:
    """Yield what a person may expect to be read of a table, and is not: other columns of labels, and boxes."""
    others = [str(name) for i, name in enumerate(cells.columns) if i != label and _plain(name) in COLUMNS["label"]]
    if others:
        yield f"labels are read from the column {cells.columns[label]!r}, not from {examples(others)}"
    if any(_plain(name) in BOXES for name in cells.columns):
        yield "boxes of objects are not read: a label is that of the whole image"


def _with_labels(cells: _Cells) -> _Cells:
    """Return a table with a column `label`, also if it has one column a class, or one column that is not known.

    The values of that one must repeat, as those of a caption do not.
    """
    names = [_plain(column) for column in cells.columns]
    path = next((names.index(name) for name in COLUMNS["path"] if name in names), None)
    if path is None or any(name in COLUMNS["label"] for name in names):
        return cells

    known = {other for others in COLUMNS.values() for other in others}
    others = [i for i, name in enumerate(names) if name not in known and not ROW_NUMBER.fullmatch(name)]
    # A class may be called `camera`, so columns of groups are tried, too.
    for classes in ([*others, *(i for i, name in enumerate(names) if name in COLUMNS["group"])], others):
        labels = one_hot_labels(cells.columns, cells.rows, classes)
        if labels is not None:
            kept = [i for i in range(len(names)) if i not in classes]
            rows = [
                [label, *(row[i] for i in kept if i < len(row))] for row, label in zip(cells.rows, labels, strict=True)
            ]
            columns = ["label", *(cells.columns[i] for i in kept)]
            return _Cells(columns, rows, (*cells.notes, "each class is a column of the table"))

    if len(others) != 1:
        return cells
    [label] = others
    values = [value for row in cells.rows if label < len(row) and (value := text_of(row[label]))]
    if 2 * len(set(values)) > len(values):
        return cells
    columns = ["label" if i == label else column for i, column in enumerate(cells.columns)]
    return _Cells(columns, cells.rows, (*cells.notes, f"labels are read from the column {cells.columns[label]!r}"))


def _with_splits(cells: _Cells) -> _Cells:
    """Return a table with fastai's column `is_valid` with a column `split` instead."""
    names = [_plain(column) for column in cells.columns]
    if names.count("is_valid") != 1 or any(name in COLUMNS["split"] for name in names):
        return cells
    at = names.index("is_valid")
    splits = dict.fromkeys(YES, "valid") | dict.fromkeys(NO, "train")
    rows = []
    for row in cells.rows:
        value = text_of(row[at]) if at < len(row) else None
        rows.append([value and splits.get(value.casefold(), value), *row[:at], *row[at + 1 :]])
    return _Cells(["split", *cells.columns[:at], *cells.columns[at + 1 :]], rows, cells.notes)


def _positions(file: Path, cells: _Cells) -> dict[str, int]:
    """Return the position of each column that is known, by our name.

    Raises:
        InputError: A column is missing, or there are several.
    """
    problems = []
    found = {}
    names = [_plain(column) for column in cells.columns]
    listed = ", ".join(shown(str(column)) for column in cells.columns)
    for ours, others in COLUMNS.items():
        present = [other for other in others if other in names]
        # Of several columns of labels, one of names is taken before one of numbers.
        best = min(present, key=lambda name: ours == "label" and _holds_numbers(cells, names.index(name)), default=None)
        if best is None:
            if ours in ("path", "label"):
                problems.append(f"no column {ours!r}; its columns are {listed or 'none'}")
        elif names.count(best) > 1:
            problems.append(f"{names.count(best)} columns are called {best!r}; remove all but one")
        else:
            found[ours] = names.index(best)
    if problems:
        raise combined_error(problems, f"{file} cannot be used")
    return found


def _holds_numbers(cells: _Cells, column: int) -> bool:
    return all((_text(row[column]) or "0").replace(".", "").isdecimal() for row in cells.rows if column < len(row))


def _plain(column: Any) -> str:
    """Return a name of a column as it is compared."""
    return str(column).strip(' "\r').casefold().replace(" ", "_")


def _text(value: Any) -> str | None:
    """Return a cell as text; a list, or several choices of Label Studio, as one label that says so."""
    several = value.get("choices") if isinstance(value, Mapping) else value
    if isinstance(several, list):
        return label_of(text for one in several if (text := text_of(one)))
    return text_of(value)


def _read_delimited(file: Path) -> _Cells:
    """Read CSV with any of the usual delimiters: the one that gives the most columns that are known.

    Without a heading, the column whose first cell ends like an image has the paths.
    """
    text, notes = _decoded(file)
    text = EXCEL_LINE.sub("", text)
    first = text.partition("\n")[0]
    known = {other for others in COLUMNS.values() for other in others}
    headed = max(sum(_plain(name) in known for name in first.split(delimiter)) for delimiter in DELIMITERS)

    def fit(delimiter: str) -> int:
        parts = first.split(delimiter)
        return sum(_plain(name) in known for name in parts) if headed else -abs(len(parts) - 2)

    if not headed and file.suffix.lower() == ".txt":  # a list as of ImageNet: the label comes after the last space
        return _without_heading([line.rsplit(None, 1) for line in text.splitlines() if line.strip()], notes)
    delimiter = max(DELIMITERS, key=fit)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines = [line for line in reader if any(cell.strip() for cell in line)]  # spreadsheets add lines of commas
    if not headed:
        return _without_heading(lines, notes)
    longer = [delimiter.join(line) for line in lines if any(cell.strip() for cell in line[len(lines[0]) :])]
    if longer:
        raise InputError(
            f"{file}: {counted(len(longer), 'row')} with more cells than the heading has columns ({examples(longer)}): "
            f"put texts that contain {delimiter!r} into double quotes"
        )
    return _Cells(lines[0], lines[1:], notes)


def _without_heading(lines: Sequence[Sequence[str]], notes: tuple[str, ...]) -> _Cells:
    """Return lines as a table if they have a path and a label, and maybe a split; else with its first line as names."""
    if not lines:
        return _Cells([], [])
    kinds = ["path" if _is_image(cell) else "split" if split_of(cell) else "label" for cell in lines[0]]
    if sorted(kinds) not in (["label", "path"], ["label", "path", "split"]):
        return _Cells(lines[0], lines[1:], notes)
    return _Cells(kinds, lines, (*notes, f"the table has no heading; its columns are read as {', '.join(kinds)}"))


def _is_image(text: str) -> bool:
    return PurePosixPath(text.strip().lower()).suffix in IMAGE_SUFFIXES


def _read_parquet(file: Path) -> _Cells:
    table = parquet.read_table(file)
    return _Cells(table.column_names, [list(row.values()) for row in table.to_pylist()])


def _read_json_lines(file: Path) -> _Cells:
    text, notes = _decoded(file)
    records = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            with wrap_parser_errors(Path(f"{file}, line {number}"), FIX_HINT):
                records.append(json.loads(line))
    return _from_records(file, records, notes)


def _read_json(file: Path) -> _Cells:
    text, notes = _decoded(file)
    return _from_records(file, records_of(json.loads(text)), notes)


def _read_xml(file: Path) -> _Cells:
    return _from_records(file, cvat_records(file))


def _decoded(file: Path) -> tuple[str, tuple[str, ...]]:
    text, note = decoded(file.read_bytes())
    return text, (f"the table is {note}",) if note else ()


def _from_records(file: Path, records: Sequence[Any] | None, notes: tuple[str, ...] = ()) -> _Cells:
    if records is None or not all(isinstance(record, Mapping) for record in records):
        raise InputError(f"{file} is no list of images, and no export of COCO, Datumaro or Label Studio; {FIX_HINT}")
    columns = list(dict.fromkeys(key for record in records for key in record))
    return _Cells(columns, [[record.get(key) for key in columns] for record in records], notes)


_READERS = {".parquet": _read_parquet, ".jsonl": _read_json_lines, ".json": _read_json, ".xml": _read_xml}
