"""Index 100,000 small pictures: wall time from the start of the process to its end, and its peak memory.

`python -m benchmarks index_files`. In these rows `reference` is an upper limit. The second time no file has changed, so
no file is read. The comparison is what `shipyard run` does first with own images: list the folder, and compare names,
sizes and times with the index.
"""

from __future__ import annotations

import io
import os
import tempfile
import time
from pathlib import Path

from PIL import Image

from benchmarks.measure import Row
from benchmarks.memory import peak_bytes
from features.datasets.base import reader_from
from features.freshness import changes_since
from features.index_table import read_index

CLASSES = 100
FILE_BYTES = 4096
COUNT = 100_000  # files
MAX_SECONDS = 60.0
MAX_COMPARING = 5.0  # seconds
MAX_MEGABYTES = 500.0


def rows(*, small: bool) -> list[Row]:  # noqa: ARG001 (half a minute, whatever the size)
    """Return the rows of a first index, a second one, a comparison, and the peak memory of the first."""
    with tempfile.TemporaryDirectory() as name:
        images, out = Path(name) / "images", Path(name) / "out"
        _write(images)
        first, peak = _index(images, out)
        again, _ = _index(images, out)
        compared = _compare(images, out)
    files = f"{COUNT:,} files"
    return [
        Row.of(f"index {files}", first, MAX_SECONDS, at_least=1),
        Row.of(f"index {files} again, unchanged", again, MAX_SECONDS, at_least=1),
        Row.of(f"compare {files} with their index", compared, MAX_COMPARING, at_least=1),
        Row.of(f"index {files}, peak memory", peak / 1e6, MAX_MEGABYTES, unit="MB", at_least=1),
    ]


def _write(folder: Path) -> None:
    picture = io.BytesIO()
    Image.new("L", (16, 16), 128).save(picture, "JPEG")
    data = picture.getvalue() + os.urandom(FILE_BYTES - len(picture.getvalue()))  # decoders ignore what follows
    for class_id in range(CLASSES):
        (folder / f"class {class_id:03}").mkdir(parents=True)
    for number in range(COUNT):
        file = folder / f"class {number % CLASSES:03}" / f"{number:06}.jpg"
        file.write_bytes(data + number.to_bytes(8))


def _index(images: Path, out: Path) -> tuple[float, int]:
    """Return the seconds and the peak bytes of one index."""
    start = time.perf_counter()
    peak = peak_bytes("benchmarks.index_once", str(images), str(out))
    return time.perf_counter() - start, peak


def _compare(images: Path, out: Path) -> float:
    """Return the seconds of one comparison with the index."""
    start = time.perf_counter()
    reader = reader_from({"reader": "image_folder", "path": images.name}, "benchmark")
    listing = reader.read(images.parent)
    changes = changes_since(read_index(out / "x.parquet"), listing, images, out / "digests.json")
    taken = time.perf_counter() - start
    assert not changes, str(changes)  # noqa: S101 (else it did not compare what it was to compare)
    return taken
