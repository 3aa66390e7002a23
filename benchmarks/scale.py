"""Memory and time with millions of images in archives: `python -m benchmarks.scale 1000000 [10000000 ...]`.

No image is needed: the archives are empty files, and the scans beside them, which `index` would write while it reads
them, are made up: 10,000 images each, of 1,000 classes. Each step runs in a process of its own:

- `index`: read the scans, draw splits, find copies, write the table.
- `read`: read the table and plan the shards of features, as `extract` does before it opens an image.
- `task`: read the training features of 16 images a class from a store of 16 dimensions, as `build_task` does.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.memory import own_peak_bytes, peak_bytes
from features.datasets.base import reader_from
from features.formats.parquet import sealed_writer
from features.index import write_index
from features.index_table import read_index
from features.shards import scan
from features.shards.archives import Archive

IN_ARCHIVE = 10_000  # images
CLASSES = 1_000
DIM = 16  # of the store; at 512 it would take 32 times the disk


def main(counts: list[int]) -> None:
    """Print a row of Markdown for each step and each number of images."""
    print("| step | images | CPU s | peak memory, MB |\n| --- | --: | --: | --: |")
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), count)
            for step in STEPS:
                peak = peak_bytes("benchmarks.scale", step, folder)
                seconds = float((Path(folder) / "seconds").read_text(encoding="utf-8"))
                print(f"| {step} | {count:,} | {seconds:.0f} | {peak / 1e6:,.0f} |", flush=True)


def make(folder: Path, count: int) -> None:
    """Make empty archives in `folder/in`, and what `index` would have found in them."""
    (folder / "in").mkdir()
    os.chdir(folder)
    rng = np.random.default_rng(0)
    for number in range(count // IN_ARCHIVE):
        file = folder / f"in/{number:06}.tar"
        file.touch()
        status = file.stat()
        archive = Archive(file.name, status.st_size, str(status.st_mtime_ns))
        digests = rng.bytes(32 * IN_ARCHIVE).hex()
        rows = range(IN_ARCHIVE)
        columns = {
            "member": [f"{number:06}/{row:08}.jpg" for row in rows],
            "label": [f"class {label}" for label in rng.integers(0, CLASSES, IN_ARCHIVE)],
            "split": [None] * IN_ARCHIVE,
            "group": [None] * IN_ARCHIVE,
            "position": [1024 * (1 + 200 * row) for row in rows],
            "bytes": [110_000] * IN_ARCHIVE,
            "sha256": [digests[64 * row : 64 * row + 64] for row in rows],
            **{name: [None] * IN_ARCHIVE for name in ("low", "high", "floating", "problem")},
        }
        with sealed_writer(scan.scan_file(folder / "in", archive), scan.SCHEMA, compression="zstd") as writer:
            writer.write_batch(pa.RecordBatch.from_pydict(columns, schema=scan.SCHEMA))
            writer.add_key_value_metadata({scan.PASSED_OVER: "[]"})


def _index(folder: Path) -> None:
    reader = reader_from({"reader": "image_shards", "path": str(folder / "in")}, "benchmark")
    listing = reader.read(Path())
    write_index(listing, reader.base(Path()), folder / "x.parquet", folder / "x.json", folder / "digests.json")


def _read(folder: Path) -> None:
    from features.image_store.writer import plan_shards  # noqa: PLC0415 (each step has the memory of its own)

    plan_shards(read_index(folder / "x.parquet"), 1)


def _task(folder: Path) -> None:
    from zarr.storage import LocalStore  # noqa: PLC0415

    from features.image_store.shard_reader import read_rows  # noqa: PLC0415
    from features.image_store.writer import chunk_rows, create_array  # noqa: PLC0415

    count = sum(1 for _ in (folder / "in").iterdir()) * IN_ARCHIVE
    shape = (count, 1, DIM)
    array = create_array(LocalStore(folder / "a.zarr"), None, shape, np.float16, chunk_rows(1))
    for start in range(0, count, 1 << 20):
        array[start : start + (1 << 20)] = 1
    rows = np.random.default_rng(0).choice(count, 16 * CLASSES, replace=False)
    read_rows(folder / "a.zarr", shape, rows)


STEPS: dict[str, Callable[[Path], None]] = {"index": _index, "read": _read, "task": _task}

if __name__ == "__main__":
    if sys.argv[1] in STEPS:
        os.chdir(sys.argv[2])
        STEPS[sys.argv[1]](Path(sys.argv[2]))
        (Path(sys.argv[2]) / "seconds").write_text(str(time.process_time()), encoding="utf-8")
        print(own_peak_bytes())
    else:
        main([int(argument) for argument in sys.argv[1:]])
