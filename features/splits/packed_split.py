"""A split file in an eighth of its bytes: per class, what its paths have in common and what tells them apart.

The copies of CoOp's `split_zhou_*.json` in `features/datasets` are packed so (MIT, Kaiyang Zhou). To add one:

    from features.splits.packed_split import pack
    from features.splits.split_zhou import read_split
    from features.formats.files import write_json
    write_json(Path("features/datasets/<name>_split.json"), pack(*read_split(official), about="<where it is from>"))
"""

from __future__ import annotations

import os.path
from pathlib import PurePosixPath
from typing import Any

from features.datasets.base import SPLITS, Rows


def pack(classes: tuple[str, ...], rows: Rows, about: str) -> dict[str, Any]:
    """The JSON value that `unpack` turns back into the same classes and, class by class, the same rows.

    Raises:
        ValueError: what tells two paths apart holds a space, which separates them here.
    """
    groups = []
    for label, name in enumerate(classes):
        paths = {part: [path for path, row in rows[part] if row == label] for part in SPLITS}
        head, tail = _common([path for part in SPLITS for path in paths[part]])
        middles = {part: [path[len(head) : len(path) - len(tail)] for path in paths[part]] for part in SPLITS}
        if any(" " in middle or not middle for part in SPLITS for middle in middles[part]):
            raise ValueError(f"the paths of class {label} ({name!r}) cannot be packed")
        groups.append({"name": name, "head": head, "tail": tail} | {part: " ".join(middles[part]) for part in SPLITS})
    return {"packed": 1, "about": about, "classes": groups}


def unpack(values: dict[str, Any]) -> tuple[tuple[str, ...], Rows]:
    """The C class names by label, and for each split its (image path, label) rows."""
    groups = values["classes"]
    rows: Rows = {
        part: [
            (group["head"] + middle + group["tail"], label)
            for label, group in enumerate(groups)
            for middle in group[part].split()
        ]
        for part in SPLITS
    }
    return tuple(group["name"] for group in groups), rows


def _common(paths: list[str]) -> tuple[str, str]:
    """What the paths begin and end with alike; digits stay with what differs, so numbers keep their width."""
    tails = {PurePosixPath(path).suffix for path in paths}
    tail = tails.pop() if len(tails) == 1 else ""
    stems = [path.removesuffix(tail) for path in paths]
    head = os.path.commonprefix(stems).rstrip("0123456789")  # noqa: RUF071 (of characters is what is meant)
    if head in stems:
        head = head[: head.rfind("/") + 1]
    return head, tail
