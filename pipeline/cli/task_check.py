"""`shipyard task check`: what would be read of a folder, class by class; nothing is written."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from features.datasets.base import SPLITS, Listing
from features.errors import shown
from features.index import write_index
from features.index_table import read_index
from features.runtime.text_table import text_table
from features.shards.archives import Base

COLUMNS = (*SPLITS, "passed over", "copies")
SECONDS = 20.0  # to decode images: 1,400 photographs of 12 megapixels in JPEG, or 100 in HEIC, on two cores


def look_at(listing: Listing, folder: Base) -> list[str]:
    """Return a table of the classes of a listing, and one line for each kind of thing to know about its images.

    Every image is opened, and decoded at reduced size while there is time. The splits are those of the index: copies
    that were found are on one side.

    Raises:
        InputError: files cannot be opened.
    """
    with TemporaryDirectory() as scratch:
        table = Path(scratch) / "index.parquet"
        names, digests = Path(scratch) / "names.json", Path(scratch) / "digests.json"
        lines = write_index(listing, folder, table, names, digests, seconds=SECONDS)
        index = read_index(table)

    copies = {path for paths in index.duplicates for path in paths}
    counts: dict[str, Counter[str]] = {name: Counter() for name in listing.classes}
    classes_in: dict[str, set[str]] = defaultdict(set)  # folder -> the classes whose images lie below it
    for path, class_id, split in zip(index.paths, index.class_ids.tolist(), index.splits, strict=True):
        name = listing.classes[class_id]
        counts[name][split] += 1
        counts[name]["copies"] += path in copies
        for parent in PurePosixPath(path).parents[:-1]:
            classes_in[str(parent)].add(name)

    elsewhere: Counter[str] = Counter()
    for path, _ in listing.passed_over:
        below = next((found for parent in PurePosixPath(path).parents if (found := classes_in.get(str(parent)))), ())
        (counts[next(iter(below))] if len(below) == 1 else elsewhere)["passed over"] += 1

    rows = [["", *COLUMNS]]
    rows += [[shown(name), *(str(count[key]) for key in COLUMNS)] for name, count in counts.items()]
    if elsewhere:
        rows.append(["(in no class)", *(str(elsewhere[key]) for key in COLUMNS)])
    return [*text_table(rows), *(f"note: {line}" for line in lines)]
