"""Parquet files read with suspicion: no more rows than a file can hold, no missing values."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.errors import InputError
from features.formats.untrusted import check_claimed_size


def read_table(path: Path, columns: Collection[str] | None = None) -> pa.Table:
    """Those of the columns that the file has; None: all of them.

    Raises:
        InputError: its footer claims more than the file can hold. What Arrow raises over a damaged file is Arrow's.
    """
    with pq.ParquetFile(path) as file:
        facts = file.metadata
        groups = [facts.row_group(number) for number in range(facts.num_row_groups)]
        chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
        claimed = sum(max(chunk.total_uncompressed_size, 0) for chunk in chunks) + max(facts.num_rows, 0)
        check_claimed_size(claimed, path, "the footer")
        there = file.schema_arrow.names
        return file.read([name for name in there if columns is None or name in columns], use_threads=False)


def column(table: pa.Table, name: str, path: Path) -> NDArray[Any]:
    """A flat column of numbers, truth values or texts.

    Raises:
        InputError: values are missing, or it holds something else.
    """
    values = table[name]
    if values.null_count:
        raise InputError(f"{path}: {values.null_count:,} values of the column {name!r} are missing")
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
        return np.array(values.to_pylist(), dtype=np.str_)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise InputError(f"{path}: the column {name!r} holds {kind}, neither numbers nor texts")
    return np.array(values.to_numpy())  # a copy: Arrow's own memory is read-only, which torch warns of


def lists(table: pa.Table, name: str, path: Path) -> NDArray[Any]:
    """(N, D) from a column of N lists of D floats.

    Raises:
        InputError: values are missing, lists differ in length, or hold no floats.
    """
    values = table[name].combine_chunks()
    flat = values.flatten()
    if not pa.types.is_floating(flat.type) or values.null_count or flat.null_count:
        raise InputError(f"{path}: the column {name!r} must hold lists of floats, none of them missing")
    width = values.type.list_size if pa.types.is_fixed_size_list(values.type) else len(flat) // max(len(values), 1)
    if not pa.types.is_fixed_size_list(values.type):
        lengths = values.value_lengths().to_numpy()
        if (lengths != width).any():
            raise InputError(f"{path}: lists of the column {name!r} have {lengths.min()} to {lengths.max()} values")
    return np.array(flat.to_numpy(zero_copy_only=False)).reshape(len(values), width)
