"""Own images in one folder per class: `<path>/<class>/<any name>.jpg`, or the same below train/, val/ and test/."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from features.datasets.base import Listing, PassedOver, Split
from features.errors import InputError, Problems
from features.splits.folder_layout import split_folders
from features.splits.image_files import Found, find_images
from features.splits.own_images import OwnImages, Row

LOOSE = "images in no class folder"
OUTSIDE_SPLITS = "images outside the folders of the splits"


class ImageFolder(OwnImages):
    """Options of `reader: image_folder`, in addition to those of `OwnImages`.

    Attributes:
        splits: `hash` draws each image's split; `folders` uses the sub-folders train, test and, if it exists, val, or
            their other usual names (`features.splits.folder_layout.SPLIT_NAMES`).
        class_from: The folder that names an image's class: the `first` below `path` (or below the split), or the
            `last`, which holds the image.
    """

    splits: Literal["hash", "folders"] = "hash"
    class_from: Literal["first", "last"] = "first"

    layout: ClassVar[str] = "one folder per class that holds its images"
    source: ClassVar[str] = "the images are your own"

    def read(self, root: Path) -> Listing:
        """List the images of every class folder; see `Reader.read`."""
        folder = self.folder(root)
        found = find_images(folder)
        if not found.folders:
            detail = f", only {len(found.images)} images without a class" if found.images else ""
            raise InputError(f"there is no folder in {folder}{detail}; make {self.layout}")

        # The split of each top-level folder; below "" if there are none.
        splits: dict[str, Split | None] = {"": None}
        notes: tuple[str, ...] = ()
        if self.splits == "folders":
            splits, notes = split_folders(folder, found)

        rows: list[Row] = []
        passed_over = list(found.passed_over)
        for path in found.images:
            top, inside = _below_split(path, splits)
            parents = inside.split("/")[:-1]
            if not parents:
                passed_over.append(PassedOver(path, LOOSE))
            elif top not in splits:
                passed_over.append(PassedOver(path, OUTSIDE_SPLITS))
            else:
                rows.append(Row(path, parents[0 if self.class_from == "first" else -1], splits[top]))

        mistakes = self._empty_folders(found, splits, rows)
        return self.listing(rows, mistakes, passed_over=passed_over, notes=notes)

    def _empty_folders(self, found: Found, splits: dict[str, Split | None], rows: Sequence[Row]) -> Iterator[str]:
        """Yield class folders without an image, except those that are named in `unseen`.

        This is an error, because a forgotten download or an unknown format is more likely than an unseen class.
        """
        labels = {row.label for row in rows}
        unseen = {*(Problems().attempt(self.unseen_names) or ())}  # `listing` reports a file that cannot be read
        others: dict[str, int] = defaultdict(int)
        for path, _ in found.passed_over:
            others[path.rpartition("/")[0]] += 1

        parents = {folder.rpartition("/")[0] for folder in found.folders}
        for folder in found.folders:
            top, inside = _below_split(folder, splits)
            name = inside.rpartition("/")[2]
            # A class folder: with `first` the outermost, with `last` each that has no folder in it.
            is_class = "/" not in inside if self.class_from == "first" else folder not in parents
            if folder == top or top not in splits or not is_class or name in labels or self.class_name(name) in unseen:
                continue
            labels.add(name)  # named once, also if two splits have it
            passed = f" that can be read, and {others[folder]} other files" if others[folder] else ""
            yield f"{name}: the folder has no image{passed}; add some, or add the name to `unseen`"


def _below_split(path: str, splits: dict[str, Split | None]) -> tuple[str, str]:
    """Return the folder of the split, "" if there are none, and the path below it."""
    top, _, inside = path.partition("/")
    return ("", path) if "" in splits else (top, inside)
