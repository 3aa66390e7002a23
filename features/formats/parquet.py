"""Write Parquet files with a digest, and read files that may be corrupt: checked sizes, no missing values."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.errors import InputError
from features.formats.files import atomic_file
from features.formats.seal import BLANK, KEY, check_seal, seal_file, sealed
from features.formats.untrusted import FREE_BYTES, MAX_EXPANSION, check_claimed_size, wrap_parser_errors


def read_table(path: Path, columns: Collection[str] | None = None) -> pa.Table:
    """Read those of `columns` that the file has; None reads all columns.

    Raises:
        InputError: The footer claims more bytes than the file can hold. For a damaged file Arrow raises exceptions of
            its own; call this inside `wrap_parser_errors`.
    """
    with pq.ParquetFile(path) as file:
        footer = file.metadata
        groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
        chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
        claimed = sum(max(chunk.total_uncompressed_size, 0) for chunk in chunks) + max(footer.num_rows, 0)
        check_claimed_size(claimed, path, "the footer")

        known = file.schema_arrow.names
        return file.read([name for name in known if columns is None or name in columns], use_threads=False)


def read_schema(path: Path) -> pa.Schema:
    """Return the schema of a file; call this inside `wrap_parser_errors`."""
    with pq.ParquetFile(path) as file:
        return file.schema_arrow


def read_footer_text(path: Path, key: str) -> str:
    """Return a text that was added to the footer when the file was closed; call this inside `wrap_parser_errors`."""
    with pq.ParquetFile(path) as file:
        text: bytes = file.metadata.metadata[key.encode()]
    return text.decode()


def read_batches(
    file: Path | IO[bytes], size: int, columns: Sequence[str], rows: int, *, first_group: int = 0
) -> Iterator[pa.RecordBatch]:
    """Yield `rows` rows at a time of some columns, from a row group on; the memory does not grow with the file.

    Args:
        file: The file; for a damaged one, Arrow raises exceptions of its own.
        size: Its size in bytes.
        columns: The columns.
        rows: Of a batch.
        first_group: The first row group to read.

    Raises:
        InputError: A row group claims more bytes than the file can hold.
    """
    with pq.ParquetFile(file) as opened:
        footer = opened.metadata
        groups = range(first_group, footer.num_row_groups)
        for group in map(footer.row_group, groups):
            claimed = sum(max(group.column(at).total_uncompressed_size, 0) for at in range(group.num_columns))
            if claimed > MAX_EXPANSION * size + FREE_BYTES:
                raise InputError(f"a row group claims {claimed:,} bytes, but the file has only {size:,}")
        yield from opened.iter_batches(rows, row_groups=[*groups], columns=[*columns], use_threads=False)


def write_sealed(table: pa.Table, path: Path, **options: Any) -> None:
    """Write a table with its digest in the file's metadata, completely or not at all.

    Args:
        table: the table.
        path: the file.
        **options: of `pyarrow.parquet.write_table`.
    """
    memory = io.BytesIO()
    metadata = {**(table.schema.metadata or {}), KEY: BLANK}
    pq.write_table(table.replace_schema_metadata(metadata), memory, **options)
    with atomic_file(path) as part:
        part.write_bytes(sealed(memory.getvalue()))


@contextmanager
def sealed_writer(path: Path, schema: pa.Schema, **options: Any) -> Iterator[pq.ParquetWriter]:
    """Yield a writer of record batches; the file gets its digest and its name when the block has ended without error.

    The file is that of `write_sealed`, but it may be larger than the memory. Each batch is a row group.
    """
    metadata = {**(schema.metadata or {}), KEY: BLANK}
    with atomic_file(path) as part:
        with pq.ParquetWriter(part, schema.with_metadata(metadata), **options) as writer:
            yield writer
        seal_file(part)


def read_sealed(path: Path, fix_hint: str) -> pa.Table:
    """Read a file of `write_sealed`.

    Raises:
        InputError: The file does not exist, or is not as it was written.
    """
    check_seal(path, fix_hint)
    with wrap_parser_errors(path, fix_hint):
        return read_table(path)


def column(table: pa.Table, name: str, path: Path) -> NDArray[Any]:
    """Return a flat column of numbers, booleans or texts.

    Raises:
        InputError: Values are missing, or the column has another type.
    """
    values = table[name]
    if values.null_count:
        raise InputError(f"{path}: column {name!r} has {values.null_count:,} missing values")

    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
        return np.array(values.to_pylist(), dtype=np.str_)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise InputError(f"{path}: column {name!r} has type {kind}; expected numbers or texts")
    # A copy, because Arrow's own memory is read-only, and torch warns about read-only arrays.
    return np.array(values.to_numpy())


def list_column(table: pa.Table, name: str, path: Path) -> NDArray[Any]:
    """Return (N, D) floats from a column of N lists of D floats.

    Raises:
        InputError: Values are missing, the lists differ in length, or they do not hold floats.
    """
    values = table[name].combine_chunks()
    flat = values.flatten()
    if not pa.types.is_floating(flat.type) or values.null_count or flat.null_count:
        raise InputError(f"{path}: column {name!r} must hold lists of floats without missing values")

    if pa.types.is_fixed_size_list(values.type):
        width = values.type.list_size
    else:
        width = len(flat) // max(len(values), 1)
        lengths = values.value_lengths().to_numpy()
        if (lengths != width).any():
            raise InputError(
                f"{path}: the lists of column {name!r} have {lengths.min()} to {lengths.max()} values; all must have "
                "the same number"
            )
    return np.array(flat.to_numpy(zero_copy_only=False)).reshape(len(values), width)
