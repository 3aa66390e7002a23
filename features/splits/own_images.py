"""Base of the readers of a user's own images: the split of each image, and the classes that have only a name."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from features.datasets.base import SPLITS, Image, Listing, Origin, PassedOver, Reader, Split
from features.duplicates import keep_together
from features.encoding.images import MAX_PIXELS
from features.errors import InputError, Problems, nearest

NOT_GIVEN = -1  # a split that is drawn, where splits are positions in SPLITS
# Signs that nobody sees: of web pages, and of the direction of right-to-left texts.
MARKS = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
NAMES = Path("classes")  # folder of files with names; a dep of stage `index`, so that DVC notices a change

Share = Annotated[float, Field(ge=0, le=1)]
Shares = Annotated[list[Share], Field(min_length=3, max_length=3)]


class Row(NamedTuple):
    """One image: its POSIX path relative to the reader's folder, its label, and its split and group if known."""

    path: str
    label: str
    split: Split | None
    group: str | None = None


class OwnImages(Reader):
    """Options that every reader of own images has.

    Attributes:
        templates: Hand-crafted prompts, each with one `{}` for the class name.
        fractions: Approximate share of train, val and test in each class (CoOp's for data sets without a split). An
            image's split is drawn from its path and `split_seed` only, so that adding or removing an image moves no
            other one. However, a split with a share gets at least one image: if a class would have none, the next in
            the draw is moved there. Of two images one is for training and one for the test; a single one is for
            training. If train and test are given and val is not, val is drawn from train.
        split_seed: Seed of the draw.
        unseen: Classes to learn from their names only, as a list, or as a text file in `classes/` with one name per
            line. Those without images come last; all images of the others are test images.
        rename: Label -> class name, for names that a folder cannot have or that CLIP would not know.
        descriptions: Class name -> the text that templates add after it: "a photo of a kestrel, a small falcon that
            hovers."
        max_pixels: The size, width times height, up to which an image is read. A larger JPEG is decoded at reduced
            size; any other larger image is reported as unreadable.
    """

    templates: list[str] = Field(default_factory=lambda: ["a photo of a {}."])
    fractions: Shares = Field(default_factory=lambda: [0.5, 0.2, 0.3])
    split_seed: int = 0
    unseen: list[str] | str = Field(default_factory=list)
    rename: dict[str, str] = Field(default_factory=dict)
    descriptions: dict[str, str] = Field(default_factory=dict)
    max_pixels: int = Field(default=MAX_PIXELS, ge=1)

    def listing(
        self,
        rows: Sequence[Row],
        mistakes: Iterable[str],
        *,
        passed_over: Iterable[PassedOver] = (),
        notes: Iterable[str] = (),
    ) -> Listing:
        """Decide classes and splits.

        Args:
            rows: The images.
            mistakes: Faults that the reader itself found; they come first in the listing's faults.
            passed_over: What the reader did not read.
            notes: How it understood the input.
        """
        forms: dict[str, list[str]] = defaultdict(list)  # folders of a Mac and of others may be of two forms
        for label in sorted({row.label for row in rows}):
            forms[nfc(label)].append(label)
        labels = sorted(forms)
        if same := [f"{name!r} ({', '.join(map(ascii, forms[name]))})" for name in labels if len(forms[name]) > 1]:
            notes = [*notes, f"labels that look the same are read as one class: {'; '.join(same)}"]
        positions = {label: i for i, label in enumerate(labels)}
        class_ids = np.array([positions[nfc(row.label)] for row in rows], np.int32)
        given = np.array([NOT_GIVEN if row.split is None else SPLITS.index(row.split) for row in rows], np.int8)
        units = np.array([self.unit(row.path, row.group) for row in rows], np.uint64)
        empty = self.without_images(labels, mistakes, passed_over=passed_over, notes=notes)
        splits, is_drawn = self.draw_splits(labels, class_ids, given, units)

        images = [
            Image(row.path, class_id, SPLITS[split])
            for row, class_id, split in zip(rows, class_ids.tolist(), splits.tolist(), strict=True)
        ]
        drawn = frozenset(row.path for row, one in zip(rows, is_drawn.tolist(), strict=True) if one)
        groups = {row.path: row.group for row in rows if row.group}
        return replace(empty, images=keep_together(images, drawn, (), groups).images, drawn=drawn, groups=groups)

    def without_images(
        self,
        labels: Sequence[str],
        mistakes: Iterable[str],
        *,
        passed_over: Iterable[PassedOver] = (),
        notes: Iterable[str] = (),
    ) -> Listing:
        """Return the listing without its images; the classes of `labels`, which are sorted, come first."""
        names = [self.class_name(label) for label in labels]
        problems = Problems()
        unseen = problems.attempt(self.unseen_names) or []
        classes = (*names, *(name for name in unseen if name not in names))
        return Listing(
            images=(),
            classes=classes,
            templates=tuple(self.templates),
            origin=Origin(title=PurePath(self.path).name, licence="the owner's", home="", citation=""),
            descriptions={nfc(name): text for name, text in self.descriptions.items()},
            faults=(*mistakes, *problems.messages, *self._option_mistakes(labels, unseen, classes)),
            own=True,
            passed_over=tuple(passed_over),
            notes=tuple(notes),
            max_pixels=self.max_pixels,
        )

    def class_name(self, label: str) -> str:
        """Return the name of the class with a label; the Unicode form of a folder's name makes no difference."""
        renamed = {nfc(old): new for old, new in self.rename.items()}
        return nfc(renamed.get(nfc(label), label))

    def _option_mistakes(self, labels: Sequence[str], unseen: Sequence[str], classes: Sequence[str]) -> Iterator[str]:
        """Yield options that do not fit the data."""
        if abs(sum(self.fractions) - 1) > 1e-6:
            yield f"fractions: {self.fractions} sum to {sum(self.fractions):g}; train, val and test must sum to 1"
        known = {nfc(label) for label in labels}
        for label in self.rename:
            if nfc(label) not in known:
                yield f"rename: no label {label!r}; {nearest(label, labels)}"
        for name in self.descriptions:
            if nfc(name) not in classes:
                yield f"descriptions: no class {name!r}; {nearest(name, classes)}"
        for name in sorted({name for name in unseen if unseen.count(name) > 1}):
            yield f"unseen: {name!r} is listed twice; remove one"

    def draw_splits(
        self, labels: Sequence[str], class_ids: NDArray[np.int32], given: NDArray[np.int8], units: NDArray[np.uint64]
    ) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
        """Return the splits of N images as positions in `SPLITS`, and whether each was drawn because it is not given.

        Args:
            labels: The labels, sorted.
            class_ids: (N,) positions in `labels`.
            given: (N,) positions in `SPLITS`, or `NOT_GIVEN`.
            units: (N,) results of `unit`. Images with the same one are drawn as one.
        """
        train, val, _ = self.fractions
        shares: dict[int, Sequence[float]] = {NOT_GIVEN: self.fractions}
        # As CoOp does for data sets with only train and test, val is drawn from train.
        if not np.isin(given, [NOT_GIVEN, SPLITS.index("val")]).any():
            both = train + val
            shares[SPLITS.index("train")] = [train / both, val / both, 0] if both else [1, 0, 0]

        splits, drawn = given.copy(), np.isin(given, [*shares])
        for side, share in shares.items():
            rows = np.flatnonzero(given == side)
            rows = rows[np.argsort(class_ids[rows], kind="stable")]
            for members in np.split(rows, np.flatnonzero(np.diff(class_ids[rows])) + 1):
                numbers, positions = np.unique(units[members], return_inverse=True)
                if len(numbers):
                    splits[members] = np.searchsorted(cuts(numbers / 2.0**64, share), positions, side="right")

        unseen = {*(Problems().attempt(self.unseen_names) or ())}  # `without_images` reports a file that is unreadable
        played = [i for i, label in enumerate(labels) if self.class_name(label) in unseen]
        only_tested = np.isin(class_ids, played)
        splits[only_tested] = SPLITS.index("test")
        return splits, drawn & ~only_tested

    def unit(self, path: str, group: str | None) -> int:
        """Return a number of 64 bits that depends only on the path, or the group if there is one, and the seed."""
        name = f"group {group}" if group else path
        digest = hashlib.sha256(f"{self.split_seed}/{name}".encode(errors="surrogateescape")).digest()
        return int.from_bytes(digest[:8])

    def unseen_names(self) -> list[str]:
        """Return the names in `unseen`, from the list or the file.

        Raises:
            InputError: The file cannot be read, or is not among the files that DVC tracks.
        """
        if not isinstance(self.unseen, str):
            return [nfc(name) for name in self.unseen]
        if Path(self.unseen).parent != NAMES:
            raise InputError(
                f"unseen: {self.unseen!r} is not in {NAMES}/, the folder of names that DVC tracks; move it there"
            )
        return read_names_file(Path(self.unseen))


def cuts(numbers: Sequence[float] | NDArray[Any], shares: Sequence[float]) -> tuple[int, int]:
    """Return the positions at which validation and test images start.

    Each split with a share gets an image while there are enough: first training, then test, then validation.

    Args:
        numbers: Ascending numbers in [0, 1), one per image.
        shares: The shares of train, val and test.
    """
    train, val, test = shares
    min_test = int(test > 0 and len(numbers) > 1)
    min_val = int(val > 0 and len(numbers) > 1 + min_test)
    val_start = min(max(bisect_left(numbers, train), 1), len(numbers) - min_test - min_val)
    test_start = min(max(bisect_left(numbers, train + val), val_start + min_val), len(numbers) - min_test)
    return val_start, test_start


def read_names_file(path: Path) -> list[str]:
    """Return the class names of a text file, one per line; empty lines and lines that start with `#` are ignored.

    Raises:
        InputError: The file does not exist or is not UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read: {error}; use a UTF-8 text file with one class name per line"
        ) from error
    return [nfc(line.strip()) for line in lines if line.strip() and line.lstrip()[0] != "#"]


def nfc(name: str) -> str:
    """Return a name in the Unicode form in which names are compared, without unseen marks and spaces around it."""
    return unicodedata.normalize("NFC", MARKS.sub("", name)).strip()
