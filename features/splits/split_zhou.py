"""Data sets with a `split_zhou_<name>.json` of CoOp: three lists of [image path, label, class name].

Format and folder layout: CoOp's repository, `DATASETS.md` and `datasets/oxford_pets.py` (MIT). A reader may carry a
copy of its split file, gzipped, beside its module: `caltech101.json.gz` beside `caltech101.py`. To add one, use
`gzip.compress(data, mtime=0)`, which gives the same bytes each time.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from features.datasets.base import SPLITS, Listing, Published, Rows, Split
from features.errors import InputError, Problems, raise_all
from features.formats.untrusted import read_json, wrap_parser_errors
from features.splits.listed import listing_of

FIX_HINT = "download it again, or delete it if the package has a copy"


class SplitReader(Published):
    """Base of the readers whose data set has a `split_zhou_*.json`.

    A split file in `path`, where CoOp's instructions put it, takes precedence over the packaged copy.
    """

    split_file: ClassVar[str]  # its name in `path`
    packaged_split: ClassVar[Path | None] = None  # the gzipped copy in this package, if there is one
    split_url: ClassVar[str] = ""  # CoOp's download address; needed if there is no packaged copy

    def read(self, root: Path) -> Listing:
        """List the official split; see `Reader.read`."""
        problems = Problems()
        folder = problems.attempt(lambda: self.folder(root))
        split = problems.attempt(lambda: parse_split(self._find_split(root), problems))

        # An unreadable split file is reported already. The packaged copy shows which images are missing besides.
        if split is None and self.packaged_split:
            split = read_split(self.packaged_split)
        if folder is None or split is None:
            raise self.unreadable(problems)

        classes, split_rows = split
        rows: Rows = {
            name: [(self.path_on_disk(path, folder), label) for path, label in split_rows[name]] for name in SPLITS
        }
        return listing_of(self, folder, classes, rows, problems)

    def path_on_disk(self, path: str, folder: Path) -> str:  # noqa: ARG002 (for readers that override it)
        """Return where this copy keeps the image that the split file calls `path`."""
        return path

    def _find_split(self, root: Path) -> Path:
        own = root / self.path / self.split_file
        if own.is_file():
            return own
        if self.packaged_split:
            return self.packaged_split
        raise InputError(
            f"there is no {own}, which assigns the images to train, val and test; the package has no copy of it.\n"
            f"  fix: download it from CoOp's authors ({self.split_url}) and put it there"
        )


def read_split(path: Path) -> tuple[tuple[str, ...], Rows]:
    """Read a split file, plain or gzipped.

    Returns:
        The C class names by label, and for each split its (image path, label) rows in the file's order.

    Raises:
        InputError: The file is not JSON or not a split; every mistake is listed.
    """
    problems = Problems()
    split = parse_split(path, problems)
    if problems.messages:
        raise InputError("\n".join(problems.messages))
    return split


def parse_split(path: Path, problems: Problems) -> tuple[tuple[str, ...], Rows]:
    """Return the usable rows of a split file as `read_split` does, and add the unusable ones to `problems`.

    Raises:
        InputError: The file has no usable row at all.
    """
    values = _load(path)
    if not isinstance(values, dict):
        raise InputError(f"{path} holds a {type(values).__name__}, not an object with {', '.join(SPLITS)}; {FIX_HINT}")

    class_names: dict[int, str] = {}
    mistakes: list[str] = []
    rows: Rows = {name: list(_rows(name, values.get(name), class_names, mistakes)) for name in SPLITS}

    if set(class_names) != set(range(len(class_names))):
        mistakes.append(f"labels must be 0 to {len(class_names) - 1} without a gap, not {sorted(class_names)}")
    problems.attempt(lambda: raise_all(mistakes, f"{path} is not a split file; {FIX_HINT}"))
    return tuple(class_names[label] for label in sorted(class_names)), rows


def _load(path: Path) -> Any:
    if path.suffix != ".gz":
        return read_json(path, FIX_HINT)
    with wrap_parser_errors(path, FIX_HINT):
        return json.loads(gzip.decompress(path.read_bytes()))


def _rows(split: Split, values: Any, class_names: dict[int, str], mistakes: list[str]) -> Iterator[tuple[str, int]]:
    """Yield the (image path, label) rows of one split.

    Adds the class name of each new label to `class_names`, and a line for each unusable row to `mistakes`.
    """
    if not isinstance(values, list):
        mistakes.append(f"{split!r}: missing, or not a list")
        return
    for position, row in enumerate(values):
        match row:
            case [str(image), int(label), str(name)] if not isinstance(label, bool):
                if class_names.setdefault(label, name) != name:
                    mistakes.append(
                        f"{split}[{position}]: label {label} is {name!r}, but {class_names[label]!r} in an earlier row"
                    )
                yield image, label
            case _:
                mistakes.append(f"{split}[{position}]: {row!r} is not [image path, label, class name]")
