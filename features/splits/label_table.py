"""Read a table of images and labels as people and labelling tools write it: CSV, TSV, JSON lines, JSON or Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.errors import InputError, combined_error
from features.formats import parquet
from features.formats.untrusted import wrap_parser_errors

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
FIX_HINT = "save it as CSV (UTF-8), with the columns path and label"

# Our name of a column -> other names, of Roboflow, Kaggle, Hugging Face's imagefolder and Label Studio.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "path": (
        "path",
        "file_name",
        "filename",
        "file",
        "filepath",
        "file_path",
        "image",
        "image_path",
        "img",
        "image_id",
    ),
    "label": ("label", "class", "class_name", "classname", "category", "choice", "species", "target", "labels"),
    "split": ("split", "set", "subset", "partition"),
    "group": ("group", "subject", "subject_id", "patient", "patient_id", "camera", "camera_id", "burst", "sequence"),
}
DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class LabelTable:
    """Rows with the keys `path`, `label`, `split` and `group`, each a text or None, and how they were understood."""

    rows: Sequence[Mapping[str, str | None]]
    notes: tuple[str, ...]


def read_label_table(file: Path) -> LabelTable:
    """Return the rows of a table.

    Raises:
        InputError: The file cannot be read, has another format, or lacks a column.
    """
    with wrap_parser_errors(file, FIX_HINT):
        columns, rows = _READERS.get(file.suffix.lower(), _read_delimited)(file)
        names = _columns(file, columns)

    notes = [f"{ours}: column {columns[i]!r}" for ours, i in names.items() if columns[i] != ours]
    table = [{ours: text_of(row[i]) if i < len(row) else None for ours, i in names.items()} for row in rows]
    return LabelTable(
        [{"path": None, "label": None, "split": None, "group": None, **row} for row in table],
        (f"the table is read as {', '.join(notes)}",) if notes else (),
    )


def known_columns(file: Path) -> frozenset[str]:
    """Return our names of the columns that a file has; none if it is no table."""
    try:
        columns, _ = _READERS.get(file.suffix.lower(), _read_delimited)(file)
        return frozenset(_columns(file, columns))
    except Exception:  # noqa: BLE001 (the parsers raise nearly every kind over what is no table)
        return frozenset()


def _columns(file: Path, columns: Sequence[str]) -> dict[str, int]:
    """Return the position of each column that is known, by our name.

    Raises:
        InputError: A column is missing, or there are several.
    """
    problems = []
    found = {}
    names = [str(column).strip().casefold().replace(" ", "_") for column in columns]
    for ours, others in COLUMNS.items():
        # Our own name wins over others, and those over the ones after them.
        best = next((other for other in others if other in names), None)
        if best is None:
            if ours in ("path", "label"):
                problems.append(f"no column {ours!r}; its columns are {', '.join(map(str, columns)) or 'none'}")
        elif names.count(best) > 1:
            problems.append(f"{names.count(best)} columns are called {best!r}; remove all but one")
        else:
            found[ours] = names.index(best)
    if problems:
        raise combined_error(problems, f"{file} cannot be used")
    return found


def text_of(value: Any) -> str | None:
    """Return a cell as text; None if it is empty."""
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, Mapping):  # an image of a Parquet file of Hugging Face
        value = value.get("path")
    if value is None or (isinstance(value, float) and value != value):  # noqa: PLR0124 (not a number)
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


Table = tuple[Sequence[str], Sequence[Sequence[Any]]]


def _read_delimited(file: Path) -> Table:
    """Read CSV with any of the usual delimiters: the one that gives the most columns that are known."""
    data = file.read_bytes()
    utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))  # as Excel saves Unicode text
    text = data.decode("utf-16" if utf16 else "utf-8-sig")
    first = text.partition("\n")[0]
    known = {other for others in COLUMNS.values() for other in others}

    def count(delimiter: str) -> int:
        return sum(name.strip(' "\r').casefold().replace(" ", "_") in known for name in first.split(delimiter))

    delimiter = max(DELIMITERS, key=count)
    lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if line]
    return (lines[0], lines[1:]) if lines else ([], [])


def _read_parquet(file: Path) -> Table:
    table = parquet.read_table(file)
    return table.column_names, [list(row.values()) for row in table.to_pylist()]


def _read_json_lines(file: Path) -> Table:
    with file.open(encoding="utf-8-sig") as text:
        return _from_records([json.loads(line) for line in text if line.strip()])


def _read_json(file: Path) -> Table:
    value = json.loads(file.read_text(encoding="utf-8-sig"))
    if isinstance(value, dict) and {"images", "annotations", "categories"} <= value.keys():
        return _from_records([*_coco(value)])
    if isinstance(value, list) and value and isinstance(value[0], dict) and "annotations" in value[0]:
        return _from_records([*_label_studio(value)])
    if not isinstance(value, list):
        raise InputError(f"{file} is no list of images, no COCO file and no export of Label Studio; {FIX_HINT}")
    return _from_records(value)


def _from_records(records: Sequence[dict[str, Any]]) -> Table:
    columns = list(dict.fromkeys(key for record in records for key in record))
    return columns, [[record.get(key) for key in columns] for record in records]


def _coco(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the images of a COCO file with the category of their annotations; crops by box are not made.

    Raises:
        InputError: Images have annotations of several categories, so they have no one label.
    """
    names = {category["id"]: category["name"] for category in value["categories"]}
    found: dict[Any, Counter[str]] = {image["id"]: Counter() for image in value["images"]}
    for annotation in value["annotations"]:
        found[annotation["image_id"]][names[annotation["category_id"]]] += 1
    several = [image["file_name"] for image in value["images"] if len(found[image["id"]]) > 1]
    if several:
        raise InputError(
            f"{len(several)} images have annotations of several categories, as {several[0]!r}, so they have no one "
            "label: export one label an image, or crop the objects first"
        )
    for image in value["images"]:
        yield {"path": image["file_name"], "label": next(iter(found[image["id"]]), None)}


def _label_studio(tasks: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the images of Label Studio's JSON with the first choice of their first annotation."""
    for task in tasks:
        results = [result for one in task.get("annotations", ()) for result in one.get("result", ())]
        choices = [choice for result in results for choice in result.get("value", {}).get("choices", ())]
        data = task.get("data", {})
        path = next((data[key] for key in COLUMNS["path"] if key in data), None)
        yield {"path": path, "label": choices[0] if choices else None}


_READERS = {".parquet": _read_parquet, ".jsonl": _read_json_lines, ".json": _read_json}
