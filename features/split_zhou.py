"""Data sets that come with CoOp's `split_zhou_<name>.json`: three lists of [image path, label, class name].

Format and folder layout: CoOp's repository, `DATASETS.md` and `datasets/oxford_pets.py` (MIT).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from features.datasets.base import SPLITS, Listing, Published, Rows
from features.errors import InputError, raise_all
from features.guard import parsing, read_json
from features.listed import taken
from features.packed_split import unpack

PACKAGED = Path(__file__).with_name("datasets")


class SplitReader(Published):
    """Base of the readers whose data set has a `split_zhou_*.json`.

    The split file is looked for in `path`, where CoOp's instructions put it, and else in `features/datasets`.
    """

    split_file: ClassVar[str]  # its name beside the images
    packed_file: ClassVar[str] = ""  # the copy in `features/datasets`, see `packed_split`; empty: there is none
    split_url: ClassVar[str] = ""  # where CoOp's authors keep it, for those without a copy

    def read(self, root: Path) -> Listing:
        """List the official split; see `Reader.read`."""
        folder = self.folder(root)
        classes, named = read_split(self._split(root))
        rows: Rows = {part: [(self.laid_out(path, folder), label) for path, label in named[part]] for part in SPLITS}
        images, missing = taken(folder, rows, allow_partial=self.allow_partial)
        return Listing(images, classes, self.templates, self.origin, missing=missing)

    def laid_out(self, path: str, folder: Path) -> str:  # noqa: ARG002
        """Where a copy of another layout than CoOp's keeps what the split calls `path`."""
        return path

    def _split(self, root: Path) -> Path:
        beside = root / self.path / self.split_file
        if beside.is_file() or not self.packed_file:
            if not beside.is_file():
                raise InputError(
                    f"there is no {beside}, which says which images are for training; the package has no copy of it.\n"
                    f"  fix: get it from CoOp's authors, {self.split_url}, and put it there"
                )
            return beside
        return PACKAGED / self.packed_file


def read_split(path: Path) -> tuple[tuple[str, ...], Rows]:
    """Read a split file, the official form or the packed one.

    Returns:
        The C class names by label, and for each split its (image path, label) rows.

    Raises:
        InputError: not JSON, or not a split; every mistake is listed.
    """
    remedy = "get it anew, or remove it where the package has a copy"
    values = read_json(path, remedy)
    if isinstance(values, dict) and "packed" in values:
        with parsing(path, remedy):
            return unpack(values)
    raise_all(
        list(_malformed(values)), f"{path} is not a split file; get it anew, or remove it where the package has a copy"
    )
    by_label = {label: name for part in SPLITS for _, label, name in values[part]}
    classes = tuple(by_label[label] for label in sorted(by_label))
    return classes, {part: [(image, label) for image, label, _ in values[part]] for part in SPLITS}


def _malformed(values: Any) -> Iterator[str]:
    """What is wrong with a split in the official form."""
    if not isinstance(values, dict):
        yield f"it holds a {type(values).__name__}, not an object with {', '.join(SPLITS)}"
        return
    names: dict[int, str] = {}
    for part in SPLITS:
        if not isinstance(values.get(part), list):
            yield f"{part!r}: missing, or not a list"
            continue
        for place, row in enumerate(values[part]):
            match row:
                case [str(), int(label), str(name)] if not isinstance(label, bool):
                    if names.setdefault(label, name) != name:
                        yield f"{part}[{place}]: label {label} is {name!r} here and {names[label]!r} before"
                case _:
                    yield f"{part}[{place}]: {row!r} is not [image path, label, class name]"
    if set(names) != set(range(len(names))):
        yield f"labels must be 0 to {len(names) - 1} without a gap, not {sorted(names)}"
