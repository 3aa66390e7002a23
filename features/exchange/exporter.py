"""A store of image features as one file that other programs read."""

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
from features.index import read_index, read_names


def export(store: ImageStore, out: Path, *, table: Path | None, names: Path | None) -> None:
    """Write features, labels and the mask of every split, and what made them; importing it gives the same store.

    Args:
        store: what is written.
        out: its suffix says the format.
        table: the index's Parquet, for the ids.
        names: the index's JSON, for the class names.

    Raises:
        InputError: the format is unknown or only read, the index is another data set's, or the store has patch tokens.
    """
    if store.meta.patches:
        raise InputError(f"{store.path} has patch tokens, which no export can hold: extract it without them")
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
    facts = store.meta.model_dump(mode="json", include=set(Provenance.model_fields), exclude_unset=True)
    classes = read_names(names).classes if names else None
    format_of(out).write(FeatureFile(blocks, classes, facts), out)
