"""Data sets that come with CoOp's `split_zhou_<name>.json`: three lists of [image path, label, class name].

Format and folder layout: CoOp's repository, `DATASETS.md` and `datasets/oxford_pets.py` (MIT).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from features.datasets.base import SPLITS, Listing, Published, Rows, Split
from features.errors import InputError, Problems, raise_all
from features.formats.untrusted import parsing, read_json
from features.splits.listed import listing_of
from features.splits.packed_split import unpack

PACKAGED = Path(__file__).parents[1] / "datasets"
REMEDY = "get it anew, or remove it where the package has a copy"


class SplitReader(Published):
    """Base of the readers whose data set has a `split_zhou_*.json`.

    The split file is looked for in `path`, where CoOp's instructions put it, and else in `features/datasets`.
    """

    split_file: ClassVar[str]  # its name beside the images
    packed_file: ClassVar[str] = ""  # the copy in `features/datasets`, see `packed_split`; empty: there is none
    split_url: ClassVar[str] = ""  # where CoOp's authors keep it, for those without a copy

    def read(self, root: Path) -> Listing:
        """List the official split; see `Reader.read`."""
        problems = Problems()
        folder = problems.attempt(lambda: self.folder(root))
        split = problems.attempt(lambda: readable(self._split(root), problems))
        if split is None and self.packed_file:  # whoever mends the split is to know what else the copy lacks
            split = read_split(PACKAGED / self.packed_file)
        if folder is None or split is None:
            raise self.unusable(problems)
        classes, named = split
        rows: Rows = {part: [(self.laid_out(path, folder), label) for path, label in named[part]] for part in SPLITS}
        return listing_of(self, folder, classes, rows, problems)

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
    problems = Problems()
    split = readable(path, problems)
    if problems.found:
        raise InputError("\n".join(problems.found))
    return split


def readable(path: Path, problems: Problems) -> tuple[tuple[str, ...], Rows]:
    """What can be read of a split file; what cannot goes to `problems`.

    Raises:
        InputError: nothing can.
    """
    values = read_json(path, REMEDY)
    if isinstance(values, dict) and "packed" in values:
        with parsing(path, REMEDY):
            return unpack(values)
    if not isinstance(values, dict):
        raise InputError(f"{path} holds a {type(values).__name__}, not an object with {', '.join(SPLITS)}; {REMEDY}")
    names: dict[int, str] = {}
    wrong: list[str] = []
    rows: Rows = {part: list(_rows(part, values.get(part), names, wrong)) for part in SPLITS}
    if set(names) != set(range(len(names))):
        wrong.append(f"labels must be 0 to {len(names) - 1} without a gap, not {sorted(names)}")
    problems.attempt(lambda: raise_all(wrong, f"{path} is not a split file; {REMEDY}"))
    return tuple(names[label] for label in sorted(names)), rows


def _rows(part: Split, values: Any, names: dict[int, str], wrong: list[str]) -> Iterator[tuple[str, int]]:
    """The (image path, label) rows of one split; `names` becomes the class names by label, `wrong` what is no row."""
    if not isinstance(values, list):
        wrong.append(f"{part!r}: missing, or not a list")
        return
    for place, row in enumerate(values):
        match row:
            case [str(image), int(label), str(name)] if not isinstance(label, bool):
                if names.setdefault(label, name) != name:
                    wrong.append(f"{part}[{place}]: label {label} is {name!r} here and {names[label]!r} before")
                yield image, label
            case _:
                wrong.append(f"{part}[{place}]: {row!r} is not [image path, label, class name]")
