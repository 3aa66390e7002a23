"""ImageNet's 1,000 classes: their WordNet ids, which of them ImageNet-A and -R have, and their names in CLIP.

A class's position in ImageNet is the rank of its id. The names are those that CLIP's authors gave the classes, which
CoOp's `classnames.txt` holds too; without that file beside the data they come from open_clip.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar

from features.datasets.base import Image, Listing, Published
from features.errors import InputError, Problems, raise_all
from features.splits.listed import EXTENSIONS, MEND

TABLE = Path(__file__).with_suffix(".json")
REPEATED = frozenset({"missile", "sunglasses"})  # CLIP's list has each of these for two classes
CLASSNAMES = "classnames.txt"


def wordnet_ids(subset: str) -> list[str]:
    """The WordNet ids of `imagenet` (1,000), `imagenet_a` or `imagenet_r` (200 of them), ascending."""
    return str(json.loads(TABLE.read_text(encoding="utf-8"))[subset]).split()


def class_names(beside: Path) -> dict[str, str]:
    """The class name of each of the 1,000 WordNet ids, from CoOp's `classnames.txt` where it is there.

    Raises:
        InputError: the file lacks some of them, or cannot be read.
    """
    ids = wordnet_ids("imagenet")
    if not beside.is_file():
        from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

        return dict(zip(ids, IMAGENET_CLASSNAMES, strict=True))
    try:
        lines = beside.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{beside} cannot be read: {error}; remove it to use the names in the package") from error
    found = {wnid: name.strip() for wnid, _, name in (line.strip().partition(" ") for line in lines)}
    problems = [f"no name for {wnid}" for wnid in ids if not found.get(wnid)]
    raise_all(problems, f"{beside} is not CoOp's classnames.txt; remove it to use the names in the package")
    return {wnid: found[wnid] for wnid in ids}


def class_files(
    place: Path, folders: Sequence[str], *, allow_partial: bool, problems: Problems
) -> dict[str, list[str]]:
    """The names of the images in each class folder of `place`, sorted; no file is opened.

    Folders that are no class are a problem, and class folders that are missing are one without `allow_partial`.
    """
    there = {entry.name for entry in os.scandir(place) if entry.is_dir() and not entry.name.startswith(".")}
    wrong = [f"{name}: no class of this data set; move it elsewhere" for name in sorted(there - {*folders})]
    if not allow_partial:
        wrong += [f"{name}: missing" for name in folders if name not in there]
    problems.attempt(lambda: raise_all(wrong, f"{place} does not hold the class folders that it should; {MEND}"))
    return {name: _images(place / name) if name in there else [] for name in folders}


def _images(folder: Path) -> list[str]:
    names = (entry.name for entry in os.scandir(folder) if not entry.name.startswith("."))
    return sorted(name for name in names if PurePosixPath(name).suffix.lower() in EXTENSIONS)


def lacking(published: int, found: Mapping[str, Iterable[str]]) -> int:
    """How many images a partial copy lacks, by the published number; never less than 0."""
    return max(0, published - sum(len(list(files)) for files in found.values()))


class ImageNetTestSet(Published):
    """Base of the readers of other test images of ImageNet's classes: a class folder each, all of them test.

    Their classes have ImageNet's names, so that what was learned on ImageNet can be judged on them.
    """

    subset: ClassVar[str] = "imagenet"  # which classes; see `wordnet_ids`
    numbered: ClassVar[bool] = False  # folders are called by the class's position, not by its WordNet id

    def read(self, root: Path) -> Listing:
        """List all images; see `Reader.read`."""
        problems = Problems()
        folder = problems.attempt(lambda: self.folder(root))
        ids = wordnet_ids(self.subset)
        names = problems.attempt(lambda: class_names(root / self.path / CLASSNAMES)) or dict(zip(ids, ids, strict=True))
        if folder is None:
            raise self.unreadable(problems)
        folders = [str(position) for position in range(len(ids))] if self.numbered else ids
        found = class_files(folder, folders, allow_partial=self.allow_partial, problems=problems)
        images = tuple(
            Image(f"{name}/{file}", class_id, "test") for class_id, name in enumerate(folders) for file in found[name]
        )
        missing = lacking(self.origin.counts.test, found) if self.allow_partial and self.origin.counts else 0
        return Listing(
            images,
            tuple(names[wnid] for wnid in ids),
            self.templates,
            self.origin,
            missing=missing,
            repeated_names=REPEATED,
            faults=tuple(problems.messages),
        )
