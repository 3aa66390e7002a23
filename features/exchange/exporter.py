"""Export a store of image features as one file that other programs can read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError
from features.exchange.formats.base import FeatureFile, RowBlock, format_of
from features.image_store.provenance import Provenance
from features.image_store.store import ImageStore
from features.image_store.writer import index_sha256
from features.index import read_names
from features.index_table import read_index


def export(store: ImageStore, out: Path, *, table: Path | None, names: Path | None) -> None:
    """Write features, labels and validity of every split, and their provenance; an import restores the same store.

    Args:
        store: The features to write.
        out: The file to write; its suffix selects the format.
        table: The index's Parquet file, for the ids of the rows.
        names: The index's JSON file, for the class names.

    Raises:
        InputError: The format is unknown or can only be read, the index belongs to another data set, or the store has
            patch tokens.
    """
    if store.meta.patches:
        raise InputError(f"{store.path} has patch tokens, which cannot be exported; extract it without them")
    index = read_index(table) if table else None
    if index and index_sha256(index) != store.meta.index_sha256:
        raise InputError(f"{table} is not the index of {store.path}: run `dvc repro`, or pull both together")

    blocks = []
    for name in store.splits:
        split = store.load(name)
        columns: dict[str, NDArray[Any]] = {
            "splits": np.full(len(split.labels), name),
            "labels": split.labels,
            "valid": split.valid,
        }
        if index:
            columns["ids"] = np.array([index.paths[row] for row in index.rows(name)], np.str_)
        blocks.append(RowBlock(split.features, columns))

    provenance = store.meta.model_dump(mode="json", include=set(Provenance.model_fields), exclude_unset=True)
    classes = read_names(names).classes if names else None
    format_of(out).write(FeatureFile(blocks, classes, provenance), out)
