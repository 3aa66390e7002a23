"""An image store of random features in small shards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from features.encoding.view_families import crops_of
from features.image_store import writer as image_store_writer
from features.image_store.provenance import FORMAT
from features.image_store.writer import chunk_rows, encode_shard, plan_shards, write_store
from features.index_table import Index

DIM = 5


FACTS = {
    "format": FORMAT,
    "encoder": "tiny",
    "weights_sha256": "0" * 64,
    "preprocess": {"size": [32, 32]},
    "precision": "float32",
    "views": 2,
    "view_scale": [0.5, 1.0],
    "view_seed": 0,
}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of 16 training images and of 64 others."""
    monkeypatch.setattr(image_store_writer, "CROPS_IN_SHARD", 64)


def random_features(rows: int, views: int) -> NDArray[np.float16]:
    return np.random.default_rng(rows).normal(size=(rows, views, DIM)).astype(np.float16)


def write(out: Path, index: Index, change: Callable[[NDArray[np.float16]], object] = lambda _: None) -> Path:
    """Write a store of random features; `change` may alter the values of a shard before they are written."""
    return write_with(FACTS, out, index, change)


def write_with(
    facts: Mapping[str, Any],
    out: Path,
    index: Index,
    change: Callable[[NDArray[np.float16]], object] = lambda _: None,
) -> Path:
    """Write such a store with other provenance than `FACTS`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    finished = []
    for shard in plan_shards(index, crops_of(facts["views"], facts.get("view_families", ()))):
        values = random_features(len(shard.rows), shard.views)
        change(values)
        file = out.parent / f"{out.name}-{shard.split}-{shard.number}"
        file.write_bytes(encode_shard(values, chunk_rows(values.shape[1])))
        finished.append((shard, file))
    write_store(out, index, finished, DIM, facts)
    return out
