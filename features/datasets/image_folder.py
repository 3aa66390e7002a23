"""One's own images: a folder per class, `<path>/<class>/<any name>.jpg`, or the same below train/, val/ and test/."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from features.datasets.base import SPLITS, Listing, Split
from features.errors import InputError, raise_all
from features.splits.listed import EXTENSIONS
from features.splits.own_images import OwnImages, Row


class ImageFolder(OwnImages):
    """Options of `reader: image_folder`, beside those of all of one's own images.

    Attributes:
        splits: `hash` draws each image's split; `folders` takes the sub-folders train, test and, if there is one, val.
    """

    splits: Literal["hash", "folders"] = "hash"

    layout: ClassVar[str] = "a folder per class with its images in it"
    source: ClassVar[str] = "the images are your own"

    def read(self, root: Path) -> Listing:
        """List the images of every class folder; see `Reader.read`."""
        folder = self.folder(root)
        parts = self._parts(folder)
        names = sorted({name for _, place in parts for name in _folders(folder / place)})
        if not names:
            loose = sum(1 for _ in _images(folder, ""))
            lie = f"; {loose} images lie in it, of which nothing says their class" if loose else ""
            raise InputError(f"there is no folder in {folder}{lie}: make {self.layout}")
        rows = [
            Row(path, name, split)
            for split, place in parts
            for name in names
            for path in _images(folder, f"{place}{name}")
        ]
        return self.listing(rows, _empty(names, rows))

    def _parts(self, folder: Path) -> list[tuple[Split | None, str]]:
        """Each folder of class folders, as a prefix of paths, and the split that it decides."""
        if self.splits == "hash":
            return [(None, "")]
        there = [split for split in SPLITS if (folder / split).is_dir()]
        absent = [f"no folder {split!r}" for split in ("train", "test") if split not in there]
        raise_all(absent, f"{folder} cannot be split by folders; make train/, val/ and test/, or take `splits: hash`")
        return [(split, f"{split}/") for split in there]


def _folders(folder: Path) -> Iterator[str]:
    return (entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _images(folder: Path, name: str) -> Iterator[str]:
    """Paths, relative to `folder`, of the images in its sub-folder `name` and below; hidden files are passed over."""
    for place, inner, files in os.walk(folder / name):
        inner[:] = [one for one in inner if not one.startswith(".")]
        parent = Path(place).relative_to(folder).as_posix()
        for file in files:
            if not file.startswith(".") and PurePosixPath(file).suffix.lower() in EXTENSIONS:
                yield f"{parent}/{file}"


def _empty(names: Iterable[str], rows: Iterable[Row]) -> Iterator[str]:
    """Class folders without an image: a forgotten download or an unknown format, more often than an unseen class."""
    filled = {row.label for row in rows}
    for name in names:
        if name not in filled:
            yield (
                f"{name}: no image in it ({', '.join(sorted(EXTENSIONS))}); add some, or remove the folder and put "
                "the name into `unseen`"
            )
