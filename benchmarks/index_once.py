"""Index a folder of class folders once, and print the peak of memory in bytes: `... index_once FOLDER OUT`.

A process of its own, without torch, as stage `index` is.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from features.datasets.base import reader_from
from features.index import write_index


def main(images: Path, out: Path) -> None:
    """Read, check, hash and write, as stage `index` does."""
    reader = reader_from({"reader": "image_folder", "path": images.name}, "benchmark")
    listing = reader.read(images.parent)
    write_index(listing, reader.folder(images.parent), out / "x.parquet", out / "x.json", cache=out / "digests.json")
    print(_peak())


def _peak() -> int:
    """Of this program alone: Linux's `ru_maxrss` counts the process that started it, which holds torch."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
