"""Own images in one folder per class: `<path>/<class>/<any name>.jpg`, or the same below train/, val/ and test/."""

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
    """Options of `reader: image_folder`, in addition to those of `OwnImages`.

    Attributes:
        splits: `hash` draws each image's split; `folders` uses the sub-folders train, test and, if it exists, val.
    """

    splits: Literal["hash", "folders"] = "hash"

    layout: ClassVar[str] = "one folder per class that holds its images"
    source: ClassVar[str] = "the images are your own"

    def read(self, root: Path) -> Listing:
        """List the images of every class folder; see `Reader.read`."""
        folder = self.folder(root)
        parts = self._parts(folder)
        names = sorted({name for _, prefix in parts for name in _folders(folder / prefix)})
        if not names:
            loose = sum(1 for _ in _images(folder, ""))
            detail = f", only {loose} images without a class" if loose else ""
            raise InputError(f"there is no folder in {folder}{detail}; make {self.layout}")

        rows = [
            Row(path, name, split)
            for split, prefix in parts
            for name in names
            for path in _images(folder, f"{prefix}{name}")
        ]
        return self.listing(rows, _empty_folders(names, rows))

    def _parts(self, folder: Path) -> list[tuple[Split | None, str]]:
        """Return the split and the path prefix of each folder that holds class folders."""
        if self.splits == "hash":
            return [(None, "")]
        existing = [split for split in SPLITS if (folder / split).is_dir()]
        absent = [f"no folder {split!r}" for split in ("train", "test") if split not in existing]
        raise_all(absent, f"{folder} cannot be split by folders; make train/, val/ and test/, or set `splits: hash`")
        return [(split, f"{split}/") for split in existing]


def _folders(folder: Path) -> Iterator[str]:
    return (entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _images(folder: Path, name: str) -> Iterator[str]:
    """Yield the paths, relative to `folder`, of the images in its sub-folder `name` and below, without hidden files."""
    for current, subfolders, files in os.walk(folder / name):
        # Changed in place, which stops os.walk from entering hidden folders.
        subfolders[:] = [subfolder for subfolder in subfolders if not subfolder.startswith(".")]
        parent = Path(current).relative_to(folder).as_posix()
        for file in files:
            if not file.startswith(".") and PurePosixPath(file).suffix.lower() in EXTENSIONS:
                yield f"{parent}/{file}"


def _empty_folders(names: Iterable[str], rows: Iterable[Row]) -> Iterator[str]:
    """Yield class folders without an image.

    This is an error, because a forgotten download or an unknown format is more likely than an unseen class.
    """
    with_images = {row.label for row in rows}
    for name in names:
        if name not in with_images:
            yield (
                f"{name}: the folder has no image ({', '.join(sorted(EXTENSIONS))}); add some, or delete the folder "
                "and add the name to `unseen`"
            )
