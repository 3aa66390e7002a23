"""One's own images, named by a table: a CSV or Parquet file with the columns `path`, `label` and, if any, `split`."""

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
from features.splits.listed import lacking
from features.splits.own_images import OwnImages, Row


class ImageTable(OwnImages):
    """Options of `reader: image_table`, beside those of all of one's own images.

    Attributes:
        table: the CSV (UTF-8) or Parquet file in `path`; its image paths are relative to `path`, too.
    """

    table: str = "labels.csv"

    layout: ClassVar[str] = "a CSV or Parquet file with the columns path and label, and the images that it names"
    source: ClassVar[str] = "the images are your own"

    def read(self, root: Path) -> Listing:
        """List the rows of the table; see `Reader.read`."""
        folder = self.folder(root)
        problems, rows = [], []
        for number, line in enumerate(read_table(folder / self.table), start=1):
            wrong = [f"{self.table}, row {number}: {problem}" for problem in _wrong(folder, line)]
            problems += wrong
            if not wrong:
                rows.append(Row(line["path"], line["label"], line.get("split") or None))
        return self.listing(rows, problems)


def read_table(file: Path) -> Sequence[dict[str, Any]]:
    """The rows of a CSV or Parquet file.

    Raises:
        InputError: it cannot be read, is of another format, or lacks a column.
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
    absent = [f"no column {name!r}; its columns are {', '.join(columns) or 'none'}" for name in ("path", "label")]
    raise_all([text for text in absent if text.split("'")[1] not in columns], f"{file} cannot be used")
    return lines


def _wrong(folder: Path, line: dict[str, Any]) -> Iterator[str]:
    for column in ("path", "label"):
        if not isinstance(line[column], str) or not line[column].strip():
            yield f"{column} is {line[column]!r}; a text is needed"
    if line.get("split") not in (None, "", *get_args(Split)):
        yield f"split is {line['split']!r}; one of {', '.join(get_args(Split))}, or nothing for all"
    if line["path"] and not os.path.isfile(f"{folder}/{line['path']}"):  # noqa: PTH113 (five times as fast)
        yield f"there is no file {lacking(folder, line['path'])}"
