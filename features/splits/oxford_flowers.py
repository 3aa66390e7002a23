"""CoOp's split of Oxford Flowers 102, which two readers need: one for its rows, one for its class names."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from features.splits.split_zhou import read_split

SPLIT = Path(__file__).with_suffix(".json.gz")  # CoOp's split_zhou_OxfordFlowers.json (MIT)


@cache
def flower_names() -> dict[str, str]:
    """Return the class name of each of the 8,189 images, by file name."""
    classes, rows = read_split(SPLIT)
    return {path: classes[label] for split in rows.values() for path, label in split}
