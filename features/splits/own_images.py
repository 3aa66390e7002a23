"""What the readers of one's own images share: which image is in which split, and which classes are only named."""

from __future__ import annotations

import hashlib
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Annotated, NamedTuple

from pydantic import Field

from features.datasets.base import Image, Listing, Origin, Reader, Split
from features.errors import InputError, Problems, nearest

NAMES = Path("classes")  # of the project: the files of names, a dep of stage `index`, so that DVC sees a new one

Share = Annotated[float, Field(ge=0, le=1)]
Shares = Annotated[list[Share], Field(min_length=3, max_length=3)]


class Row(NamedTuple):
    """One image: its POSIX path relative to the reader's folder, its label, and its split where that is decided."""

    path: str
    label: str
    split: Split | None


class OwnImages(Reader):
    """Options that every reader of one's own images has.

    Attributes:
        templates: hand-crafted prompts, each with one `{}` for the class name.
        fractions: about which share of each class is train, val and test (CoOp's for data sets without a split). An
            image's split is drawn from its path and `split_seed` alone, so adding or removing one moves no other one;
            but where a class would have none in a split that has a share, the next in the draw is moved there. Of two
            images one is for training, the other for the test; one alone is for training. Where train and test are
            given and val is not, it is drawn from train.
        split_seed: another number draws other splits.
        unseen: classes to learn from their names alone, as a list or as a text file in `classes/` with a name a line.
            Those without images come last; all images of the others are test images.
        rename: label -> class name, for names that a folder cannot have or that CLIP would not know.
        descriptions: class name -> what templates say after it: "a photo of a kestrel, a small falcon that hovers."
    """

    templates: list[str] = Field(default_factory=lambda: ["a photo of a {}."])
    fractions: Shares = Field(default_factory=lambda: [0.5, 0.2, 0.3])
    split_seed: int = 0
    unseen: list[str] | str = Field(default_factory=list)
    rename: dict[str, str] = Field(default_factory=dict)
    descriptions: dict[str, str] = Field(default_factory=dict)

    def listing(self, rows: Sequence[Row], mistakes: Iterable[str]) -> Listing:
        """Decide classes and splits; `mistakes` are the reader's own, and the first of the listing's faults."""
        labels = sorted({row.label for row in rows})
        names = [_nfc(self.rename.get(label, label)) for label in labels]
        problems = Problems()
        unseen = problems.attempt(self._unseen) or []
        classes = (*names, *(name for name in unseen if name not in names))
        ids = {label: i for i, label in enumerate(labels)}
        held = {label for label, name in zip(labels, names, strict=True) if name in unseen}
        images = (
            Image(path, ids[label], "test" if label in held else split) for path, label, split in self._split(rows)
        )
        return Listing(
            images=tuple(images),
            classes=classes,
            templates=tuple(self.templates),
            origin=Origin(title=PurePath(self.path).name, licence="the owner's", home="", citation=""),
            descriptions={_nfc(name): text for name, text in self.descriptions.items()},
            faults=(*mistakes, *problems.messages, *self._misfits(labels, unseen, classes)),
        )

    def _misfits(self, labels: Sequence[str], unseen: Sequence[str], classes: Sequence[str]) -> Iterator[str]:
        if abs(sum(self.fractions) - 1) > 1e-6:
            yield f"fractions: {self.fractions} sum to {sum(self.fractions):g}; train, val and test make 1"
        yield from (f"rename: no label {x!r}; {nearest(x, labels)}" for x in self.rename if x not in labels)
        for name in self.descriptions:
            if _nfc(name) not in classes:
                yield f"descriptions: no class {name!r}; {nearest(name, classes)}"
        yield from (
            f"unseen: {x!r} stands twice; remove one" for x in sorted({x for x in unseen if unseen.count(x) > 1})
        )

    def _split(self, rows: Sequence[Row]) -> Iterator[tuple[str, str, Split]]:
        """Every row with its split: the given one, or one that is drawn."""
        train, val, _ = self.fractions
        shares: dict[Split | None, Sequence[float]] = {None: self.fractions}
        if not any(row.split in (None, "val") for row in rows):  # as CoOp does where authors have train and test alone
            shares["train"] = [train / (train + val), val / (train + val), 0.0] if train + val else [1.0, 0.0, 0.0]
        drawn: dict[tuple[Split | None, str], list[tuple[float, str]]] = {}
        for row in rows:
            if row.split in shares:
                drawn.setdefault((row.split, row.label), []).append((self._number(row.path), row.path))
            elif row.split is not None:
                yield row.path, row.label, row.split
        for (split, label), numbered in drawn.items():
            numbered.sort()
            first, second = cuts([number for number, _ in numbered], shares[split])
            for place, (_, path) in enumerate(numbered):
                yield path, label, "train" if place < first else "val" if place < second else "test"

    def _number(self, path: str) -> float:
        """Uniform in [0, 1)."""
        digest = hashlib.sha256(f"{self.split_seed}/{path}".encode(errors="surrogateescape")).digest()
        return int.from_bytes(digest[:8]) / 2**64

    def _unseen(self) -> list[str]:
        if not isinstance(self.unseen, str):
            return [_nfc(name) for name in self.unseen]
        if Path(self.unseen).parent != NAMES:
            raise InputError(
                f"unseen: {self.unseen!r} is not in {NAMES}/, the folder of names that DVC watches: move it"
            )
        return read_names_file(Path(self.unseen))


def cuts(numbers: Sequence[float], shares: Sequence[float]) -> tuple[int, int]:
    """Where, among numbers in [0, 1) that ascend, validation and test images begin, given the shares of the splits.

    Each split with a share gets an image while there are enough: training first, then the test, then validation.
    """
    train, val, test = shares
    judged = int(test > 0 and len(numbers) > 1)
    chosen = int(val > 0 and len(numbers) > 1 + judged)
    first = min(max(bisect_left(numbers, train), 1), len(numbers) - judged - chosen)
    second = min(max(bisect_left(numbers, train + val), first + chosen), len(numbers) - judged)
    return first, second


def read_names_file(path: Path) -> list[str]:
    """Class names of a text file, a name a line; empty lines and those that begin with `#` are passed over.

    Raises:
        InputError: it is not there, or not UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}; give a UTF-8 text file with a class name a line") from error
    return [_nfc(line.strip()) for line in lines if line.strip() and not line.startswith("#")]


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)
