"""Read 200,000 x 512 features of a store for training, against `numpy.memmap` on the same bytes in one file.

`python -m benchmarks loading`
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from zarr.storage import LocalStore

from benchmarks.measure import Row, in_turn
from features.image_store.shard_reader import read_features
from features.image_store.writer import chunk_rows, create_array

COUNT, DIM = 200_000, 512


def rows(*, small: bool) -> list[Row]:  # noqa: ARG001 (seconds, whatever the size)
    """Return the row of reading the whole array from the page cache."""
    shape = (COUNT, 1, DIM)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        values = np.random.default_rng(0).integers(0, 2**14, shape).astype(np.uint16).view(np.float16)
        create_array(LocalStore(folder / "a.zarr"), None, shape, np.float16, chunk_rows(1))[...] = values
        values.tofile(folder / "a.bin")

        def memmap() -> object:
            return np.array(np.memmap(folder / "a.bin", np.float16, "r", shape=shape))

        ours, theirs = in_turn(lambda: read_features(folder / "a.zarr", shape), memmap, repeats=9)
    speed = values.nbytes / 1e9
    return [
        Row.of(f"read {shape[0]:,} x {DIM} float16 features", speed / ours, speed / theirs, unit="GB/s", at_least=0.7)
    ]
