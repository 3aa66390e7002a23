"""Index a folder of class folders once and print the peak memory in bytes: `... index_once FOLDER OUT`.

A process of its own without torch, as stage `index` is.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.memory import own_peak_bytes
from features.datasets.base import reader_from
from features.index import write_index


def main(images: Path, out: Path) -> None:
    """Read, check, hash and write, as stage `index` does."""
    reader = reader_from({"reader": "image_folder", "path": images.name}, "benchmark")
    listing = reader.read(images.parent)
    write_index(listing, reader.folder(images.parent), out / "x.parquet", out / "x.json", cache=out / "digests.json")
    print(own_peak_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
