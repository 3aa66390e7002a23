"""Parquet: one row per crop, with `features` as a list of floats, and `splits`, `views`, `labels`, `valid`, `ids`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.errors import InputError
from features.exchange.formats.base import (
    FIX_HINT,
    KEY,
    FeatureFile,
    Format,
    RowBlock,
    block_of,
    metadata_json,
    names_in_file,
    parse_metadata,
)
from features.formats.files import atomic_file
from features.formats.parquet import column, list_column, read_table
from features.formats.untrusted import wrap_parser_errors

VIEWS = "views"  # the column with the number of the view; 0 is the centre crop


class Parquet(Format):
    """One file. With a column `views`, the consecutive rows of an image are combined into one."""

    def read(self, source: Path, keys: Mapping[str, str]) -> FeatureFile:
        """Read the columns that `FIELDS` names and `views`; others are ignored."""
        with wrap_parser_errors(source, FIX_HINT):
            table = read_table(source, [*names_in_file(keys).values(), VIEWS])
            arrays = {name: _array(table, name, source) for name in table.column_names}
            views = arrays.pop(VIEWS, None)

            block = block_of(arrays, keys, str(source), None)
            blocks = [block] if views is None else list(_combine_views(block, views, source))

            metadata = (table.schema.metadata or {}).get(KEY.encode())
            return FeatureFile(blocks, *(parse_metadata(metadata, str(source)) if metadata else ()))

    def write(self, content: FeatureFile, out: Path) -> None:
        """Write one row group per split."""
        tables = [_table(split, arrays) for split, arrays in content.arrays_by_split().items()]
        with atomic_file(out) as part:
            whole = pa.concat_tables(tables).replace_schema_metadata({KEY: metadata_json(content)})
            pq.write_table(whole, part, compression="zstd")


def _table(split: str, arrays: Mapping[str, NDArray[Any]]) -> pa.Table:
    """Return the rows of one split, N images times K views."""
    n, k, d = arrays["features"].shape
    flat = pa.array(arrays["features"].reshape(-1))
    columns = {"splits": pa.array(np.repeat([split], n * k)), VIEWS: pa.array(np.tile(np.arange(k, dtype=np.int32), n))}
    columns |= {name: pa.array(np.repeat(values, k)) for name, values in arrays.items() if name != "features"}
    return pa.table({**columns, "features": pa.FixedSizeListArray.from_arrays(flat, d)})


def _array(table: pa.Table, name: str, path: Path) -> NDArray[Any]:
    nested = pa.types.is_list(table[name].type) or pa.types.is_fixed_size_list(table[name].type)
    return list_column(table, name, path) if nested else column(table, name, path)


def _combine_views(block: RowBlock, views: NDArray[Any], path: Path) -> Iterator[RowBlock]:
    """Cut rows of crops into blocks of images with the same number of views.

    Args:
        block: (N, D) features, one row per crop.
        views: (N,) the number of each row's view.
        path: The file, for error messages.
    """
    # Each image starts at its view 0; the distance to the next start is its number of views.
    starts = np.flatnonzero(views == 0)
    counts = np.diff([*starts, len(views)])
    if len(views) and (views[0] != 0 or (views != np.arange(len(views)) - np.repeat(starts, counts)).any()):
        raise InputError(f"{path}: the views of an image must be 0, 1, 2, ... in consecutive rows")

    # Edges lie between images with different numbers of views.
    edges = [0, *(np.flatnonzero(np.diff(counts)) + 1), len(counts)] if len(counts) else []
    for first, last in pairwise(edges):
        k = int(counts[first])
        rows = slice(int(starts[first]), int(starts[last - 1] + counts[last - 1]))
        images = block.features[rows].reshape(last - first, k, -1)
        yield RowBlock(images, {name: values[rows][::k] for name, values in block.columns.items()})
