"""Own images in a table: a CSV or Parquet file with the columns `path`, `label` and, optionally, `split` and `group`.

Images of one group (a subject, a camera, a burst) stay in one split, if the split is drawn.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, get_args

from features.datasets.base import Listing, Split
from features.errors import raise_all
from features.formats import parquet
from features.formats.untrusted import wrap_parser_errors
from features.splits.listed import describe_missing
from features.splits.own_images import OwnImages, Row


class ImageTable(OwnImages):
    """Options of `reader: image_table`, in addition to those of `OwnImages`.

    Attributes:
        table: The CSV (UTF-8) or Parquet file in `path`; its image paths are relative to `path`, too.
    """

    table: str = "labels.csv"

    layout: ClassVar[str] = "a CSV or Parquet file with the columns path and label, and the images that it names"
    source: ClassVar[str] = "the images are your own"

    def read(self, root: Path) -> Listing:
        """List the rows of the table; see `Reader.read`."""
        folder = self.folder(root)
        rows: list[Row] = []
        mistakes: list[str] = []
        for number, line in enumerate(read_table(folder / self.table), start=1):
            problems = [f"{self.table}, row {number}: {problem}" for problem in _row_problems(folder, line)]
            mistakes += problems
            if not problems:
                rows.append(Row(line["path"], line["label"], line.get("split") or None, _text(line.get("group"))))
        return self.listing(rows, mistakes)


def read_table(file: Path) -> Sequence[dict[str, Any]]:
    """Return the rows of a CSV or Parquet file, each as a mapping of columns to values.

    Raises:
        InputError: The file cannot be read, has another format, or lacks a column.
    """
    with wrap_parser_errors(file, "save it as CSV (UTF-8) or Parquet"):
        if file.suffix.lower() == ".parquet":
            table = parquet.read_table(file)
            columns = table.column_names
            lines: list[dict[str, Any]] = table.to_pylist()
        else:
            with file.open(encoding="utf-8-sig", newline="") as text:
                reader = csv.DictReader(text, strict=True)
                lines = list(reader)
                columns = list(reader.fieldnames or [])

    problems = [
        f"no column {name!r}; its columns are {', '.join(columns) or 'none'}"
        for name in ("path", "label")
        if name not in columns
    ]
    raise_all(problems, f"{file} cannot be used")
    return lines


def _text(value: object) -> str | None:
    return None if value is None or value == "" else str(value)


def _row_problems(folder: Path, line: dict[str, Any]) -> Iterator[str]:
    for column in ("path", "label"):
        if not isinstance(line[column], str) or not line[column].strip():
            yield f"{column} is {line[column]!r}; expected a text"
    if line.get("split") not in (None, "", *get_args(Split)):
        yield f"split is {line['split']!r}; expected {', '.join(get_args(Split))}, or no value in any row"
    if line["path"] and not os.path.isfile(f"{folder}/{line['path']}"):  # noqa: PTH113 (five times as fast)
        yield f"there is no file {describe_missing(folder, line['path'])}"
