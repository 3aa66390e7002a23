"""Read tables whose rows hold the bytes of images: Parquet and Arrow files, as Hugging Face `datasets` writes them."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from features.datasets.base import PassedOver
from features.errors import InputError
from features.formats.parquet import read_batches
from features.shards.archives import MAX_IMAGE_BYTES, Base, open_binary
from features.shards.tar import Member, clean_name
from features.splits.table_columns import COLUMNS, text_of

BATCH = 16  # rows that are in memory at a time
IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes", "picture", "photo")


def members(file: IO[bytes], size: int, passed_over: list[PassedOver], *, parquet: bool) -> Iterator[Member]:
    """Yield the images of a table's rows in order; the memory does not grow with their number.

    The column of images holds bytes, or structs of `bytes` and `path`; label, split and group have their usual names.
    Labels that are numbers become names if the schema has Hugging Face's names for them.

    Args:
        file: The table.
        size: Of the file, in bytes.
        passed_over: Gets the rows that are not read, with the reasons.
        parquet: Whether it is Parquet; else Arrow.

    Raises:
        InputError: It is no such table, is damaged, or has no column of images.
    """
    with _as_input_error():
        schema = _schema(file, parquet=parquet)
        image = image_column(schema)
        columns = _known_columns(schema, image)
        names = class_names(schema, columns.get("label"))
        row = 0
        for batch in _batches(file, size, [image, *columns.values()], 0, parquet=parquet):
            values = {ours: batch.column(theirs).to_pylist() for ours, theirs in columns.items()}
            for here, (data, path) in enumerate(map(_image, batch.column(image))):
                cells = {ours: values[ours][here] for ours in columns}
                if data is None or len(data) > MAX_IMAGE_BYTES:
                    reason = "rows without the bytes of an image" if data is None else "images of more than 256 MB"
                    passed_over.append(PassedOver(f"row {row}", reason))
                else:
                    label = _label(cells.get("label"), names)
                    split, group = text_of(cells.get("split")), text_of(cells.get("group"))
                    yield Member(_name(path, row), label, split, group, row, data)
                row += 1


class RowReader:
    """Reads the images of rows in any order; ascending rows, also over several calls, are decoded once."""

    def __init__(self, file: IO[bytes], *, parquet: bool) -> None:
        """Read the schema.

        Raises:
            InputError: The file is not a table with a column of images.
        """
        self._file, self._parquet = file, parquet
        self._size = file.seek(0, 2)
        with _as_input_error():
            self._image = image_column(_schema(file, parquet=parquet))
            self._groups = _group_starts(file) if parquet else [0]
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._start = 0
        self._batch: pa.RecordBatch | None = None

    def read(self, rows: Sequence[int]) -> list[bytes]:
        """Return the bytes of N images.

        Raises:
            InputError: The file has no such row, or is damaged.
        """
        found: dict[int, bytes] = {}
        with _as_input_error():
            for row in sorted({*rows}):
                batch = self._batch_with(row)
                found[row] = _image(batch.column(self._image)[row - self._start])[0] or b""
        return [found[row] for row in rows]

    def _batch_with(self, row: int) -> pa.RecordBatch:
        """Return the batch that holds a row; go on from the last one if that is not further."""
        group = bisect_right(self._groups, row) - 1
        if self._batch is None or row < self._start or self._groups[group] > self._start + self._batch.num_rows:
            self._batches = _batches(self._file, self._size, [self._image], group, parquet=self._parquet)
            self._start, self._batch = self._groups[group], next(self._batches, None)
        while self._batch is not None and row >= self._start + self._batch.num_rows:
            self._start += self._batch.num_rows
            self._batch = next(self._batches, None)
        if self._batch is None:
            raise InputError(f"the table has no row {row}")
        return self._batch


def image_column(schema: pa.Schema) -> str:
    """Return the column of a schema that holds the bytes of images.

    Raises:
        InputError: There is none.
    """
    names = [field.name for field in schema if _holds_bytes(field.type)]
    known = [name for name in IMAGE_COLUMNS if name in names]
    structs = [field.name for field in schema if field.name in names and pa.types.is_struct(field.type)]
    for candidates in (known, structs):
        if candidates:
            return candidates[0]
    raise InputError(
        f"no column of images; its columns are {', '.join(schema.names)}. Expected a column {IMAGE_COLUMNS[0]!r} of "
        "bytes, or of structs with a field `bytes`"
    )


def holds_images(base: Base, name: str) -> bool:
    """Return whether a table holds the bytes of images."""
    try:
        with open_binary(base, name) as file, _as_input_error():
            image_column(_schema(file, parquet=name.endswith(".parquet")))
    except InputError:
        return False
    return True


def class_names(schema: pa.Schema, label: str | None) -> tuple[str, ...]:
    """Return the names that Hugging Face's metadata give the numbers of a column; () if there are none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(map(str, features[label]["names"]))
    except (KeyError, TypeError, ValueError, RecursionError):
        return ()


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return "bytes" in [field.name for field in kind] and _holds_bytes(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _known_columns(schema: pa.Schema, image: str) -> dict[str, str]:
    """Return our name -> name of the columns label, split and group."""
    lower = {name.casefold(): name for name in reversed(schema.names) if name != image}
    best = {ours: next((lower[other] for other in others if other in lower), None) for ours, others in COLUMNS.items()}
    return {ours: name for ours, name in best.items() if ours != "path" and name is not None}


def _label(value: Any, names: Sequence[str]) -> str | None:
    if isinstance(value, int) and names:
        return names[value] if 0 <= value < len(names) else None  # Hugging Face: -1 means no label
    return text_of(value)


def _image(value: pa.Scalar) -> tuple[bytes | None, str | None]:
    """Return the bytes and the path of a cell; None for what it lacks."""
    cell = value.as_py()
    return (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)


def _name(path: str | None, row: int) -> str:
    """Return the name of a row's image: its path; of one that leads out of the table, the last part; else the row."""
    text = path.replace("\\", "/") if path else ""
    return clean_name(text) or clean_name(text.rpartition("/")[2]) or str(row)


def _schema(file: IO[bytes], *, parquet: bool) -> pa.Schema:
    file.seek(0)
    return pq.read_schema(file) if parquet else _ipc(file).schema


def _ipc(file: IO[bytes]) -> Any:
    """Open an Arrow file, or a stream as Hugging Face's cache has it."""
    file.seek(0)
    is_file = file.read(6) == b"ARROW1"
    file.seek(0)
    return pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)


def _group_starts(file: IO[bytes]) -> list[int]:
    """Return the number of the first row of each group of a Parquet file."""
    file.seek(0)
    footer = pq.read_metadata(file)
    counts = [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]
    return [0, *accumulate(counts)][: max(1, len(counts))]


def _batches(
    file: IO[bytes], size: int, columns: list[str], first_group: int, *, parquet: bool
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of some columns, a few at a time."""
    file.seek(0)
    if not parquet:
        reader = _ipc(file)
        batches = map(reader.get_batch, range(reader.num_record_batches)) if hasattr(reader, "get_batch") else reader
        for batch in batches:
            batch.validate()
            yield from (batch.slice(start, BATCH) for start in range(0, batch.num_rows, BATCH))
        return

    yield from read_batches(file, size, columns, BATCH, first_group=first_group)


@contextmanager
def _as_input_error() -> Iterator[None]:
    """Turn any exception of Arrow into an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # it raises nearly every kind over damaged files
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"the table cannot be read: {reason}") from error
