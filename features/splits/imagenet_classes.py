"""ImageNet's 1,000 classes: their WordNet ids, the subsets of ImageNet-A and -R, and their names in CLIP.

A class's position in ImageNet is the rank of its id. The names are those that CLIP's authors gave the classes; CoOp's
`classnames.txt` has the same. Without that file beside the data they come from open_clip.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar

from features.datasets.base import Image, Listing, Published
from features.errors import InputError, Problems, raise_all
from features.splits.listed import EXTENSIONS, FIX_HINT

TABLE = Path(__file__).with_suffix(".json")
REPEATED = frozenset({"missile", "sunglasses"})  # CLIP's list has each of these for two classes
CLASSNAMES = "classnames.txt"


def wordnet_ids(subset: str) -> list[str]:
    """Return the WordNet ids of `imagenet` (1,000), `imagenet_a` or `imagenet_r` (200 of them each), ascending."""
    return str(json.loads(TABLE.read_text(encoding="utf-8"))[subset]).split()


def class_names(file: Path) -> dict[str, str]:
    """Return the class name of each of the 1,000 WordNet ids, from CoOp's `classnames.txt` if `file` exists.

    Raises:
        InputError: The file lacks some of the ids, or cannot be read.
    """
    ids = wordnet_ids("imagenet")
    if not file.is_file():
        from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

        return dict(zip(ids, IMAGENET_CLASSNAMES, strict=True))

    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read: {error}; delete it to use the names in the package") from error

    by_id = {}
    for line in lines:
        wnid, _, name = line.strip().partition(" ")
        by_id[wnid] = name.strip()
    problems = [f"no name for {wnid}" for wnid in ids if not by_id.get(wnid)]
    raise_all(problems, f"{file} is not CoOp's classnames.txt; delete it to use the names in the package")
    return {wnid: by_id[wnid] for wnid in ids}


def class_files(
    folder: Path, class_folders: Sequence[str], *, allow_partial: bool, problems: Problems
) -> dict[str, list[str]]:
    """Return the sorted names of the images in each class folder; no file is opened.

    Folders that are not a class are added to `problems`; so are missing ones without `allow_partial`.
    """
    existing = {entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    wrong = [f"{name}: not a class of this data set; move it elsewhere" for name in sorted(existing - {*class_folders})]
    if not allow_partial:
        wrong += [f"{name}: missing" for name in class_folders if name not in existing]
    problems.attempt(lambda: raise_all(wrong, f"{folder} does not hold the expected class folders; {FIX_HINT}"))
    return {name: _images(folder / name) if name in existing else [] for name in class_folders}


def _images(folder: Path) -> list[str]:
    names = (entry.name for entry in os.scandir(folder) if not entry.name.startswith("."))
    return sorted(name for name in names if PurePosixPath(name).suffix.lower() in EXTENSIONS)


def missing_count(published: int, files: Mapping[str, Iterable[str]]) -> int:
    """Return the number of images that a partial copy lacks, at least 0."""
    return max(0, published - sum(len(list(names)) for names in files.values()))


class ImageNetTestSet(Published):
    """Base of the readers of other test sets of ImageNet's classes, with one folder per class.

    Their classes have ImageNet's names, so that a model trained on ImageNet can be evaluated on them.
    """

    subset: ClassVar[str] = "imagenet"  # the classes; see `wordnet_ids`
    numbered: ClassVar[bool] = False  # folders are named by the class's position, not by its WordNet id

    def read(self, root: Path) -> Listing:
        """List all images; see `Reader.read`."""
        problems = Problems()
        folder = problems.attempt(lambda: self.folder(root))
        ids = wordnet_ids(self.subset)
        # If the names cannot be read, the ids take their place, so that faults of the images are reported too.
        names = problems.attempt(lambda: class_names(root / self.path / CLASSNAMES)) or dict(zip(ids, ids, strict=True))
        if folder is None:
            raise self.unreadable(problems)

        class_folders = [str(position) for position in range(len(ids))] if self.numbered else ids
        files = class_files(folder, class_folders, allow_partial=self.allow_partial, problems=problems)
        images = tuple(
            Image(f"{name}/{file}", class_id, "test")
            for class_id, name in enumerate(class_folders)
            for file in files[name]
        )
        missing = missing_count(self.origin.counts.test, files) if self.allow_partial and self.origin.counts else 0
        return Listing(
            images,
            tuple(names[wnid] for wnid in ids),
            self.templates,
            self.origin,
            missing=missing,
            repeated_names=REPEATED,
            faults=tuple(problems.messages),
        )
